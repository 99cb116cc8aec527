//! What a refused result means for its attempt (`docs/protocol.md#refusals`).

use crate::error::Refusal;
use crate::job::{JobError, JobId};
use crate::policy::Conclusion;

/// What becomes of an attempt whose end Redis declined to store.
#[derive(Debug)]
pub(crate) enum AfterRefusal {
    /// The job is still the worker's, but cannot end this way: the attempt has failed with this
    /// error instead.
    Failed(JobError),
    /// The job does not exist any more, or another worker has it: nothing may be written.
    Lost,
}

/// Decides what a refusal means for the attempt whose end was refused
/// (`docs/protocol.md#refusals`). The reasons are those of BullMQ, which users match on.
pub(crate) fn after_refusal(
    job: &JobId,
    conclusion: &Conclusion,
    refusal: Refusal,
) -> AfterRefusal {
    let step = match conclusion {
        Conclusion::WaitForChildren => "moveToWaitingChildren",
        _ => "moveToFinished",
    };
    match refusal {
        // Its children may still end: the next attempt can succeed.
        Refusal::PendingDependencies => AfterRefusal::Failed(
            JobError::retry(format!("Job {job} has pending dependencies. {step}")).at(None),
        ),
        // A failed child stays failed.
        Refusal::FailedChildren => AfterRefusal::Failed(
            JobError::fatal(format!(
                "Cannot complete job {job} because it has at least one failed child. {step}"
            ))
            .at(None),
        ),
        // The others are never returned for the end of an attempt, or mean that this worker has lost
        // the job: another worker runs it, or it does not exist any more.
        Refusal::JobMissing
        | Refusal::LockMissing
        | Refusal::LockLost
        | Refusal::WrongState { .. }
        | Refusal::ParentMissing
        | Refusal::ParentConflict
        | Refusal::SchedulerOwned
        | Refusal::IterationExists
        | Refusal::OccurrencesTaken
        | Refusal::Locked
        | Refusal::ActiveJobs
        | Refusal::NotPaused
        | Refusal::WaitsForItself
        | Refusal::Unknown(_) => AfterRefusal::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Keep;

    /// A refused end is a failed attempt while the job is the worker's, and nothing otherwise: a
    /// pending child may still end, a failed one stays failed.
    #[test]
    fn refusals_decide_about_the_attempt() {
        let id = JobId::existing("7");
        let complete = Conclusion::Complete {
            value: "1".into(),
            keep: Keep {
                count: -1,
                age: -1,
                limit: 0,
            },
        };
        let failed =
            |conclusion: &Conclusion, refusal| match after_refusal(&id, conclusion, refusal) {
                AfterRefusal::Failed(error) => Some((error.reason(), error.is_fatal())),
                AfterRefusal::Lost => None,
            };
        let pending = "Job 7 has pending dependencies. moveToFinished".to_owned();
        assert_eq!(
            failed(&complete, Refusal::PendingDependencies),
            Some((pending, false))
        );
        let child = "Cannot complete job 7 because it has at least one failed child.";
        assert_eq!(
            failed(&complete, Refusal::FailedChildren),
            Some((format!("{child} moveToFinished"), true))
        );
        assert_eq!(
            failed(&Conclusion::WaitForChildren, Refusal::FailedChildren),
            Some((format!("{child} moveToWaitingChildren"), true))
        );
        for gone in [
            Refusal::JobMissing,
            Refusal::LockMissing,
            Refusal::LockLost,
            Refusal::from_code(-3),
        ] {
            assert_eq!(failed(&complete, gone), None, "{gone}");
        }
    }
}
