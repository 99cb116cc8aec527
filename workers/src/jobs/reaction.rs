//! What a failed Graph API request means for a job.

use std::time::Duration;

use oxbull::{BoxError, Error, JobError, JobResult, Outcome};

use crate::graph::{Failure, LimitScope};

/// The wait when the API limits our rate and does not say for how long.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// The shortest wait after a limit, so that a job never spins on one.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);

/// Ends an attempt for which Redis could not be asked. An outage, a full server and a permission that
/// is missing are not the job's fault, so these cost it no attempt.
#[track_caller]
pub(crate) fn not_asked(error: impl Into<BoxError>) -> JobError {
    let error = error.into();
    if is_denied(&*error) {
        JobError::postpone(error)
    } else {
        JobError::from_boxed(error)
    }
}

/// Says whether a permission was missing, be it by the error itself or by what caused it.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| matches!(error.downcast_ref(), Some(Error::Denied(_))))
}

/// What to do with a job whose request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Fail it for good; trying again cannot help.
    Fail,
    /// Fail this attempt; backoff picks the next.
    Retry,
    /// Put it off without using an attempt: only its account is limited.
    PutOff(Duration),
    /// Put it back and hold the whole queue: every account is limited.
    HoldQueue(Duration),
}

impl Reaction {
    /// Ends an attempt that failed with `error` accordingly.
    ///
    /// # Errors
    /// The failed attempt, unless the job is only put off.
    pub fn settle<R>(self, error: impl Into<BoxError>) -> JobResult<R> {
        match self {
            Self::Fail => Err(JobError::fatal(error)),
            Self::Retry => Err(JobError::retry(error)),
            Self::PutOff(wait) => Ok(Outcome::DelayFor(wait)),
            Self::HoldQueue(wait) => Ok(Outcome::RateLimited(wait)),
        }
    }
}

impl From<Failure> for Reaction {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Permanent | Failure::ExpiredToken => Self::Fail,
            Failure::Transient | Failure::NotReady => Self::Retry,
            Failure::RateLimited { scope, wait } => {
                let wait = wait.unwrap_or(DEFAULT_LIMIT).max(SHORTEST_LIMIT);
                match scope {
                    LimitScope::Account | LimitScope::Publishing => Self::PutOff(wait),
                    LimitScope::Application => Self::HoldQueue(wait),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::post_publishing::PublishError;

    fn limited(scope: LimitScope, wait: Option<u64>) -> Reaction {
        Failure::RateLimited {
            scope,
            wait: wait.map(Duration::from_secs),
        }
        .into()
    }

    /// One account's limit must not hold up the others; the application's must hold up all.
    #[test]
    fn limits_put_off_one_job_or_hold_the_queue() {
        assert_eq!(
            limited(LimitScope::Account, Some(7)),
            Reaction::PutOff(Duration::from_secs(7))
        );
        assert_eq!(
            limited(LimitScope::Account, Some(0)),
            Reaction::PutOff(SHORTEST_LIMIT)
        );
        assert_eq!(
            limited(LimitScope::Application, None),
            Reaction::HoldQueue(DEFAULT_LIMIT)
        );
    }

    /// An outage or a permission that is missing must not use up the attempts of a whole backlog;
    /// what is wrong with the job itself must.
    #[test]
    fn attempts_are_used_only_by_what_is_the_jobs_fault() {
        for (error, postponed) in [
            (Error::Overloaded("OOM".into()).into(), true),
            (Error::Unreachable("gone".into()).into(), true),
            (Error::Denied("evalsha".to_owned()).into(), true),
            (
                PublishError::Notebook(Error::Denied("x".to_owned()).into()).into(),
                true,
            ),
            (
                PublishError::Notebook(Error::Overloaded("x".into()).into()).into(),
                true,
            ),
            (Error::Protocol("odd".to_owned()).into(), false),
            (BoxError::from("odd"), false),
        ] {
            let text = error.to_string();
            assert_eq!(not_asked(error).is_postponed(), postponed, "{text}");
        }
    }

    /// An expired token cannot heal by itself, so its jobs fail at once.
    #[test]
    fn permanent_failures_fail_and_passing_ones_retry() {
        assert_eq!(Reaction::from(Failure::Permanent), Reaction::Fail);
        assert_eq!(Reaction::from(Failure::ExpiredToken), Reaction::Fail);
        assert_eq!(Reaction::from(Failure::Transient), Reaction::Retry);
    }
}
