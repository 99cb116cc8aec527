//! The settings of a worker.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::job::JobRateLimit;
use crate::job::{Prefix, QueueName};
use crate::policy::WorkerRules;
use crate::worker::backoff::Strategies;

/// Everything about a worker but its handler.
#[derive(Clone)]
pub(crate) struct WorkerOptions {
    pub(crate) queue: QueueName,
    pub(crate) prefix: Prefix,
    pub(crate) name: Option<String>,
    pub(crate) concurrency: NonZeroUsize,
    pub(crate) lock_duration: Duration,
    pub(crate) stalled_interval: Duration,
    /// Whether this worker looks for stalled jobs.
    pub(crate) check_stalled: bool,
    pub(crate) max_stalled: u32,
    pub(crate) drain_delay: Duration,
    pub(crate) max_limit_wait: Duration,
    pub(crate) limit: Option<JobRateLimit>,
    pub(crate) metrics: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) rules: WorkerRules,
    pub(crate) strategies: Strategies,
    pub(crate) shutdown: ShutdownOptions,
    pub(crate) paused: bool,
}

impl WorkerOptions {
    pub(crate) fn new(queue: QueueName, prefix: Prefix) -> Self {
        Self {
            queue,
            prefix,
            name: None,
            concurrency: NonZeroUsize::MIN,
            lock_duration: Duration::from_secs(30),
            stalled_interval: Duration::from_secs(30),
            check_stalled: true,
            max_stalled: 1,
            drain_delay: Duration::from_secs(5),
            max_limit_wait: Duration::from_secs(1),
            limit: None,
            metrics: 0,
            timeout: None,
            rules: WorkerRules::default(),
            strategies: Strategies::default(),
            shutdown: ShutdownOptions::default(),
            paused: false,
        }
    }

    /// Checks every option that has a bound.
    pub(crate) fn check(&self) -> Result<()> {
        let at_least = |field, value: Duration, least: Duration| {
            if value < least {
                return Err(Error::invalid_value(
                    field,
                    value,
                    format!("must be at least {least:?}"),
                ));
            }
            Ok(())
        };
        check_lock_duration(self.lock_duration)?;
        at_least(
            "stalled interval",
            self.stalled_interval,
            Duration::from_millis(10),
        )?;
        at_least("drain delay", self.drain_delay, Duration::from_millis(1))?;
        at_least(
            "rate limit wait",
            self.max_limit_wait,
            Duration::from_millis(1),
        )?;
        if let Some(limit) = self.limit {
            limit.check()?;
        }
        if let Some(timeout) = self.timeout {
            at_least("timeout", timeout, Duration::from_millis(1))?;
        }
        if self
            .name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.chars().any(|c| c.is_control() || c == ' '))
        {
            return Err(Error::invalid(
                "worker name",
                "must not be empty nor contain spaces or control characters",
            ));
        }
        Ok(())
    }
}

/// The shortest and the longest life of a lock: Redis refuses what is beyond, when the job has left
/// its list already.
const LOCK_MIN: Duration = Duration::from_millis(100);
pub(super) const LOCK_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Checks how long a lock may last without renewal.
pub(super) fn check_lock_duration(duration: Duration) -> Result<()> {
    if (LOCK_MIN..=LOCK_MAX).contains(&duration) {
        return Ok(());
    }
    let problem = "must be at least 100 ms and at most a year";
    Err(Error::invalid_value("lock duration", duration, problem))
}

impl std::fmt::Debug for WorkerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerOptions")
            .field("queue", &self.queue)
            .field("prefix", &self.prefix)
            .field("name", &self.name)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

/// The deadlines of a worker's shutdown: handlers may finish, then they are cancelled, then their
/// jobs are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "each is a deadline")]
pub struct ShutdownOptions {
    pub(crate) finish_within: Duration,
    pub(crate) cancel_within: Duration,
    pub(crate) report_within: Duration,
}

impl Default for ShutdownOptions {
    fn default() -> Self {
        Self {
            finish_within: Duration::from_secs(30),
            cancel_within: Duration::from_secs(5),
            report_within: Duration::from_secs(5),
        }
    }
}

impl ShutdownOptions {
    /// Makes the default deadlines.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long running handlers may go on. Default: 30 s.
    #[must_use]
    pub fn finish_within(mut self, time: Duration) -> Self {
        self.finish_within = time;
        self
    }

    /// How long cancelled handlers may take to clean up, before they are dropped. Default: 5 s.
    #[must_use]
    pub fn cancel_within(mut self, time: Duration) -> Self {
        self.cancel_within = time;
        self
    }

    /// How long the last results may take to reach Redis. Default: 5 s.
    #[must_use]
    pub fn report_within(mut self, time: Duration) -> Self {
        self.report_within = time;
        self
    }
}
