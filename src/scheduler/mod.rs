//! Job schedulers: jobs that repeat in time (`docs/protocol.md#scheduler-keys`).

mod carry;
mod definitions;
mod heal;
mod local_zone;
mod preview;
mod slots;

use crate::clock::Timestamp;
use crate::job::{JobId, JobRecord};

pub(crate) use carry::{Carried, carry_on};
pub(crate) use heal::heal;

/// The iteration that an upsert made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Upserted {
    /// The job: `repeat:<scheduler>:<due>`.
    pub id: JobId,
    /// When it is due.
    pub due: Timestamp,
    /// The job as it was made, before any worker saw it.
    pub job: JobRecord,
}

/// A scheduler that had no iteration left to run, and has one again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rearmed {
    /// The scheduler.
    pub scheduler: String,
    /// Its new iteration.
    pub id: JobId,
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

#[cfg(test)]
mod tests;
