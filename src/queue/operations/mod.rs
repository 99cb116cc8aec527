//! Acting on many jobs, in bounded steps.

mod orphans;
mod plan;
mod run;

use std::ops::ControlFlow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobState, QueueName};
use crate::queue::{Queue, RetryOptions};
use crate::store::Store;

use plan::Plan;
use run::Run;

/// Which jobs [`Queue::drain`] deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DrainScope {
    /// Those that are ready to run, with and without a priority.
    #[default]
    Ready,
    /// Those and the delayed ones.
    ReadyAndDelayed,
}

/// What [`Queue::obliterate`] does about jobs that workers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ActiveJobs {
    /// Refuses, as long as there are any.
    #[default]
    Refuse,
    /// Deletes them and their locks: their handlers are cancelled, and their results have no effect.
    Delete,
}

/// An operation on many jobs that has not begun: cleaning, draining, obliterating, running again,
/// promoting, removing orphans.
///
/// Jobs are handled in steps of up to 60. A step is one script of one to two milliseconds, however
/// many jobs there are, so that other clients are not held up. One thing takes longer: jobs that stand
/// deep within a list, between others that stay, cost a search of that list from its nearer end: 2 to 6 ms for each 100,000 entries.
///
/// An operation that was stopped, has failed or was dropped leaves the jobs that it has not come to as they were.
/// Ask for it again to go on. What its steps did stays done, and is never done twice to a job.
///
/// # Lost answers
///
/// A step whose answer is lost is asked for again for up to 30 s. The jobs it may have handled are in no
/// count: the report then says [`at_least`](OperationReport::at_least). A [`limit`](Self::limit) takes
/// them as used up, so that it is never exceeded.
///
/// # Cancel safety
///
/// Dropping the future ends the operation with the step that is on its way, which may be executed.
///
/// # Examples
///
/// ```no_run
/// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
/// use oxbull::JobState;
/// use std::ops::ControlFlow;
/// use std::time::{Duration, Instant};
///
/// let week = Duration::from_secs(7 * 24 * 3600);
/// let old = || queue.clean(JobState::Completed, week);
/// println!("{} jobs would go", old().dry_run().run().await?.jobs);
///
/// let begin = Instant::now();
/// let report = old()
///     .limit(100_000)
///     .run_with(|step| {
///         println!("{} so far", step.report.jobs);
///         match begin.elapsed() < Duration::from_secs(10) {
///             true => ControlFlow::Continue(()),
///             false => ControlFlow::Break(()),
///         }
///     })
///     .await?;
/// if !report.complete {
///     println!("{} are gone; run it again for the rest", report.jobs);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "an operation does nothing until it is run"]
pub struct Operation {
    store: Store,
    queue: QueueName,
    plan: Plan,
    limit: Option<u64>,
    dry: bool,
}

/// What an operation has done so far. In JSON the names are camel case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct OperationReport {
    /// How many jobs were deleted, queued again or promoted; of a dry run, how many would be. Parents that
    /// go or are released with their last child are not counted, ids without a job that are deleted are.
    pub jobs: u64,
    /// How many ids it has looked at.
    pub looked_at: u64,
    /// Whether an answer was lost, so that `jobs` may be too few.
    pub at_least: bool,
    /// Whether it has come to its end. If not, there may be more to do: it was stopped, or has reached its
    /// limit.
    pub complete: bool,
}

/// A step that an operation has taken.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OperationStep {
    /// The jobs that it deleted, queued again or promoted; of a dry run those that it would have.
    pub jobs: Vec<JobId>,
    /// What the operation has done up to this step.
    pub report: OperationReport,
}

impl Operation {
    fn new<D>(queue: &Queue<D>, plan: Plan) -> Self {
        Self {
            store: queue.store().clone(),
            queue: queue.name().clone(),
            plan,
            limit: None,
            dry: false,
        }
    }

    /// Changes nothing: the operation then reports what it would do. Default: it acts.
    pub fn dry_run(mut self) -> Self {
        self.dry = true;
        self
    }

    /// Handles at most this many jobs, at least 1. Default: all of them.
    pub fn limit(mut self, jobs: u64) -> Self {
        self.limit = Some(jobs);
        self
    }

    /// Runs the operation to its end.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a limit of 0; what the operation refuses; connection errors, in an
    /// [`Error::Incomplete`] when some jobs were handled, and [`Error::Indeterminate`] when some may have been.
    pub async fn run(self) -> Result<OperationReport> {
        self.run_with(|_| ControlFlow::Continue(())).await
    }

    /// Runs the operation and tells `watch` after each step what it has done. It stops when `watch`
    /// breaks.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_with<F>(self, watch: F) -> Result<OperationReport>
    where
        F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
    {
        if self.limit == Some(0) {
            return Err(Error::invalid_value("limit", 0, "must be at least 1"));
        }
        let run = Run::new(&self.store, self.dry, self.limit, watch);
        if self.dry {
            return self.plan.run(run).await;
        }
        let counts = matches!(self.plan, Plan::Clean { .. });
        let span = self.plan.span(self.queue.as_str(), self.limit);
        let report = span.around(self.plan.run(run)).await?;
        if counts {
            span.note("bullmq.queue.clean.count", report.jobs);
        }
        Ok(report)
    }
}

impl<D> Queue<D> {
    /// Deletes the jobs of a state that are older than `grace`, the oldest first. Event `cleaned`, for
    /// every 10,000 jobs and at the end; none when the future is dropped before.
    ///
    /// | state | age |
    /// |---|---|
    /// | completed, failed | time since the end |
    /// | waiting-children | time since the job began to wait for them |
    /// | waiting, active, delayed | time since the last start, else since the add |
    /// | prioritized | time since the add |
    ///
    /// Jobs that a worker holds stay, and pending iterations of job schedulers. Active jobs whose lock is
    /// gone are deleted, though another worker would run them again. A parent in the same queue that
    /// waited only for jobs that go is deleted with them, one in another queue is released. Children of
    /// deleted parents stay.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobState;
    /// use std::time::Duration;
    ///
    /// let hour = Duration::from_secs(3600);
    /// let report = queue.clean(JobState::Failed, hour).limit(1000).run().await?;
    /// println!("{} failed jobs are gone", report.jobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn clean(&self, state: JobState, grace: Duration) -> Operation {
        let now = self.store().clock().now().as_millis();
        let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let newest = Timestamp::from_millis(now.saturating_sub(grace));
        let plan = Plan::Clean {
            state,
            grace,
            newest,
        };
        Operation::new(self, plan)
    }

    /// Deletes the jobs that are ready to run, and with [`DrainScope::ReadyAndDelayed`] the delayed
    /// ones. Pending iterations of job schedulers stay. No events.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::DrainScope;
    ///
    /// let report = queue.drain(DrainScope::ReadyAndDelayed).run().await?;
    /// println!("{} jobs will not run", report.jobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn drain(&self, scope: DrainScope) -> Operation {
        Operation::new(self, Plan::Drain(scope))
    }

    /// Deletes the queue: all of its jobs, schedulers, events, metrics and settings.
    ///
    /// The queue is paused by the first step, in which nothing else changes, and stays paused until the
    /// last one deletes its settings; an operation that was stopped leaves it paused. Jobs that are added
    /// meanwhile may stay. Parents in other queues that waited only for jobs of this one are released. Of
    /// a dry run, schedulers and keys that are no jobs are in no count.
    ///
    /// To find the keys of deduplication that outlive their jobs, all keys of the server are gone
    /// through, page by page.
    ///
    /// # Errors
    ///
    /// Running it returns [`Error::QueueRefused`] with
    /// [`ActiveJobs`](crate::Refusal::ActiveJobs) when workers hold jobs that are not to be deleted: the
    /// queue was not changed, nor paused. With [`NotPaused`](crate::Refusal::NotPaused), in an
    /// [`Error::Incomplete`], when somebody has resumed the queue meanwhile.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::ActiveJobs;
    ///
    /// queue.obliterate(ActiveJobs::Refuse).run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn obliterate(&self, active: ActiveJobs) -> Operation {
        Operation::new(self, Plan::Obliterate(active))
    }

    /// Runs the failed jobs again that ended up to `until`, at most up to now (`None`: up to now), those
    /// that failed first before the others; each as [`retry`](Self::retry) does. A job that fails again
    /// meanwhile is not taken twice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::RetryOptions;
    ///
    /// let options = RetryOptions::new().reset_attempts_made();
    /// let report = queue.retry_jobs(None, options).limit(500).run().await?;
    /// println!("{} jobs run again", report.jobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_jobs(&self, until: Option<Timestamp>, options: RetryOptions) -> Operation {
        self.run_again(false, until, options)
    }

    /// Runs the completed jobs again that ended up to `until` (`None`: up to now), as
    /// [`retry_jobs`](Self::retry_jobs) does the failed ones.
    pub fn rerun_jobs(&self, until: Option<Timestamp>, options: RetryOptions) -> Operation {
        self.run_again(true, until, options)
    }

    fn run_again(
        &self,
        completed: bool,
        until: Option<Timestamp>,
        options: RetryOptions,
    ) -> Operation {
        let now = self.store().clock().now();
        // Beyond now, the end of a job that fails again would be taken too, and that of the next.
        let until = until.map_or(now, |until| until.min(now));
        let plan = Plan::Retry {
            completed,
            until,
            options,
        };
        Operation::new(self, plan)
    }

    /// Lets the delayed jobs run now, in the order in which they are due; each as
    /// [`promote`](Self::promote) does. Pending iterations of job schedulers run now too. A job that runs
    /// and is delayed again meanwhile, such as for another attempt, is not taken twice.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let report = queue.promote_jobs().run().await?;
    /// println!("{} jobs are ready", report.jobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn promote_jobs(&self) -> Operation {
        Operation::new(self, Plan::Promote)
    }

    /// Deletes what is left of jobs that no state has: hashes, logs, locks, keys of children. They never
    /// run; BullMQ leaves some when a job is deleted while it runs. A parent that waited for such a
    /// job stops doing so. Ids with colons are left, such as those of iterations: their keys may be of
    /// another queue.
    ///
    /// All keys of the server are gone through, page by page, and the ids of the queue's lists are kept in
    /// memory meanwhile, about 20 bytes each.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let would = queue.remove_orphaned_jobs().dry_run().run().await?;
    /// println!("{} jobs are in no state", would.jobs);
    /// # Ok(())
    /// # }
    /// ```
    pub fn remove_orphaned_jobs(&self) -> Operation {
        Operation::new(self, Plan::RemoveOrphans)
    }
}
