//! How an attempt can end without failing.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::JobError;

/// What a handler returns.
pub type JobResult<R> = Result<Outcome<R>, JobError>;

/// The ways an attempt can end without failing. None but [`Done`](Self::Done) uses up an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<R> {
    /// The job is complete; the value is stored as its result. While a child of the job is pending this
    /// is refused: the attempt has failed, and the value is dropped. Return
    /// [`WaitForChildren`](Self::WaitForChildren) first.
    Done(R),
    /// The job runs again after this time.
    DelayFor(Duration),
    /// The job runs again at this time.
    DelayUntil(Timestamp),
    /// The job goes back to be the next to run.
    Release,
    /// The job runs again once its pending children have ended.
    WaitForChildren,
    /// The job goes back to be the next to run, and the queue starts no job for this long.
    ///
    /// That holds for this worker, and for every worker that knows a rate limit, its own or the
    /// global one; another worker without a limit goes on, as in BullMQ, and may take the job. A
    /// limit that lasts longer already is not shortened, but a window of the queue's rate limit that is
    /// under way ends: once this wait is over, the limit counts from zero. Running jobs are not affected.
    RateLimited(Duration),
}

impl<R> Outcome<R> {
    /// Converts the value of [`Outcome::Done`].
    ///
    /// # Errors
    ///
    /// Whatever `convert` returns.
    pub fn try_map<T, E>(self, convert: impl FnOnce(R) -> Result<T, E>) -> Result<Outcome<T>, E> {
        Ok(match self {
            Self::Done(value) => Outcome::Done(convert(value)?),
            Self::DelayFor(wait) => Outcome::DelayFor(wait),
            Self::DelayUntil(at) => Outcome::DelayUntil(at),
            Self::Release => Outcome::Release,
            Self::WaitForChildren => Outcome::WaitForChildren,
            Self::RateLimited(wait) => Outcome::RateLimited(wait),
        })
    }
}
