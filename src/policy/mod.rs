//! Pure decisions: where a new job is placed, what becomes of an attempt, how long a retry waits.
//! Neither clock nor randomness is read here; both are passed in.

pub(crate) mod backoff;
mod placement;
mod settlement;

pub(crate) use placement::Placement;
pub(crate) use settlement::{Attempt, AttemptEnd, CustomWait, Ending, Keep, WorkerRules, settle};
