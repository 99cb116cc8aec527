//! Job schedulers: jobs that repeat in time (`docs/protocol.md#scheduler-keys`).
//!
//! Here they are stored, read, removed and previewed. Workers advance them: see
//! `worker/schedules`.

mod preview;
mod upsert;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobRecord, SchedulerRecord};
use crate::queue::Queue;
use crate::store::RemoveScheduler;

/// The iteration that an upsert made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Upserted {
    /// The id of its job: `repeat:<scheduler>:<occurrence>`.
    pub id: JobId,
    /// When it is due.
    pub due: Timestamp,
    /// The job as it was stored, before any worker started it.
    pub job: JobRecord,
}

/// The order in which schedulers are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SchedulerOrder {
    /// By the time of their newest iteration, the earliest first.
    #[default]
    SoonestFirst,
    /// The latest first.
    LatestFirst,
}

/// Job schedulers.
impl<D> Queue<D> {
    /// Deletes a job scheduler and its iteration, unless that waits or runs already: then it is
    /// the last. Returns whether there was such a scheduler.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat after [`Error::Indeterminate`](crate::Error::Indeterminate); the answer is then
    /// about what the repetition found.
    pub async fn remove_scheduler(&self, id: impl AsRef<str>) -> Result<bool> {
        let scheduler = id.as_ref();
        self.store().run(&RemoveScheduler { scheduler }).await
    }

    /// Reads a job scheduler; `None` when there is none of that id.
    ///
    /// # Errors
    ///
    /// Connection errors. What does not decode is named in the record's
    /// [`problems`](SchedulerRecord::problems).
    pub async fn scheduler(&self, id: impl AsRef<str>) -> Result<Option<SchedulerRecord>> {
        self.store().scheduler(id.as_ref()).await
    }

    /// Reads the job schedulers from number `start` to number `end` of the order, both included;
    /// negative numbers count from the last (`0, -1` is all of them). Up to a
    /// thousand are read at one moment, more in steps: one that moves meanwhile is listed where it was or where it is.
    ///
    /// # Errors
    ///
    /// As [`scheduler`](Self::scheduler): one that does not decode is listed with the others.
    pub async fn schedulers(
        &self,
        start: i64,
        end: i64,
        order: SchedulerOrder,
    ) -> Result<Vec<SchedulerRecord>> {
        let latest_first = order == SchedulerOrder::LatestFirst;
        self.store().schedulers(start, end, latest_first).await
    }

    /// Counts the job schedulers, repeatable jobs of BullMQ 5 included.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn scheduler_count(&self) -> Result<u64> {
        self.store().scheduler_count().await
    }
}

#[cfg(test)]
mod tests;
