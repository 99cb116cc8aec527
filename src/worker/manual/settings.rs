//! The settings of a manual worker.

use std::future::Future;
use std::time::Duration;

use crate::job::{JobRateLimit, Retention};
use crate::worker::backoff::FailedAttempt;

use super::ManualWorker;

impl ManualWorker {
    /// Names the worker; stored with each job it starts. Default: none.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how long a lock lasts, 1 ms to a year; steps fail with [`Error::Invalid`](crate::Error::Invalid) where it is not.
    /// Default: 30 s.
    #[must_use]
    pub fn lock_duration(mut self, duration: Duration) -> Self {
        self.lock_duration = duration;
        self
    }

    /// Limits the starts of jobs, with all workers of the queue that have a limit. Default: no limit.
    /// Steps fail with [`Error::Invalid`](crate::Error::Invalid) where `max` is 0 or the window below 1 ms or above 2^52 ms.
    #[must_use]
    pub fn rate_limit(mut self, limit: JobRateLimit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Records finished jobs per minute, this many minutes back. Default: 0, off.
    #[must_use]
    pub fn metrics(mut self, minutes: u32) -> Self {
        self.metrics = minutes;
        self
    }

    /// Keeps completed jobs within bounds, where the job does not say. Default: all.
    #[must_use]
    pub fn remove_on_complete(mut self, retention: Retention) -> Self {
        self.conclude.rules.remove_on_complete = Some(retention);
        self
    }

    /// Keeps failed jobs within bounds, where the job does not say. Default: all.
    #[must_use]
    pub fn remove_on_fail(mut self, retention: Retention) -> Self {
        self.conclude.rules.remove_on_fail = Some(retention);
        self
    }

    /// Fails a job for good once it has been started this often; 0 is no limit. Default: 0.
    #[must_use]
    pub fn max_started_attempts(mut self, max: u32) -> Self {
        self.conclude.rules.max_started = Some(max).filter(|max| *max > 0);
        self
    }

    /// Registers the backoff strategy for jobs that name it, as
    /// [`WorkerBuilder::backoff_strategy`](crate::WorkerBuilder::backoff_strategy) does.
    #[must_use]
    pub fn backoff_strategy<F, Fut>(mut self, name: impl Into<String>, strategy: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.conclude.strategies.insert(name.into(), strategy);
        self
    }

    /// Registers the backoff strategy for jobs that name one which is not registered.
    #[must_use]
    pub fn backoff_fallback<F, Fut>(mut self, strategy: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.conclude.strategies.set_fallback(strategy);
        self
    }
}
