//! A job while a worker runs it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions, JobRecord, ReadDependencies};

/// A change that a handler makes to its own job.
#[derive(Debug)]
pub(crate) enum Action {
    /// Replaces the progress (JSON).
    Progress(String),
    /// Replaces the data (JSON).
    Data(String),
    /// Appends a row to the log and keeps the newest `keep` rows (0: all).
    Log { row: String, keep: u32 },
    /// Stops the queue's workers from starting jobs.
    Limit(Duration),
    /// Deletes the children that the job waits for.
    RemoveUnprocessedChildren,
}

/// Carries an active job's actions out; the worker implements it over the store.
pub(crate) trait Actions: ReadDependencies {
    /// The qualified name of the job's queue.
    fn queue(&self) -> &str;

    /// Carries out one action. The number is the count of log rows kept or of jobs deleted, the
    /// milliseconds of a limit, or 0.
    fn run<'a>(&'a self, job: &'a JobId, action: Action) -> BoxFuture<'a, Result<u64>>;
}

/// A job in the hands of its handler, with its data decoded as `D`.
pub struct Job<D> {
    record: Arc<JobRecord>,
    data: D,
    pub(super) actions: Arc<dyn Actions>,
}

impl<D> Job<D> {
    pub(crate) fn new(record: Arc<JobRecord>, data: D, actions: Arc<dyn Actions>) -> Self {
        Self {
            record,
            data,
            actions,
        }
    }

    /// Returns the job's id.
    pub fn id(&self) -> &JobId {
        &self.record.id
    }

    /// Returns the job's name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Returns the job's data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Takes the data out of the job.
    pub fn into_data(self) -> D {
        self.data
    }

    /// Returns the options the job was added with.
    pub fn options(&self) -> &JobOptions {
        &self.record.options
    }

    /// Returns when the job was added.
    pub fn timestamp(&self) -> Timestamp {
        self.record.timestamp
    }

    /// Returns how many attempts have ended before this one.
    #[doc(alias = "atm")]
    pub fn attempts_made(&self) -> u32 {
        self.record.attempts_made
    }

    /// Returns whether the job fails for good if this attempt fails, by the attempts that its options
    /// allow. A worker's limit of started attempts or a backoff strategy may end it sooner.
    pub fn is_last_attempt(&self) -> bool {
        let allowed = self.record.options.attempts.unwrap_or(0);
        self.record.attempts_made.saturating_add(1) >= allowed
    }

    /// Returns how many attempts have started, this one included. Together with the id it names
    /// this attempt, so it can guard side effects against a late repetition. An attempt that was
    /// [postponed](crate::JobError::postpone) is not counted: it is made again under its number.
    #[doc(alias = "ats")]
    pub fn attempts_started(&self) -> u32 {
        self.record.attempts_started
    }

    /// Returns everything stored about the job when the attempt started.
    pub fn record(&self) -> &JobRecord {
        &self.record
    }

    /// Stores the progress of the attempt and emits an event. Any value that has a JSON form.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the job does not exist; [`Error::Encode`] when the value has no JSON
    /// form; connection errors. Safe to repeat.
    pub async fn update_progress<T: Serialize + ?Sized>(&self, progress: &T) -> Result<()> {
        let text = encode("progress", progress)?;
        self.actions.run(self.id(), Action::Progress(text)).await?;
        Ok(())
    }

    /// Replaces the job's data, so that the next attempt finds it; this [`Job`] keeps what it has.
    ///
    /// Only while the worker holds the job: what a handler writes that was frozen beyond its lock
    /// would undo what the job's next handler has written.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the job does not exist or its lock is lost; otherwise as
    /// [`update_progress`](Self::update_progress). Safe to repeat.
    pub async fn update_data(&self, data: &D) -> Result<()>
    where
        D: Serialize,
    {
        let text = encode("job data", data)?;
        self.actions.run(self.id(), Action::Data(text)).await?;
        Ok(())
    }

    /// Appends a row to the job's log. Returns how many rows the log has now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the job does not exist; connection errors. After
    /// [`Error::Indeterminate`] a repetition may write the row twice.
    pub async fn log(&self, row: impl Into<String>) -> Result<u64> {
        let action = Action::Log {
            row: row.into(),
            keep: self.record.options.keep_logs.unwrap_or(0),
        };
        self.actions.run(self.id(), action).await
    }

    /// Stops the workers of the queue that know a rate limit from starting jobs for `wait`, while
    /// this job goes on: for handlers that have done their work and found that no more should start now.
    /// As [`Queue::limit_rate`](crate::Queue::limit_rate). To give this job back as well, return
    /// [`Outcome::RateLimited`](crate::Outcome::RateLimited).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a time below 1 ms or above 2^52 ms; connection errors. Safe to
    /// repeat.
    pub async fn limit_rate(&self, wait: Duration) -> Result<Duration> {
        let left = self.actions.run(self.id(), Action::Limit(wait)).await?;
        Ok(Duration::from_millis(left))
    }
}

fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|source| Error::Encode { what, source })
}

// Job data may be secret, so it does not show.
impl<D> fmt::Debug for Job<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.record.id)
            .field("name", &self.record.name)
            .field("attempts_started", &self.record.attempts_started)
            .finish_non_exhaustive()
    }
}
