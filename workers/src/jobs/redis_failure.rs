//! What a failed request to Redis means for a job.

use oxbull::{BoxError, Error, JobError};

/// Ends an attempt because a request to Redis failed. An outage, a full server and a missing
/// permission are not the job's fault, so these use no attempt.
#[track_caller]
pub(crate) fn redis_failure(error: impl Into<BoxError>) -> JobError {
    let error = error.into();
    if is_denied(&*error) {
        JobError::postpone(error)
    } else {
        JobError::from_boxed(error)
    }
}

/// Whether a permission was missing, by the error itself or by one of its causes.
fn is_denied(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|error| matches!(error.downcast_ref(), Some(Error::Denied(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error of this application with its cause.
    #[derive(Debug, thiserror::Error)]
    #[error("wrapped")]
    struct Wrapped(#[source] BoxError);

    /// An outage or a permission that is missing must not use up the attempts of a whole backlog;
    /// what is wrong with the job itself must.
    #[test]
    fn attempts_are_used_only_by_what_is_the_jobs_fault() {
        for (error, postponed) in [
            (Error::Overloaded("OOM".into()).into(), true),
            (Error::Unreachable("gone".into()).into(), true),
            (Error::Denied("evalsha".to_owned()).into(), true),
            (Wrapped(Error::Denied("x".to_owned()).into()).into(), true),
            (Wrapped(Error::Overloaded("x".into()).into()).into(), true),
            (Error::Protocol("odd".to_owned()).into(), false),
            (BoxError::from("odd"), false),
        ] {
            let text = error.to_string();
            assert_eq!(redis_failure(error).is_postponed(), postponed, "{text}");
        }
    }
}
