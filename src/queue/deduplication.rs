//! Who owns a deduplication id, and freeing it by hand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Queue, named};
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::json;
use crate::store::ReleaseDeduplication;
use crate::telemetry::Operation;

/// The job that owns a deduplication id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeduplicationOwner {
    /// The owner. With a time limit it may have ended, and even be deleted by retention.
    pub job: JobId,
    /// How long the id stays taken; `None`: until the owner ends.
    #[serde(with = "json::optional_millis")]
    pub remaining: Option<Duration>,
}

impl<D> Queue<D> {
    /// Finds the job that owns a deduplication id, and for how long; `None` when the id is free
    /// (`docs/protocol.md#deduplication`). The id is text, or bytes where a job's id is not text
    /// ([`JobRecord::stored`](crate::JobRecord::stored)`("deid")`).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when `id` is empty; connection errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// if let Some(owner) = queue.deduplication_owner("refresh:1842").await? {
    ///     println!("taken by {} for {:?}", owner.job, owner.remaining);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn deduplication_owner(
        &self,
        id: impl AsRef<[u8]>,
    ) -> Result<Option<DeduplicationOwner>> {
        check(id.as_ref())?;
        let owner = self.store().deduplication_owner(id.as_ref()).await?;
        Ok(owner.map(|(job, remaining)| DeduplicationOwner { job, remaining }))
    }

    /// Frees a deduplication id, no matter which job owns it, so that the next add under it is stored. Returns
    /// whether it was taken. A job kept until its active owner ends stays kept.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when `id` is empty; connection errors. After
    /// [`Error::Indeterminate`] a repetition may free the id of a job added meanwhile;
    /// [`release_deduplication_of`](Self::release_deduplication_of) cannot.
    pub async fn release_deduplication(&self, id: impl AsRef<[u8]>) -> Result<bool> {
        self.release(id.as_ref(), None).await
    }

    /// Frees a deduplication id if `job` owns it. Returns whether it did.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when `id` is empty; connection errors. Safe to
    /// repeat.
    pub async fn release_deduplication_of(
        &self,
        job: impl Into<JobId>,
        id: impl AsRef<[u8]>,
    ) -> Result<bool> {
        let job = named(job)?;
        if job.as_str().is_empty() {
            return Err(Error::invalid("job id", "must not be empty"));
        }
        self.release(id.as_ref(), Some(&job)).await
    }

    async fn release(&self, id: &[u8], owner: Option<&JobId>) -> Result<bool> {
        check(id)?;
        let span = Operation::new(self.name().as_str(), "removeDeduplicationKey")
            .text("bullmq.job.deduplication.key", String::from_utf8_lossy(id));
        let release = ReleaseDeduplication { id, owner };
        span.around(self.store().run(&release)).await
    }
}

/// Other clients have other rules for ids; only this one holds for all.
fn check(id: &[u8]) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid("deduplication id", "must not be empty"));
    }
    Ok(())
}
