//! Bounds that hold for all workers of a queue together (`docs/protocol.md#rate-limits`).

use std::time::Duration;

use crate::error::{Error, Result};
use crate::job::{JobRateLimit, RateLimitState};
use crate::queue::Queue;
use crate::store::{ChangeSettings, LiftLimit, LimitRate};
use crate::telemetry::Operation;

/// Limits of all workers together.
///
/// What opens a queue, such as a raised or removed bound, wakes workers at once where jobs are
/// ready, except those that wait for a rate limit to end: they look again within their
/// [`max_rate_limit_wait`](crate::WorkerBuilder::max_rate_limit_wait), 1 s unless set otherwise
/// (BullMQ workers: up to 30 s).
impl<D> Queue<D> {
    /// Lets at most `jobs` jobs of the queue be active at once, over all workers. Jobs that are running
    /// finish, even if there are more of them.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for 0, which would silently stop the queue:
    /// [pause](Self::pause) it instead. Connection errors. Safe to repeat.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// queue.set_global_concurrency(20).await?;
    /// if queue.is_maxed().await? {
    ///     println!("twenty jobs are running");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_global_concurrency(&self, jobs: u32) -> Result<()> {
        if jobs == 0 {
            return Err(Error::invalid(
                "global concurrency",
                "must be at least 1; pause the queue to stop it",
            ));
        }
        let change = ChangeSettings::Concurrency(Some(jobs));
        self.store().run(&change).await.map(drop)
    }

    /// Lets any number of jobs be active at once. Returns whether there was a bound.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn remove_global_concurrency(&self) -> Result<bool> {
        self.store().run(&ChangeSettings::Concurrency(None)).await
    }

    /// Reads how many jobs may be active at once; `None` when any number may. BullMQ clients may
    /// have stored 0: then no job starts.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn global_concurrency(&self) -> Result<Option<u32>> {
        self.store().global_concurrency().await
    }

    /// Returns whether as many jobs are active as the global concurrency allows.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn is_maxed(&self) -> Result<bool> {
        self.store().is_maxed().await
    }

    /// Limits the starts of jobs over all workers, those without a limit of their own included. A
    /// worker with a [limit](crate::WorkerBuilder::rate_limit) of its own keeps its window but uses
    /// the `max` of this one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a `max` of 0, or a window below 1 ms or above 2^52 ms. Connection
    /// errors. Safe to repeat.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use std::time::Duration;
    ///
    /// use oxbull::JobRateLimit;
    ///
    /// queue.set_global_rate_limit(JobRateLimit::new(200, Duration::from_secs(3600))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn set_global_rate_limit(&self, limit: JobRateLimit) -> Result<()> {
        limit.check()?;
        let change = ChangeSettings::RateLimit(Some(limit));
        self.store().run(&change).await.map(drop)
    }

    /// Removes the global limit; workers keep limits of their own. Returns whether there was one.
    /// What has been counted in the present window [stays](Self::lift_rate_limit).
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn remove_global_rate_limit(&self) -> Result<bool> {
        self.store().run(&ChangeSettings::RateLimit(None)).await
    }

    /// Reads the global limit; `None` unless both of its parts are set.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn global_rate_limit(&self) -> Result<Option<JobRateLimit>> {
        self.store().global_rate_limit().await
    }

    /// Stops every worker that knows a rate limit, its own or the global one, from starting jobs
    /// for `wait`. Workers without a limit are not affected, nor are running jobs.
    ///
    /// Returns how long the limit lasts: a limit that lasts longer already is not
    /// shortened. A window in which more jobs might have started ends here; the next one begins
    /// with the first start after `wait`.
    ///
    /// Inside of a handler, use [`Outcome::RateLimited`](crate::Outcome::RateLimited) or
    /// [`Job::limit_rate`](crate::Job::limit_rate).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a time below 1 ms or above 2^52 ms; connection errors. Safe to
    /// repeat: the time then counts from the last call.
    #[doc(alias = "rateLimit")]
    pub async fn limit_rate(&self, wait: Duration) -> Result<Duration> {
        let limit = LimitRate::checked(wait, None)?;
        let span = Operation::new(self.name().as_str(), "rateLimit")
            .number("bullmq.queue.rate.limit", wait.as_millis());
        span.around(self.store().run(&limit)).await
    }

    /// Ends the present window of the rate limit, or the limit imposed by hand: jobs may start,
    /// and a new window begins with the first. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    #[doc(alias = "removeRateLimitKey")]
    pub async fn lift_rate_limit(&self) -> Result<bool> {
        self.store().run(&LiftLimit).await
    }

    /// Reads how long no job starts under the global limit, or how many more may start in the
    /// window that is open. Where there is no global limit, reads how long the present window or
    /// imposed limit lasts, regardless of how many jobs it allows.
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getRateLimitTtl")]
    pub async fn rate_limit_state(&self) -> Result<RateLimitState> {
        self.store().rate_limit_state(None).await
    }

    /// Reads how long no job starts on workers whose limit allows `max` jobs in a window, or how
    /// many more may.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for 0; connection errors.
    pub async fn rate_limit_state_of(&self, max: u32) -> Result<RateLimitState> {
        if max == 0 {
            return Err(Error::invalid("rate limit", "must allow at least one job"));
        }
        self.store().rate_limit_state(Some(max)).await
    }
}
