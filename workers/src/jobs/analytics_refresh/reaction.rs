//! What a failed Graph API request means for a job.

use std::time::Duration;

use oxbull::{BoxError, JobError, JobResult, Outcome};

use crate::graph::{BLOCK_PAUSE, DEFAULT_COOLDOWN, Failure, LimitScope, SHORTEST_COOLDOWN};

/// What to do with a job whose request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Fail it for good; trying again cannot help.
    Fail,
    /// Fail this attempt; backoff picks the next.
    Retry,
    /// Put it off without using an attempt: only its account is limited.
    Postpone(Duration),
    /// Put it back and hold the whole queue: every account is limited.
    LimitQueue(Duration),
}

impl Reaction {
    /// Ends an attempt that failed with `error` accordingly.
    ///
    /// # Errors
    /// The failed attempt, unless the job is only postponed.
    pub(super) fn settle<R>(self, error: impl Into<BoxError>) -> JobResult<R> {
        match self {
            Self::Fail => Err(JobError::fatal(error)),
            Self::Retry => Err(JobError::retry(error)),
            Self::Postpone(wait) => Ok(Outcome::DelayFor(wait)),
            Self::LimitQueue(wait) => Ok(Outcome::RateLimited(wait)),
        }
    }
}

impl From<Failure> for Reaction {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Permanent | Failure::MissingPermission | Failure::ExpiredToken => Self::Fail,
            Failure::Transient | Failure::NotReady | Failure::Unclassified => Self::Retry,
            Failure::Blocked => Self::Postpone(BLOCK_PAUSE),
            Failure::RateLimited { scope, wait } => {
                let wait = wait.unwrap_or(DEFAULT_COOLDOWN).max(SHORTEST_COOLDOWN);
                match scope {
                    LimitScope::Account | LimitScope::Publishing => Self::Postpone(wait),
                    LimitScope::Application => Self::LimitQueue(wait),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(scope: LimitScope, wait: Option<u64>) -> Reaction {
        Failure::RateLimited {
            scope,
            wait: wait.map(Duration::from_secs),
        }
        .into()
    }

    /// One account's limit must not hold up the others; the application's must hold up all.
    #[test]
    fn limits_postpone_one_job_or_hold_the_queue() {
        assert_eq!(
            limited(LimitScope::Account, Some(7)),
            Reaction::Postpone(Duration::from_secs(7))
        );
        assert_eq!(
            limited(LimitScope::Account, Some(0)),
            Reaction::Postpone(SHORTEST_COOLDOWN)
        );
        assert_eq!(
            limited(LimitScope::Application, None),
            Reaction::LimitQueue(DEFAULT_COOLDOWN)
        );
    }

    /// An expired token cannot heal by itself, so its jobs fail at once.
    #[test]
    fn permanent_failures_fail_and_passing_ones_retry() {
        assert_eq!(Reaction::from(Failure::Permanent), Reaction::Fail);
        assert_eq!(Reaction::from(Failure::ExpiredToken), Reaction::Fail);
        assert_eq!(Reaction::from(Failure::MissingPermission), Reaction::Fail);
        assert_eq!(Reaction::from(Failure::Unclassified), Reaction::Retry);
        assert_eq!(Reaction::from(Failure::Transient), Reaction::Retry);
    }
}
