//! A queue from its producers' side: adding jobs and acting on those that are there.

mod add;
mod backlog;
mod builder;
mod deduplication;
mod events;
mod feed;
mod limits;
mod waiting;

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::client::Client;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions, JobRecord, JobState, PRIORITY_MAX, Prefix, QueueName};
use crate::store::{
    AddLog, ChangeDelay, ChangePriority, Counts, Drain, Drainable, Pause, PromoteJob, Resume,
    RetryJob, Store, UpdateData, UpdateProgress,
};

pub use add::{AddOutcome, Added, NewJob};
pub use backlog::Backlog;
pub use builder::QueueBuilder;
pub use deduplication::DeduplicationOwner;
pub use events::JobEnd;
pub(crate) use feed::CLOCK_ERROR;
use feed::Feed;
pub use limits::{GlobalRateLimit, RateLimitState};
use waiting::Hub;

/// A queue whose jobs carry data of type `D`.
///
/// Handles are cheap to clone. Adds that are made at the same time through clones of one handle
/// travel together, so many concurrent adds cost little more than one.
///
/// # Examples
///
/// ```no_run
/// # async fn run() -> oxbull::Result<()> {
/// use oxbull::{Client, JobOptions, Queue};
/// use std::time::Duration;
///
/// #[derive(serde::Serialize)]
/// struct Welcome {
///     to: String,
/// }
///
/// let client = Client::from_env().await?;
/// let queue: Queue<Welcome> = Queue::open(&client, "mail").await?;
/// let data = Welcome { to: "ada@example.org".into() };
/// let options = JobOptions::new().attempts(3).delay(Duration::from_secs(60));
/// let added = queue.add_with("welcome", &data, options).await?;
/// println!("added as {}", added.id);
/// # Ok(())
/// # }
/// ```
pub struct Queue<D = serde_json::Value> {
    shared: Arc<Shared>,
    feed: Arc<Feed>,
    data: PhantomData<fn(D)>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    store: Store,
    /// Those who wait for jobs of this queue.
    hub: Arc<Hub>,
    name: QueueName,
    prefix: Prefix,
    defaults: JobOptions,
}

impl<D> Clone for Queue<D> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            feed: Arc::clone(&self.feed),
            data: PhantomData,
        }
    }
}

impl<D> std::fmt::Debug for Queue<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("prefix", &self.shared.prefix)
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// How many jobs are in each state, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobCounts {
    /// Ready to run, those parked by a BullMQ 5 client during a pause included.
    pub waiting: u64,
    /// Ready to run after those, by priority.
    pub prioritized: u64,
    /// Waiting for a time.
    pub delayed: u64,
    /// Being run.
    pub active: u64,
    /// Waiting for children.
    pub waiting_children: u64,
    /// Completed and kept.
    pub completed: u64,
    /// Failed and kept.
    pub failed: u64,
}

impl JobCounts {
    /// Returns the count of one state.
    pub fn of(&self, state: JobState) -> u64 {
        match state {
            JobState::Waiting => self.waiting,
            JobState::Prioritized => self.prioritized,
            JobState::Delayed => self.delayed,
            JobState::Active => self.active,
            JobState::WaitingChildren => self.waiting_children,
            JobState::Completed => self.completed,
            JobState::Failed => self.failed,
        }
    }
}

impl From<Counts> for JobCounts {
    fn from(counts: Counts) -> Self {
        Self {
            waiting: counts.waiting + counts.parked,
            prioritized: counts.prioritized,
            delayed: counts.delayed,
            active: counts.active,
            waiting_children: counts.waiting_children,
            completed: counts.completed,
            failed: counts.failed,
        }
    }
}

/// Rows of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logs {
    /// The rows asked for, oldest first.
    pub rows: Vec<String>,
    /// How many rows there are in all.
    pub total: u64,
}

/// What a retried job forgets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOptions {
    reset_made: bool,
    reset_started: bool,
}

impl RetryOptions {
    /// Forgets nothing: attempts made before still count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the job all of its attempts again. Default: false.
    #[must_use]
    pub fn reset_attempts_made(mut self, reset: bool) -> Self {
        self.reset_made = reset;
        self
    }

    /// Starts the count of started attempts anew. Default: false.
    #[must_use]
    pub fn reset_attempts_started(mut self, reset: bool) -> Self {
        self.reset_started = reset;
        self
    }
}

impl<D> Queue<D> {
    /// Starts to describe a queue.
    pub fn builder(client: &Client, name: impl AsRef<str>) -> QueueBuilder<D> {
        QueueBuilder::new(client, name.as_ref())
    }

    /// Opens a queue under the default prefix, without default options.
    ///
    /// # Errors
    ///
    /// As [`QueueBuilder::open`].
    pub async fn open(client: &Client, name: impl AsRef<str>) -> Result<Self> {
        Self::builder(client, name).open().await
    }

    /// Returns the queue's name.
    pub fn name(&self) -> &QueueName {
        &self.shared.name
    }

    /// Returns the prefix of the queue's keys.
    pub fn prefix(&self) -> &Prefix {
        &self.shared.prefix
    }

    /// Returns the name that references to parents use, such as `bull:reports`.
    pub fn qualified_name(&self) -> &str {
        self.store().keys().qualified()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Returns the options of jobs that do not set them.
    pub(crate) fn defaults(&self) -> &JobOptions {
        &self.shared.defaults
    }

    /// Reads a job; `None` when there is no such job.
    ///
    /// # Errors
    ///
    /// Connection errors. A job whose fields do not decode is returned with the fields named in
    /// its [`problems`](JobRecord::problems).
    pub async fn job(&self, id: &JobId) -> Result<Option<JobRecord>> {
        self.store().job(id).await
    }

    /// Finds the state of a job; `None` when no state has it.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn state(&self, id: &JobId) -> Result<Option<JobState>> {
        self.store().state(id).await
    }

    /// Counts the jobs of each state at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn counts(&self) -> Result<JobCounts> {
        self.store().counts().await.map(JobCounts::from)
    }

    /// Stops all workers of the queue, of whatever kind, from starting jobs. Jobs that run go on;
    /// adding goes on too.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn pause(&self) -> Result<()> {
        self.store().run(&Pause).await
    }

    /// Lets workers start jobs again.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`] when jobs that old versions have parked did
    /// not all move. Safe to repeat.
    pub async fn resume(&self) -> Result<()> {
        let mut continued = false;
        loop {
            match self.store().run(&Resume { continued }).await {
                Ok(true) => continued = true,
                Ok(false) => return Ok(()),
                Err(error) if continued => {
                    return Err(error.after(|| "the queue was resumed".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says whether the queue is paused.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn is_paused(&self) -> Result<bool> {
        self.store().is_paused().await
    }

    /// Deletes the jobs that wait, and with `delayed` those that wait for a time; in bounded
    /// steps, so that the server stays responsive. Pending iterations of job schedulers stay.
    /// Returns how many jobs were deleted.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`] when some jobs are deleted. Safe to repeat.
    pub async fn drain(&self, delayed: bool) -> Result<u64> {
        // In this order parents in other queues are released.
        let mut places = vec![Drainable::Wait, Drainable::Paused];
        if delayed {
            places.push(Drainable::Delayed);
        }
        places.push(Drainable::Prioritized);
        let mut deleted = 0;
        for from in places {
            let mut skip = 0;
            loop {
                let step = self.store().run(&Drain { from, skip }).await;
                let step = step.map_err(|error| match deleted {
                    0 => error,
                    _ => error.after(|| format!("{deleted} jobs were deleted")),
                })?;
                deleted += step.deleted;
                skip = step.skip;
                if !step.more {
                    break;
                }
            }
        }
        Ok(deleted)
    }

    /// Deletes a job and its children. Returns whether there was such a job.
    ///
    /// Up to about a hundred jobs go in one step. A larger flow goes in bounded steps, so that the
    /// server stays responsive: first all locks are looked at, then the job leaves its state, so that
    /// nothing starts it any more, and its children are deleted before it. A child that a worker
    /// starts between two steps is left to that worker; it ends without effect on a parent. If the
    /// caller ends half way, what is left of the flow stays, with the job in no state: remove it
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] when a later step fails. [`Error::Refused`] when a worker holds the job or a child that has not ended
    /// ([`Locked`](crate::Refusal::Locked)), or when a job scheduler needs it
    /// ([`SchedulerOwned`](crate::Refusal::SchedulerOwned)); connection errors.
    pub async fn remove(&self, id: &JobId) -> Result<bool> {
        self.store().remove_job(id, true).await
    }

    /// Deletes a job and leaves its children, which then end without effect on a parent.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    pub async fn remove_only(&self, id: &JobId) -> Result<bool> {
        self.store().remove_job(id, false).await
    }

    /// Replaces a job's data.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job; [`Error::Encode`]; connection errors. Safe
    /// to repeat.
    pub async fn update_data(&self, id: &JobId, data: &D) -> Result<()>
    where
        D: Serialize,
    {
        let data = encode("job data", data)?;
        self.store()
            .run(&UpdateData {
                job: id,
                data: &data,
                token: None,
            })
            .await
    }

    /// Replaces a job's progress, any value that has a JSON form, and tells listeners.
    ///
    /// # Errors
    ///
    /// As [`update_data`](Self::update_data).
    pub async fn update_progress<P: Serialize + ?Sized>(
        &self,
        id: &JobId,
        progress: &P,
    ) -> Result<()> {
        let progress = encode("progress", progress)?;
        self.store()
            .run(&UpdateProgress {
                job: id,
                progress: &progress,
            })
            .await
    }

    /// Appends a row to a job's log and keeps the newest `keep` rows (0: all). Returns how many
    /// rows there are now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job; connection errors. After
    /// [`Error::Indeterminate`] a repetition may write the row twice.
    pub async fn log(&self, id: &JobId, row: impl AsRef<str>, keep: u32) -> Result<u64> {
        self.store()
            .run(&AddLog {
                job: id,
                row: row.as_ref(),
                keep,
            })
            .await
    }

    /// Reads a job's log from row `start` to row `end`, both included; negative numbers count
    /// from the newest row (`0, -1` is all of it).
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn logs(&self, id: &JobId, start: i64, end: i64) -> Result<Logs> {
        let page = self.store().logs(id, start, end).await?;
        Ok(Logs {
            rows: page.rows,
            total: page.total,
        })
    }

    /// Runs a failed job again.
    ///
    /// Its earlier stalls count no more, so that one which failed by stalling may stall as often as
    /// a new one. The attempts that it has made and started count on, unless `options` say otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job or it has not failed; connection errors.
    pub async fn retry(&self, id: &JobId, options: RetryOptions) -> Result<()> {
        self.retry_from(id, false, options).await
    }

    /// Runs a completed job again, as [`retry`](Self::retry) does a failed one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job or it has not completed; connection errors.
    pub async fn rerun(&self, id: &JobId, options: RetryOptions) -> Result<()> {
        self.retry_from(id, true, options).await
    }

    async fn retry_from(&self, id: &JobId, completed: bool, options: RetryOptions) -> Result<()> {
        self.store()
            .run(&RetryJob {
                job: id,
                completed,
                reset_made: options.reset_made,
                reset_started: options.reset_started,
            })
            .await
    }

    /// Lets a delayed job run now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job or it is not delayed; connection errors.
    pub async fn promote(&self, id: &JobId) -> Result<()> {
        self.store().run(&PromoteJob { job: id }).await
    }

    /// Lets a delayed job wait this long from now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job or it is not delayed; [`Error::Invalid`];
    /// connection errors. Safe to repeat.
    pub async fn change_delay(&self, id: &JobId, delay: Duration) -> Result<()> {
        JobOptions::new().delay(delay).check()?;
        self.store()
            .run(&ChangeDelay {
                job: id,
                now: self.now(),
                delay,
            })
            .await
    }

    /// Gives a job another priority (0: none); with `lifo` it runs before its equals. A job that
    /// does not wait keeps its place, and only the number changes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when there is no such job; [`Error::Invalid`]; connection errors. Safe
    /// to repeat.
    pub async fn change_priority(&self, id: &JobId, priority: u32, lifo: bool) -> Result<()> {
        if priority > PRIORITY_MAX {
            return Err(Error::invalid(
                "priority",
                format!("should be between 0 and {PRIORITY_MAX}"),
            ));
        }
        self.store()
            .run(&ChangePriority {
                job: id,
                priority,
                lifo,
            })
            .await
    }

    fn now(&self) -> Timestamp {
        self.store().clock().now()
    }
}

fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what, source })
}
