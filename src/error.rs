//! The library's error types, one per audience: [`Error`] for callers, [`Refusal`] for what a
//! script declined.

use std::time::Duration;

use crate::job::JobId;

/// A boxed source error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what was asked; each variant says what happened to the change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument, option or setting is out of its bounds; nothing was sent.
    #[error("{field} {problem}")]
    Invalid {
        /// The option or argument, by the name it has in the API.
        field: &'static str,
        /// What is wrong with it, with the bound.
        problem: String,
    },
    /// A value could not be turned into JSON; nothing was sent.
    #[error("{what} cannot be encoded as json")]
    Encode {
        /// What was being encoded.
        what: &'static str,
        /// The serializer's reason.
        #[source]
        source: serde_json::Error,
    },
    /// A stored value is not what the caller's type expects; it was left as it is.
    #[error("{what} does not decode")]
    Decode {
        /// What was being decoded, by key or field.
        what: String,
        /// The decoder's reason.
        #[source]
        source: BoxError,
    },
    /// Redis could not be reached and the request was not executed.
    #[error("redis is unreachable")]
    Unreachable(#[source] BoxError),
    /// The connection ended before the answer came: the change may or may not have happened.
    /// Asking again is safe where the call says so.
    #[error("redis did not answer; the change may have happened")]
    Indeterminate(#[source] BoxError),
    /// Redis is out of memory, read-only or otherwise unable to accept writes; nothing changed.
    #[error("redis refuses writes for now: {0}")]
    Overloaded(String),
    /// Redis answered with an error; nothing changed.
    #[error("redis answered with an error: {0}")]
    Server(String),
    /// Redis denied access: wrong credentials or a missing permission.
    #[error("redis denied access: {0}")]
    Denied(String),
    /// Redis declined to change a job; nothing changed.
    #[error("job {job} was not changed")]
    Refused {
        /// The job concerned.
        job: JobId,
        /// Why it was declined.
        #[source]
        source: Refusal,
    },
    /// There is no such job: there never was one, or it has been removed.
    #[error("job {0} does not exist")]
    JobMissing(JobId),
    /// The job was removed before it ended.
    #[error("job {0} was removed before it ended")]
    JobRemoved(JobId),
    /// The server is too old or configured in a way that loses jobs.
    #[error("unsuitable redis server: {0}")]
    Unsuitable(String),
    /// A reply had an unexpected shape.
    #[error("unexpected reply: {0}")]
    Protocol(String),
    /// The deadline passed before there was an outcome.
    #[error("no outcome within {0:?}")]
    Timeout(Duration),
    /// The client, queue or worker has been closed.
    #[error("closed")]
    Closed,
}

impl Error {
    /// Builds an [`Error::Invalid`].
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
        }
    }

    /// Says whether waiting and asking again may succeed without any other change.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Indeterminate(_) | Self::Overloaded(_) | Self::Timeout(_)
        )
    }

    /// Says whether the change is known not to have happened.
    pub fn is_unchanged(&self) -> bool {
        !matches!(self, Self::Indeterminate(_) | Self::Timeout(_))
    }
}

/// What a script declined to do, with the code BullMQ uses for it (spec: processing §20).
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
    #[error("the job is not in the required state")]
    WrongState,
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
    /// -10: the slot of a scheduler's pattern has had its iteration, whose job still exists.
    #[error("the iteration exists already")]
    IterationExists,
    /// -11: the slots to come of a scheduler's interval have jobs already.
    #[error("the next iterations exist already")]
    SlotsTaken,
    /// -20: the job, or a child that would be removed with it, is locked by a worker.
    #[error("the job is locked by a worker")]
    Locked,
    /// A code this version does not know.
    #[error("unknown code {0}")]
    Unknown(i64),
}

impl Refusal {
    /// Decodes a script's code; `lua/lib/codes.lua` has the same numbers.
    pub(crate) fn from_code(code: i64) -> Self {
        match code {
            -1 => Self::JobMissing,
            -2 => Self::LockMissing,
            -3 => Self::WrongState,
            -4 => Self::PendingDependencies,
            -5 => Self::ParentMissing,
            -6 => Self::LockLost,
            -7 => Self::ParentConflict,
            -8 => Self::SchedulerOwned,
            -9 => Self::FailedChildren,
            -10 => Self::IterationExists,
            -11 => Self::SlotsTaken,
            -20 => Self::Locked,
            other => Self::Unknown(other),
        }
    }
}
