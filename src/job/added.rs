//! What an add did.

use serde::{Deserialize, Serialize};

use crate::job::JobId;

/// What an add did. As JSON the outcome is a name, such as `deduplicated`, with what it has beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Added {
    /// The id of the job that is in the queue now: the one given, the one that exists already, or
    /// the owner of the deduplication id.
    pub id: JobId,
    /// Whether that job is the one given.
    #[serde(flatten)]
    pub outcome: AddOutcome,
}

/// Whether an add stored its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
#[non_exhaustive]
pub enum AddOutcome {
    /// The job was stored and queued.
    Added,
    /// A job of that id existed; nothing about it was changed, but it joined the parent that
    /// the add named (`docs/protocol.md#existing-ids`).
    Duplicate,
    /// Nothing was stored: [`Added::id`] owns the deduplication id
    /// (`docs/protocol.md#deduplication`). With a time limit the owner may have ended.
    Deduplicated,
    /// The job was stored and queued; a delayed job of the same deduplication id was deleted.
    Replaced {
        /// The deleted job.
        job: JobId,
    },
    /// [`Added::id`] is active and owns the deduplication id. When it ends the job is stored and
    /// queued, unless a later add takes its place.
    KeptLast {
        /// The id the job will have, unless another job has taken it by then.
        next: JobId,
    },
}
