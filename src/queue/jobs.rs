//! Actions on one job that exists.

use std::time::Duration;

use serde::Serialize;

use super::{Queue, encode, named};
use crate::error::Result;
use crate::job::{JobId, JobOptions, check_priority};
use crate::store::{
    AddLog, ChangeDelay, ChangePriority, ClearLogs, PromoteJob, RetryJob, UpdateData,
    UpdateProgress,
};
use crate::telemetry::Operation;

/// Which counts of a retried job start from zero. Default: none.
///
/// # Examples
///
/// ```no_run
/// # async fn run(queue: oxbull::Queue, id: oxbull::JobId) -> oxbull::Result<()> {
/// use oxbull::RetryOptions;
///
/// queue.retry(&id, RetryOptions::new().reset_attempts_made()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryOptions {
    reset_made: bool,
    reset_started: bool,
}

impl RetryOptions {
    /// Resets nothing: attempts made before still count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the job all of its attempts again.
    #[must_use]
    pub fn reset_attempts_made(mut self) -> Self {
        self.reset_made = true;
        self
    }

    /// Starts the count of started attempts from zero.
    #[must_use]
    pub fn reset_attempts_started(mut self) -> Self {
        self.reset_started = true;
        self
    }

    /// Whether attempts made are forgotten.
    pub(super) fn resets_made(self) -> bool {
        self.reset_made
    }

    /// Whether attempts started are forgotten.
    pub(super) fn resets_started(self) -> bool {
        self.reset_started
    }
}

/// Where a job goes among the waiting jobs of the same priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueuePosition {
    /// Behind them: first in, first out.
    #[default]
    Back,
    /// In front of them: last in, first out.
    Front,
}

impl<D> Queue<D> {
    /// Replaces a job's data.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job; [`Error::Encode`](crate::Error::Encode); connection errors. Safe
    /// to repeat.
    pub async fn update_data(&self, id: impl Into<JobId>, data: &D) -> Result<()>
    where
        D: Serialize,
    {
        let (id, data) = (named(id)?, encode("job data", data)?);
        self.store()
            .run(&UpdateData {
                job: &id,
                data: &data,
                token: None,
            })
            .await
    }

    /// Replaces a job's progress, any value that has a JSON form, and publishes it to listeners.
    ///
    /// # Errors
    ///
    /// As [`update_data`](Self::update_data).
    pub async fn update_progress<P: Serialize + ?Sized>(
        &self,
        id: impl Into<JobId>,
        progress: &P,
    ) -> Result<()> {
        let (id, progress) = (named(id)?, encode("progress", progress)?);
        // Without the progress: it may be secret.
        let span =
            Operation::new(self.name().as_str(), "updateJobProgress").text("bullmq.job.id", &id);
        let update = UpdateProgress {
            job: &id,
            progress: &progress,
        };
        span.around(self.store().run(&update)).await
    }

    /// Appends a row to a job's log and keeps the newest `keep` rows (0: all). Returns how many
    /// rows there are now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job; connection errors. After
    /// [`Error::Indeterminate`](crate::Error::Indeterminate) a repetition may write the row twice.
    pub async fn log(&self, id: impl Into<JobId>, row: impl AsRef<str>, keep: u32) -> Result<u64> {
        let id = named(id)?;
        self.store()
            .run(&AddLog {
                job: &id,
                row: row.as_ref(),
                keep,
            })
            .await
    }

    /// Deletes a job's log but for the newest `keep` rows (0: all of it). The job need not exist.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn clear_logs(&self, id: impl Into<JobId>, keep: u32) -> Result<()> {
        let id = named(id)?;
        while self.store().run(&ClearLogs { job: &id, keep }).await? {}
        Ok(())
    }

    /// Runs a failed job again.
    ///
    /// Its earlier stalls are forgotten, so that a job which failed by stalling may stall as often as
    /// a new one. Attempts made and started so far still count, unless `options` reset them.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job or it has not failed; connection errors.
    pub async fn retry(&self, id: impl Into<JobId>, options: RetryOptions) -> Result<()> {
        self.retry_from(named(id)?, false, options).await
    }

    /// Runs a completed job again, as [`retry`](Self::retry) does a failed one.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job or it has not completed; connection errors.
    pub async fn rerun(&self, id: impl Into<JobId>, options: RetryOptions) -> Result<()> {
        self.retry_from(named(id)?, true, options).await
    }

    async fn retry_from(&self, id: JobId, completed: bool, options: RetryOptions) -> Result<()> {
        self.store()
            .run(&RetryJob {
                job: &id,
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
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job or it is not delayed; connection errors.
    pub async fn promote(&self, id: impl Into<JobId>) -> Result<()> {
        let id = named(id)?;
        self.store().run(&PromoteJob { job: &id }).await
    }

    /// Lets a delayed job wait this long from now.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job or it is not delayed; [`Error::Invalid`](crate::Error::Invalid);
    /// connection errors. Safe to repeat.
    pub async fn change_delay(&self, id: impl Into<JobId>, delay: Duration) -> Result<()> {
        JobOptions::new().delay(delay).check()?;
        let id = named(id)?;
        self.store()
            .run(&ChangeDelay {
                job: &id,
                now: self.store().clock().now(),
                delay,
            })
            .await
    }

    /// Gives a job another priority, from 1 (runs first) to 2,097,151; 0 is none, and runs before all
    /// others. A job that is not ready to run keeps its place, and only the number changes.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when there is no such job; [`Error::Invalid`](crate::Error::Invalid); connection errors. Safe
    /// to repeat.
    pub async fn change_priority(
        &self,
        id: impl Into<JobId>,
        priority: u32,
        position: QueuePosition,
    ) -> Result<()> {
        check_priority(priority)?;
        let id = named(id)?;
        self.store()
            .run(&ChangePriority {
                job: &id,
                priority,
                lifo: position == QueuePosition::Front,
            })
            .await
    }
}
