//! How a job is queued, retried and kept.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{Backoff, Deduplication, JobId, Parent, Retention, Telemetry};

/// Largest priority (`docs/protocol.md#scores`): scores stay exact up to it.
const PRIORITY_MAX: u32 = 2_097_151;

/// Checks a job's priority.
pub(crate) fn check_priority(priority: u32) -> Result<()> {
    if priority > PRIORITY_MAX {
        return Err(Error::invalid_value(
            "priority",
            priority,
            format!("must be between 0 and {PRIORITY_MAX}"),
        ));
    }
    Ok(())
}

/// Options of a job (`docs/protocol.md#job-options`).
///
/// Every option is absent until it is set; a queue's default options apply where the call sets
/// nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use oxbull::{Backoff, JobOptions, Retention};
///
/// let options = JobOptions::new()
///     .attempts(3)
///     .backoff(Backoff::exponential(Duration::from_secs(1)).jitter(0.5))
///     .remove_on_complete(Retention::KeepLast(1_000));
/// assert_eq!(options.attempts, Some(3)); // what is set can be read
///
/// // In JSON, options have the names of BullMQ's API.
/// let json = serde_json::to_value(&options)?;
/// assert_eq!(json["removeOnComplete"], 1_000);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JobOptions {
    /// The id of the caller's choice.
    pub id: Option<JobId>,
    /// How long the job waits before it may run.
    pub delay: Option<Duration>,
    /// Its priority; 0: none.
    pub priority: Option<u32>,
    /// Whether it is the next to run.
    pub lifo: Option<bool>,
    /// How often it is tried in all; 0 and 1 both mean once.
    pub attempts: Option<u32>,
    /// The wait between attempts.
    pub backoff: Option<Backoff>,
    /// What happens to it once it has completed.
    pub remove_on_complete: Option<Retention>,
    /// What happens to it once it has failed for good.
    pub remove_on_fail: Option<Retention>,
    /// How many rows of its log are kept; 0: all.
    pub keep_logs: Option<u32>,
    /// How many stack traces are kept.
    pub stack_trace_limit: Option<u32>,
    /// How many bytes its data may have; 0: any number.
    pub size_limit: Option<usize>,
    /// The time it was added at, where its producer chose it.
    pub timestamp: Option<Timestamp>,
    /// Its parent.
    pub parent: Option<Parent>,
    /// Its trace context.
    pub telemetry: Option<Telemetry>,
    /// How it was kept to one job of its purpose.
    pub deduplication: Option<Deduplication>,
}

impl JobOptions {
    /// Makes options that set nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the job an id of the caller's choice. Adding an id that exists already changes
    /// nothing, which makes the add safe to repeat. The add refuses ids that BullMQ refuses, see
    /// [`JobId::new`]. Default: the queue's counter.
    #[must_use]
    pub fn id(mut self, id: impl Into<JobId>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Lets the job wait this long before it may run; whole milliseconds. Default: none.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Runs the job after all jobs without a priority and after smaller numbers; 1 to 2,097,151.
    /// Default and 0: no priority.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Makes the job the next to run. Default: the last. Ignored for jobs with a delay or a
    /// priority.
    #[must_use]
    pub fn lifo(mut self) -> Self {
        self.lifo = Some(true);
        self
    }

    /// Sets how often the job is tried in all; 0 and 1 both mean once. Default: once.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// Sets the wait between attempts. Default: none, a failed attempt is retried at once.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Sets what happens to the job once it has completed. Default: the worker's setting, else
    /// it is kept.
    #[must_use]
    pub fn remove_on_complete(mut self, retention: Retention) -> Self {
        self.remove_on_complete = Some(retention);
        self
    }

    /// Sets what happens to the job once it has failed for good. Default: as
    /// [`remove_on_complete`](Self::remove_on_complete).
    #[must_use]
    pub fn remove_on_fail(mut self, retention: Retention) -> Self {
        self.remove_on_fail = Some(retention);
        self
    }

    /// Keeps only the newest rows of the job's log; 0: all. Default: all.
    #[must_use]
    pub fn keep_logs(mut self, rows: u32) -> Self {
        self.keep_logs = Some(rows);
        self
    }

    /// Keeps only the newest stack traces; 0: none. Default: the newest 50.
    #[must_use]
    pub fn stack_trace_limit(mut self, entries: u32) -> Self {
        self.stack_trace_limit = Some(entries);
        self
    }

    /// Refuses data whose JSON text is longer than this many bytes; 0: any size. Default: any.
    #[must_use]
    pub fn size_limit(mut self, bytes: usize) -> Self {
        self.size_limit = Some(bytes);
        self
    }

    /// Sets the time from which the job's delay counts. Default, and 0: now.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Makes the job a child of an existing job. Default: none.
    #[must_use]
    pub fn parent(mut self, parent: Parent) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Carries trace context to the worker. Default: none.
    #[must_use]
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = Some(telemetry);
        self
    }

    /// Keeps adds of one purpose to one job; not for a job with a [`parent`](Self::parent).
    /// Default: none.
    #[must_use]
    pub fn deduplication(mut self, deduplication: Deduplication) -> Self {
        self.deduplication = Some(deduplication);
        self
    }

    /// Fills what is not set here from `defaults`. An id is never taken over.
    #[must_use]
    pub(crate) fn or(self, defaults: &Self) -> Self {
        let d = defaults.clone();
        Self {
            id: self.id,
            delay: self.delay.or(d.delay),
            priority: self.priority.or(d.priority),
            lifo: self.lifo.or(d.lifo),
            attempts: self.attempts.or(d.attempts),
            backoff: self.backoff.or(d.backoff),
            remove_on_complete: self.remove_on_complete.or(d.remove_on_complete),
            remove_on_fail: self.remove_on_fail.or(d.remove_on_fail),
            keep_logs: self.keep_logs.or(d.keep_logs),
            stack_trace_limit: self.stack_trace_limit.or(d.stack_trace_limit),
            size_limit: self.size_limit.or(d.size_limit),
            timestamp: self.timestamp.or(d.timestamp),
            parent: self.parent.or(d.parent),
            telemetry: self.telemetry.or(d.telemetry),
            deduplication: self.deduplication.or(d.deduplication),
        }
    }

    /// Checks every option that has a bound (`docs/protocol.md#job-options`).
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(id) = &self.id {
            id.check_new()?;
        }
        if let Some(priority) = self.priority {
            check_priority(priority)?;
        }
        if let Some(delay) = self.delay
            && delay.as_millis() > MILLIS_MAX
        {
            return Err(Error::invalid_value(
                "delay",
                delay,
                format!("must not be longer than {MILLIS_MAX} ms"),
            ));
        }
        if let Some(timestamp) = self.timestamp
            && u128::try_from(timestamp.as_millis()).map_or(true, |millis| millis > MILLIS_MAX)
        {
            return Err(Error::invalid_value(
                "timestamp",
                timestamp.as_millis(),
                format!("must be between 0 and {MILLIS_MAX} ms"),
            ));
        }
        if let Some(backoff) = &self.backoff {
            backoff.check()?;
        }
        if let Some(parent) = &self.parent {
            parent.check()?;
        }
        if let Some(deduplication) = &self.deduplication {
            deduplication.check()?;
            if self.parent.is_some() {
                let problem = "cannot be used together with a parent";
                return Err(Error::invalid("deduplication", problem));
            }
        }
        Ok(())
    }

    /// Checks the size of the data of the job `name`, in bytes of JSON text.
    pub(crate) fn check_size(&self, name: &str, bytes: usize) -> Result<()> {
        match self.size_limit {
            Some(limit) if limit > 0 && bytes > limit => Err(Error::invalid(
                "job data",
                format!("of job {name} has {bytes} bytes, more than the limit of {limit}"),
            )),
            _ => Ok(()),
        }
    }
}

/// Longest delay and latest time: 2^52 ms keep every sum exact in the doubles of the stored format.
pub(super) const MILLIS_MAX: u128 = 1 << 52;
