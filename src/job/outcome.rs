//! How an attempt can end.

use std::fmt;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::BoxError;

/// What a handler returns.
pub type JobResult<R> = Result<Outcome<R>, JobError>;

/// The ways an attempt can end without failing. None but [`Done`](Self::Done) uses up an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<R> {
    /// The job is complete; the value is stored as its result.
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
    /// limit that is reached for longer already is not shortened. Jobs that run go on.
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

/// Longest failure reason that is stored, in bytes.
const REASON_MAX: usize = 8 * 1024;

/// A failed attempt: what went wrong, and whether trying again can help.
///
/// Any error converts with `?` into a failure that is retried while attempts are left.
///
/// # Examples
///
/// ```
/// use oxbull::JobError;
///
/// fn parse(text: &str) -> Result<u32, JobError> {
///     if text.is_empty() {
///         return Err(JobError::fatal("nothing to parse")); // no retry can help
///     }
///     Ok(text.parse::<u32>()?) // a failed attempt
/// }
/// assert!(parse("").unwrap_err().is_fatal());
/// assert!(!parse("x").unwrap_err().is_fatal());
/// ```
pub struct JobError {
    source: BoxError,
    fatal: bool,
}

impl JobError {
    /// A failed attempt; the job is retried while attempts are left.
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self {
            source: error.into(),
            fatal: false,
        }
    }

    /// A failure that no retry can mend; the job fails for good.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self {
            source: error.into(),
            fatal: true,
        }
    }

    /// Says whether the job fails for good.
    pub fn is_fatal(&self) -> bool {
        self.fatal
    }

    /// Returns the error's message, as it is stored in the job's `failedReason`.
    pub fn reason(&self) -> String {
        clip(self.source.to_string())
    }

    /// Returns the error and its causes, one per line, as stored among the job's stack traces.
    pub(crate) fn trace(&self) -> String {
        let mut trace = format!("Error: {}", self.source);
        let mut cause = self.source.source();
        while let Some(error) = cause {
            trace.push_str("\n    caused by: ");
            trace.push_str(&error.to_string());
            cause = error.source();
        }
        clip(trace)
    }
}

/// Cuts a text to the stored maximum at a character boundary.
fn clip(mut text: String) -> String {
    if text.len() > REASON_MAX {
        let mut end = REASON_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobError")
            .field("source", &self.source)
            .field("fatal", &self.fatal)
            .finish()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

// `JobError` is no `std::error::Error` itself: that lets every error type convert with `?`.
impl<E> From<E> for JobError
where
    E: std::error::Error + Send + Sync + 'static,
{
    fn from(error: E) -> Self {
        Self::retry(error)
    }
}
