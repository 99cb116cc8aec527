//! What workers do for job schedulers: the worker that starts an iteration makes the next one, and a
//! periodic check repairs schedulers that have none to come.

mod advance;
mod occurrences;
mod repair;

use crate::job::JobId;

pub(super) use advance::{Advance, advance};
pub(super) use repair::repair;

/// A scheduler that had no iteration to come, and has one again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairedScheduler {
    /// The scheduler's id.
    pub scheduler: String,
    /// The job of its new iteration.
    pub id: JobId,
}
