//! How an attempt fails.

use std::error::Error as StdError;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::client;
use crate::error::{BoxError, Boxed, Decided, Decision, Kind, causes, links};

/// Longest failure reason that is stored, in bytes.
const REASON_MAX: usize = 8 * 1024;
/// How many causes a stack trace names.
const CAUSES_MAX: usize = 16;

/// Why an attempt failed although its handler returned no error: what [`JobError::error`] is then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptError {
    /// The handler panicked, with this message.
    #[error("handler panicked: {0}")]
    Panicked(String),
    /// The attempt took longer than the worker's
    /// [timeout](crate::WorkerBuilder::timeout).
    #[error("attempt timed out after {0:?}")]
    TimedOut(Duration),
    /// The handler was [cancelled](crate::Worker::cancel_job), and did not return in time.
    #[error("job was cancelled")]
    Cancelled,
    /// The job's data is not what the handler's type expects.
    #[error("job data does not decode: {0}")]
    Undecodable(String),
}

/// A failed attempt: what went wrong, where, and whether trying again can help.
///
/// Any error converts with `?` into a failure that is retried while attempts are left. The
/// exception is an outage of Redis: an [`Error`](crate::Error) that reports that Redis was unreachable
/// or unable to write, or an error with such a [`source`](std::error::Error::source) at any depth.
/// The attempt is [postponed](Self::postpone) then.
///
/// A `JobError` can be boxed and wrapped in other errors, `#[error(transparent)]` and
/// [`io::Error::other`](std::io::Error::other) included: what it decided holds.
///
/// Text is no error, so that neither `?` nor `into` takes it: `Err(JobError::retry("mailbox is full"))`, or
/// a handler that returns `Result<T, String>`.
///
/// The place where the error was made or where `?` converted it becomes part of the job's stack
/// trace. A function that is passed on does not know its caller: `map_err(JobError::retry)` gives
/// no place, `map_err(|error| JobError::retry(error))` does.
///
/// The message is stored as the reason of the failure, of which the first 8 KiB are kept.
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
    decision: Decision,
}

impl JobError {
    /// A failed attempt; the job is retried while attempts are left.
    #[track_caller]
    pub fn retry(error: impl Into<BoxError>) -> Self {
        Self::new(error.into(), Kind::Retry)
    }

    /// A failure that no retry can fix; the job fails for good.
    #[track_caller]
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::new(error.into(), Kind::Fatal)
    }

    /// An error that is not the job's fault, such as a service that is down for every job: the
    /// job goes back to the queue for a few seconds, and the attempt is not counted.
    ///
    /// There is no limit to how often a job is postponed, so use it for conditions that pass without a
    /// change. `?` does so for an [`Error`](crate::Error) that reports an outage of Redis.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::JobError;
    ///
    /// fn check(mail_server_is_up: bool) -> Result<(), JobError> {
    ///     if !mail_server_is_up {
    ///         return Err(JobError::postpone("the mail server is down for maintenance"));
    ///     }
    ///     Ok(())
    /// }
    /// assert!(check(false).unwrap_err().is_postponed());
    /// ```
    #[track_caller]
    pub fn postpone(error: impl Into<BoxError>) -> Self {
        Self::new(error.into(), Kind::Postpone)
    }

    /// Converts a boxed error as `?` converts any other: postponed in an outage of Redis, else retried
    /// while attempts are left. A `JobError` that was boxed, or caused the error, keeps its decision.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{BoxError, JobError};
    ///
    /// fn step() -> Result<(), BoxError> {
    ///     Err("no such mailbox".into())
    /// }
    /// fn handle() -> Result<(), JobError> {
    ///     step().map_err(|error| JobError::from_boxed(error))
    /// }
    /// assert_eq!(handle().unwrap_err().reason(), "no such mailbox");
    /// ```
    #[track_caller]
    pub fn from_boxed(error: BoxError) -> Self {
        match Self::decided(error) {
            Ok(decided) => decided,
            Err(error) if client::is_outage(&*error) => Self::new(error, Kind::Postpone),
            Err(error) => Self::new(error, Kind::Retry),
        }
    }

    /// Reads what a handler has decided from an error that is, or was caused by, its `JobError`.
    ///
    /// # Errors
    ///
    /// The error itself, about which nothing has been decided.
    pub(crate) fn decided(error: BoxError) -> Result<Self, BoxError> {
        let error = match error.downcast::<Boxed>() {
            Ok(boxed) => {
                let Decided { decision, source } = boxed.0;
                return Ok(Self { source, decision });
            }
            Err(error) => error,
        };
        // Every `Boxed` is followed by its `Decided`.
        let decision = links(&*error)
            .find_map(|link| link.downcast_ref::<Decided>())
            .map(|decided| decided.decision.clone());
        match decision {
            Some(decision) => Ok(Self {
                source: error,
                decision,
            }),
            None => Err(error),
        }
    }

    #[track_caller]
    fn new(source: BoxError, kind: Kind) -> Self {
        let location = place(Location::caller());
        Self {
            source,
            decision: Decision { kind, location },
        }
    }

    /// Replaces the place where the error was made; `None` where the library itself made it.
    #[must_use]
    pub(crate) fn at(mut self, location: Option<String>) -> Self {
        self.decision.location = location;
        self
    }

    /// Returns whether the job fails for good.
    pub fn is_fatal(&self) -> bool {
        self.decision.kind == Kind::Fatal
    }

    /// Returns whether the job goes back to the queue without having used an attempt.
    pub fn is_postponed(&self) -> bool {
        self.decision.kind == Kind::Postpone
    }

    /// Returns the error that was converted, to look for its type.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.source
    }

    /// Returns where the error was made or converted, as `file:line:column`, if that is known.
    pub fn location(&self) -> Option<&str> {
        self.decision.location.as_deref()
    }

    /// Returns the error's message, as it is stored in the job's `failedReason`.
    pub fn reason(&self) -> String {
        clip(self.source.to_string())
    }

    /// Returns the error, its place and its causes, one per line, as stored among the job's stack
    /// traces. The first two lines look like those of a JavaScript stack, which dashboards know.
    pub(crate) fn trace(&self) -> String {
        let mut trace = format!("Error: {}", self.source);
        if let Some(location) = &self.decision.location {
            trace.push_str("\n    at ");
            trace.push_str(location);
        }
        for cause in causes(&*self.source).take(CAUSES_MAX) {
            trace.push_str("\nCaused by: ");
            trace.push_str(&cause.to_string());
        }
        clip(trace)
    }
}

/// Formats a source location. One in the standard library only means that the function was passed
/// by name.
fn place(location: &Location<'_>) -> Option<String> {
    (!location.file().starts_with("/rustc/")).then(|| location.to_string())
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
            .field("decision", &self.decision)
            .finish()
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// The decision holds whichever errors wrap this one: layers and helpers of a handler may return
/// boxed errors.
impl From<JobError> for BoxError {
    fn from(error: JobError) -> Self {
        Box::new(Boxed(Decided {
            decision: error.decision,
            source: error.source,
        }))
    }
}

// `JobError` does not implement `std::error::Error`: that lets every error type convert with `?`.
impl<E> From<E> for JobError
where
    E: StdError + Send + Sync + 'static,
{
    #[track_caller]
    fn from(error: E) -> Self {
        Self::from_boxed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use super::*;
    use crate::error::{Error, SharedError};
    use crate::job::JobId;

    #[derive(Debug, thiserror::Error)]
    #[error("the letter was not stored")]
    struct Outer(#[source] io::Error);

    /// Shows the source of what it holds instead of what it holds.
    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent(#[from] Error);

    /// The place is the handler's own line, whichever way the error came about.
    #[test]
    fn place_is_where_the_error_was_made_or_converted() {
        fn converted(line: &mut u32) -> Result<(), JobError> {
            *line = line!() + 1;
            Err(io::Error::other("no disk"))?;
            Ok(())
        }
        let mut line = 0;
        let converted = converted(&mut line).unwrap_err();
        let refused: Result<(), &str> = Err("no");
        let closure = refused.map_err(|error| (JobError::retry(error), line!()));
        for (error, line) in [
            (converted, line),
            closure.unwrap_err(),
            (JobError::fatal("no use"), line!()),
            (JobError::postpone("not now"), line!()),
            (JobError::from_boxed("boxed".into()), line!()),
        ] {
            let place = error.location().unwrap();
            assert!(
                place.starts_with(&format!("{}:{line}:", file!())),
                "{place} {line}"
            );
        }
        // Better no place than one in the standard library.
        let passed = refused.map_err(JobError::retry);
        assert_eq!(passed.unwrap_err().location(), None);
    }

    /// Dashboards show the first line in bold and know `at`; causes follow, outermost first.
    #[test]
    fn trace_names_the_error_its_place_and_its_causes() {
        let error = JobError::from(Outer(io::Error::other(Outer(io::Error::other(
            "disk full",
        )))));
        let place = error.location().unwrap().to_owned();
        assert_eq!(
            error.trace(),
            format!(
                "Error: the letter was not stored\n    at {place}\
                 \nCaused by: the letter was not stored\nCaused by: disk full"
            )
        );
        assert_eq!(JobError::retry("a").at(None).trace(), "Error: a");
    }

    /// Helpers and layers return boxed errors: what was decided inside holds outside.
    #[test]
    fn decision_survives_boxing_and_wrapping() {
        #[derive(Debug, thiserror::Error)]
        #[error("step 2 failed")]
        struct Step(#[source] BoxError);

        let fatal = || BoxError::from(JobError::fatal("no such address"));
        let place = JobError::from_boxed(fatal());
        assert_eq!(place.reason(), "no such address");
        assert!(place.location().is_some());
        let wrapped = JobError::from(Step(fatal()));
        assert_eq!(wrapped.reason(), "step 2 failed");
        let twice = JobError::from_boxed(BoxError::from(JobError::from(Step(fatal()))));
        for error in [place, wrapped, twice] {
            assert!(error.is_fatal(), "{error:?}");
        }
        let postponed = JobError::from(Step(JobError::postpone("later").into()));
        assert!(postponed.is_postponed());
    }

    /// Wrappers that show the source of what they hold, instead of what they hold, change nothing.
    #[test]
    fn decision_survives_transparent_wrappers() {
        #[derive(Debug, thiserror::Error)]
        #[error(transparent)]
        struct Transparent(BoxError);

        let wrappers: [fn(JobError) -> BoxError; 6] = [
            |error| Transparent(error.into()).into(),
            |error| Transparent(Transparent(error.into()).into()).into(),
            |error| io::Error::other(error).into(),
            |error| Transparent(io::Error::other(error).into()).into(),
            |error| Arc::new(io::Error::other(error)).into(),
            |error| Arc::<dyn StdError + Send + Sync>::from(BoxError::from(error)).into(),
        ];
        let disk = || Outer(io::Error::other("disk full"));
        for wrap in wrappers {
            let fatal = JobError::from_boxed(wrap(JobError::fatal("no such address")));
            assert!(fatal.is_fatal(), "{fatal:?}");
            assert_eq!(fatal.reason(), "no such address");
            assert!(!fatal.trace().contains("retried"), "{}", fatal.trace());
            let postponed = JobError::from_boxed(wrap(JobError::postpone(disk())));
            assert!(postponed.is_postponed(), "{postponed:?}");
            let causes = "\nCaused by: disk full";
            let trace = postponed.trace();
            assert!(trace.ends_with(causes), "{trace}");
            assert!(!trace.contains("postponed"), "{trace}");
            // An outage that the handler has decided about is retried as it asked.
            let retried = JobError::retry(Error::Unreachable("refused".into()));
            let retried = JobError::from_boxed(wrap(retried));
            assert!(!retried.is_postponed(), "{retried:?}");
        }
    }

    /// An outage of Redis postpones the job, at any depth of the chain of errors; no other error does,
    /// nor one about which the handler has decided.
    #[test]
    fn outage_of_redis_postpones_the_job() {
        let down = || Error::Unreachable("refused".into());
        let full = || Error::overloaded("OOM");
        let lost = || Error::Indeterminate("cut".into());
        for error in [
            JobError::from(down()),
            JobError::from(full()),
            JobError::from(lost()),
            JobError::from(Box::new(full())),
            JobError::from(Arc::new(full())),
            JobError::from(Arc::<dyn StdError + Send + Sync>::from(BoxError::from(
                full(),
            ))),
            JobError::from(Outer(io::Error::other(full()))),
            JobError::from(io::Error::other(Arc::new(Outer(io::Error::other(down()))))),
            JobError::from_boxed(down().into()),
            JobError::from(Transparent(full())),
            JobError::from(SharedError::new(full()).copy()),
            JobError::from(Transparent(SharedError::new(full()).copy())),
            JobError::from(full().after(|| "a part is done".to_owned())),
        ] {
            assert!(error.is_postponed() && !error.is_fatal(), "{error:?}");
        }
        for error in [
            JobError::from(Error::Closed),
            JobError::from(Error::Server("WRONGTYPE".into())),
            JobError::from(Error::Denied("NOPERM".into())),
            // The job that it waited for did not end; Redis works.
            JobError::from(Error::JobNotEnded {
                job: JobId::existing("7"),
                within: Duration::from_secs(1),
            }),
            JobError::from(Error::Timeout(Duration::from_secs(1))),
            JobError::from(io::Error::from(io::ErrorKind::TimedOut)),
            JobError::retry(down()),
            JobError::fatal(down()),
        ] {
            assert!(!error.is_postponed(), "{error:?}");
        }
    }
}
