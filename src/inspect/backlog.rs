//! How much a queue has to do, and how late it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::Result;
use crate::inspect::JobCounts;
use crate::job::JobRecord;
use crate::json;
use crate::queue::Queue;

/// How much a queue has to do, and how late it is: what monitoring asks for. In JSON times are
/// milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Backlog {
    /// How many jobs are in each state.
    pub counts: JobCounts,
    /// How long the job that is next has been due, or, where one with a priority is next to those
    /// without, the longer of the two. `None` when no job waits.
    ///
    /// A job that has run before counts from its last start.
    #[serde(with = "json::optional_millis")]
    pub oldest_wait: Option<Duration>,
    /// How overdue the earliest delayed job is: workers that fetch make it run within
    /// milliseconds. `None` when no delayed job is due.
    #[serde(with = "json::optional_millis")]
    pub schedule_lag: Option<Duration>,
}

impl<D> Queue<D> {
    /// Returns how much there is to do and how late it is. It costs Redis a few constant-time reads.
    /// It is not a snapshot: counts and times may be from different moments.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn backlog(&self) -> Result<Backlog> {
        let counts = self.counts().await?;
        let waiting = self.store().waiting().await?;
        let now = self.store().clock().now();
        Ok(Backlog {
            counts,
            oldest_wait: waiting.next.iter().map(|job| now.since(due(job))).max(),
            schedule_lag: waiting
                .due
                .filter(|due| *due < now)
                .map(|due| now.since(due)),
        })
    }
}

/// When a job could have run for the first time, or last did.
fn due(job: &JobRecord) -> Timestamp {
    let delay = job.options.delay.unwrap_or_default();
    let due = job.timestamp + delay;
    job.processed_on.map_or(due, |last| last.max(due))
}
