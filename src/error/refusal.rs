//! What scripts decline.

use serde::{Serialize, Serializer};

use crate::state::JobState;

/// What a script declined to do, with the code BullMQ uses for it (`docs/protocol.md#refusals`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// -1: the job's hash does not exist.
    #[error("the job does not exist")]
    JobMissing,
    /// -2: the job is not locked any more.
    #[error("the job's lock is gone")]
    LockMissing,
    /// -3: the job is not in the state that the change starts from.
    #[error("the job is {}not {needed}", is(*.found))]
    #[non_exhaustive]
    WrongState {
        /// The state that the job was in; `None` when it was in none, in a list behind more than
        /// 20,000 others, or when it was not looked for, as in
        /// [`WorkerEvent::Refused`](crate::WorkerEvent::Refused).
        found: Option<JobState>,
        /// The state that it must be in.
        needed: JobState,
    },
    /// -4: the job still waits for children.
    #[error("the job has pending dependencies")]
    PendingDependencies,
    /// -5: the parent's hash does not exist.
    #[error("the parent job does not exist")]
    ParentMissing,
    /// -6: another worker holds the job's lock.
    #[error("the job's lock belongs to another worker")]
    LockLost,
    /// -7: the job already belongs to another, living parent.
    #[error("the parent job cannot be replaced")]
    ParentConflict,
    /// -8: the job is the pending iteration of a scheduler.
    #[error("the job belongs to a job scheduler")]
    SchedulerOwned,
    /// -9: a child that must not fail has failed.
    #[error("the job has at least one failed child")]
    FailedChildren,
    /// -10: the occurrence of a scheduler's pattern has had its iteration, whose job still exists.
    #[error("the iteration exists already")]
    IterationExists,
    /// -11: the occurrences to come of a scheduler's interval have jobs already.
    #[error("the next iterations exist already")]
    OccurrencesTaken,
    /// -20: the job, or a child that would be removed with it, is locked by a worker.
    #[error("the job is locked by a worker")]
    Locked,
    /// -21: the queue has active jobs, which were not to be deleted.
    #[error("the queue has active jobs")]
    ActiveJobs,
    /// -22: the queue is not paused; it was resumed while it was being deleted.
    #[error("the queue is not paused")]
    NotPaused,
    /// -23: the job is an ancestor of the parent that it was to have: both would wait for ever.
    #[error("the job would wait for itself")]
    WaitsForItself,
    /// A code this version does not know.
    #[error("unknown code {0}")]
    Unknown(i64),
}

/// What a job is, in front of what it is not.
fn is(found: Option<JobState>) -> String {
    found.map_or_else(String::new, |found| format!("{found}, "))
}

/// The message.
impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Refusal {
    /// Returns the number that BullMQ uses for it, below zero.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(oxbull::Refusal::LockMissing.code(), -2);
    /// ```
    pub fn code(self) -> i64 {
        match self {
            Self::JobMissing => -1,
            Self::LockMissing => -2,
            Self::WrongState { .. } => -3,
            Self::PendingDependencies => -4,
            Self::ParentMissing => -5,
            Self::LockLost => -6,
            Self::ParentConflict => -7,
            Self::SchedulerOwned => -8,
            Self::FailedChildren => -9,
            Self::IterationExists => -10,
            Self::OccurrencesTaken => -11,
            Self::Locked => -20,
            Self::ActiveJobs => -21,
            Self::NotPaused => -22,
            Self::WaitsForItself => -23,
            Self::Unknown(code) => code,
        }
    }

    /// Decodes a script's code; `lua/lib/codes.lua` has the same numbers. Of a job in the wrong state
    /// only results of attempts answer with the code alone: they need it to be active.
    pub(crate) fn from_code(code: i64) -> Self {
        match code {
            -1 => Self::JobMissing,
            -2 => Self::LockMissing,
            -3 => Self::WrongState {
                found: None,
                needed: JobState::Active,
            },
            -4 => Self::PendingDependencies,
            -5 => Self::ParentMissing,
            -6 => Self::LockLost,
            -7 => Self::ParentConflict,
            -8 => Self::SchedulerOwned,
            -9 => Self::FailedChildren,
            -10 => Self::IterationExists,
            -11 => Self::OccurrencesTaken,
            -20 => Self::Locked,
            -21 => Self::ActiveJobs,
            -22 => Self::NotPaused,
            -23 => Self::WaitsForItself,
            other => Self::Unknown(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_refusals_are_those_that_are_decoded() {
        for code in [
            -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -20, -21, -22, -23, -99,
        ] {
            assert_eq!(Refusal::from_code(code).code(), code);
        }
        assert_eq!(Refusal::from_code(-99), Refusal::Unknown(-99));
    }

    #[test]
    fn a_wrong_state_is_named_beside_the_right_one() {
        let refusal = |found| Refusal::WrongState {
            found,
            needed: JobState::Failed,
        };
        let known = refusal(Some(JobState::WaitingChildren)).to_string();
        assert_eq!(known, "the job is waiting-children, not failed");
        assert_eq!(refusal(None).to_string(), "the job is not failed");
    }
}
