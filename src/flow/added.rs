//! What became of a flow.

use serde::{Deserialize, Serialize};

use crate::job::{AddOutcome, JobId};

/// What an add did with a job of a flow and with its children, in the form of the flow. As JSON, as
/// [`Added`](crate::Added), with `queue` and `children` besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowAdded {
    /// The job's qualified queue name, such as `bull:reports`.
    pub queue: String,
    /// The job's id.
    pub id: JobId,
    /// Whether the job is the one given, [`Added`](AddOutcome::Added), or one that existed,
    /// [`Duplicate`](AddOutcome::Duplicate).
    #[serde(flatten)]
    pub outcome: AddOutcome,
    /// What became of its children, in the order given.
    pub children: Vec<Self>,
}
