//! The library's error types, one per audience: [`Error`] for callers, [`Refusal`] for what a
//! script declined.

mod chain;
mod decision;
mod refusal;

use std::fmt;
use std::time::Duration;

use crate::id::JobId;

pub(crate) use chain::{Chain, Outage, SharedError, causes, links};
pub(crate) use decision::{Boxed, Decided, Decision, Kind};
pub use refusal::Refusal;

/// How many characters of a refused value an error shows.
const VALUE_MAX: usize = 64;

/// A boxed source error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what was asked; each variant says what happened to the change.
///
/// A message does not repeat its cause, which is the [`source`](std::error::Error::source).
/// [`with_causes`](Self::with_causes) shows both, for log lines and terminals.
///
/// # Examples
/// ```no_run
/// # async fn run() {
/// if let Err(error) = oxbull::Client::from_env().await {
///     // redis is unreachable: 127.0.0.1:6379: connection refused ...
///     eprintln!("{}", error.with_causes());
/// }
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument, option or setting is out of its bounds; nothing was sent.
    #[error("{field} {problem}{}", got(.value.as_deref()))]
    #[non_exhaustive]
    Invalid {
        /// The option or argument, by the name it has in the API.
        field: &'static str,
        /// What is wrong with it, with the bound.
        problem: String,
        /// The value that was refused, where it may be shown: its first 64 characters, text in quotes.
        value: Option<String>,
    },
    /// A value could not be turned into JSON; nothing was sent.
    #[error("{what} cannot be encoded as json")]
    #[non_exhaustive]
    Encode {
        /// What was being encoded.
        what: &'static str,
        /// The serializer's reason.
        #[source]
        source: serde_json::Error,
    },
    /// A stored value is not what the caller's type expects; it was left as it is, and nothing
    /// was changed.
    #[error("{what} does not decode")]
    #[non_exhaustive]
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
    #[error("redis refuses writes for now")]
    Overloaded(#[source] BoxError),
    /// Redis answered with an error; nothing changed.
    #[error("redis answered with an error: {0}")]
    Server(String),
    /// Redis denied access: wrong credentials or a missing permission.
    #[error("redis denied access: {0}")]
    Denied(String),
    /// Redis declined to change a job; nothing changed.
    #[error("{}", not_changed(.job))]
    #[non_exhaustive]
    Refused {
        /// The job concerned.
        job: JobId,
        /// Why it was declined.
        #[source]
        source: Refusal,
    },
    /// Redis declined to change a queue; nothing changed.
    #[error("queue {queue} was not changed")]
    #[non_exhaustive]
    QueueRefused {
        /// The queue concerned, by its qualified name.
        queue: String,
        /// Why it was declined.
        #[source]
        source: Refusal,
    },
    /// The job does not exist: it was never added, or has been removed.
    #[error("job {0} does not exist")]
    JobMissing(JobId),
    /// The job was there, and was removed before it ended.
    #[error("job {0} was removed before it ended")]
    JobRemoved(JobId),
    /// The server is too old or configured in a way that loses jobs.
    #[error("unsuitable redis server: {0}")]
    Unsuitable(String),
    /// A reply had an unexpected shape; the request was executed.
    #[error("unexpected reply: {0}")]
    Protocol(String),
    /// The deadline passed before there was an outcome.
    #[error("no outcome within {0:?}")]
    Timeout(Duration),
    /// The job that was waited for did not end in time. It may not have been added, still wait, or run.
    #[error("job {job} did not end within {within:?}")]
    #[non_exhaustive]
    JobNotEnded {
        /// The job.
        job: JobId,
        /// How long it was waited for.
        within: Duration,
    },
    /// The client, queue or worker has been closed, and nothing was sent.
    #[error("closed")]
    Closed,
    /// A part of what was asked for is done; the rest failed.
    #[error("{done}, but the rest failed")]
    #[non_exhaustive]
    Incomplete {
        /// What is done.
        done: String,
        /// Why the rest is not.
        #[source]
        source: Box<Self>,
    },
}

fn got(value: Option<&str>) -> String {
    value.map_or_else(String::new, |value| format!(" (got {value})"))
}

fn not_changed(job: &JobId) -> String {
    if job.as_bytes().is_empty() {
        return "a job without an id was not changed".to_owned();
    }
    format!("job {job} was not changed")
}

impl Error {
    /// Builds an [`Error::Invalid`].
    pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            problem: problem.into(),
            value: None,
        }
    }

    /// Builds an [`Error::Invalid`] that shows the value: none that may be secret or job data.
    pub(crate) fn invalid_value(
        field: &'static str,
        value: impl fmt::Debug,
        problem: impl Into<String>,
    ) -> Self {
        let mut shown = format!("{value:?}");
        if let Some((end, _)) = shown.char_indices().nth(VALUE_MAX) {
            shown.truncate(end);
            shown.push_str("...");
        }
        Self::Invalid {
            field,
            problem: problem.into(),
            value: Some(shown),
        }
    }

    /// Builds an [`Error::Overloaded`] from the server's words.
    pub(crate) fn overloaded(answer: impl Into<String>) -> Self {
        Self::Overloaded(Outage::new(answer).into())
    }

    /// Shows the error followed by its causes, separated by colons.
    pub fn with_causes(&self) -> impl fmt::Display + '_ {
        Chain(self)
    }

    /// Returns whether waiting and asking again may succeed without any other change.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::Indeterminate(_)
            | Self::Overloaded(_)
            | Self::Timeout(_)
            | Self::JobNotEnded { .. } => true,
            Self::Incomplete { source, .. } => source.is_transient(),
            Self::Invalid { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Server(_)
            | Self::Denied(_)
            | Self::Refused { .. }
            | Self::QueueRefused { .. }
            | Self::JobMissing(_)
            | Self::JobRemoved(_)
            | Self::Unsuitable(_)
            | Self::Protocol(_)
            | Self::Closed => false,
        }
    }

    /// Returns whether it is known that the call has changed nothing. `false` leaves it open: all of
    /// the change may have happened, a part of it, or none.
    pub fn is_unchanged(&self) -> bool {
        match self {
            // Not sent, not executed, or refused; a value that does not decode was only read.
            Self::Invalid { .. }
            | Self::Encode { .. }
            | Self::Decode { .. }
            | Self::Unreachable(_)
            | Self::Overloaded(_)
            | Self::Server(_)
            | Self::Denied(_)
            | Self::Refused { .. }
            | Self::QueueRefused { .. }
            | Self::JobMissing(_)
            | Self::Unsuitable(_)
            | Self::Closed => true,
            Self::Indeterminate(_)
            | Self::JobRemoved(_)
            | Self::Protocol(_)
            | Self::Timeout(_)
            | Self::JobNotEnded { .. }
            | Self::Incomplete { .. } => false,
        }
    }

    /// Adds what the call had done before it failed, so that the error is not taken as a sign
    /// that nothing happened. Where the error leaves that open, it stays as it is.
    pub(crate) fn after(self, done: impl FnOnce() -> String) -> Self {
        if !self.is_unchanged() {
            return self;
        }
        Self::Incomplete {
            done: done(),
            source: Box::new(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use super::*;

    /// One error of each variant, with whether it says that nothing changed and that it may pass.
    /// `is_unchanged` matches without `_`: a new variant needs a decision, and a line here.
    fn table() -> Vec<(Error, bool, bool)> {
        let job = || JobId::existing("7");
        let json = || serde_json::from_str::<u32>("x").unwrap_err();
        vec![
            (Error::invalid("priority", "is too large"), true, false),
            (
                Error::Encode {
                    what: "job data",
                    source: json(),
                },
                true,
                false,
            ),
            (
                Error::Decode {
                    what: "data of job 7".to_owned(),
                    source: json().into(),
                },
                true,
                false,
            ),
            (Error::Unreachable("connection refused".into()), true, true),
            (
                Error::Indeterminate("the connection was lost".into()),
                false,
                true,
            ),
            (Error::overloaded("OOM"), true, true),
            (Error::Server("ERR".to_owned()), true, false),
            (Error::Denied("NOPERM".to_owned()), true, false),
            (
                Error::Refused {
                    job: job(),
                    source: Refusal::LockMissing,
                },
                true,
                false,
            ),
            (
                Error::QueueRefused {
                    queue: "bull:mail".to_owned(),
                    source: Refusal::ActiveJobs,
                },
                true,
                false,
            ),
            (Error::JobMissing(job()), true, false),
            (Error::JobRemoved(job()), false, false),
            (Error::Unsuitable("too old".to_owned()), true, false),
            (Error::Protocol("advance".to_owned()), false, false),
            (Error::Timeout(Duration::from_secs(1)), false, true),
            (
                Error::JobNotEnded {
                    job: job(),
                    within: Duration::from_secs(1),
                },
                false,
                true,
            ),
            (Error::Closed, true, false),
            (
                Error::Closed.after(|| "job 7 was added".to_owned()),
                false,
                false,
            ),
            (
                Error::overloaded("OOM").after(|| "some are removed".to_owned()),
                false,
                true,
            ),
        ]
    }

    #[test]
    fn each_error_says_what_is_known_of_the_change() {
        for (error, unchanged, transient) in table() {
            assert_eq!(error.is_unchanged(), unchanged, "{error:?}");
            assert_eq!(error.is_transient(), transient, "{error:?}");
            // Whatever fails after a part of the call is done is no longer without effect.
            let after = error.after(|| "a part is done".to_owned());
            assert!(!after.is_unchanged(), "{after:?}");
            assert_eq!(after.is_transient(), transient, "{after:?}");
        }
    }

    /// A log line must name the job and the refused value.
    #[test]
    fn texts_name_the_job_and_the_value() {
        let source = Refusal::LockMissing;
        let refused = |id: &str| {
            let job = JobId::existing(id);
            Error::Refused { job, source }.to_string()
        };
        assert_eq!(refused("7"), "job 7 was not changed");
        assert_eq!(refused(""), "a job without an id was not changed");
        let late = Error::JobNotEnded {
            job: JobId::existing("7"),
            within: Duration::from_secs(5),
        };
        assert_eq!(late.to_string(), "job 7 did not end within 5s");
        let number = Error::invalid_value("priority", 9, "must be at most 5");
        assert_eq!(number.to_string(), "priority must be at most 5 (got 9)");
        let text =
            Error::invalid_value("queue name", "a\nb", "must not contain control characters");
        assert!(text.to_string().ends_with(r#"(got "a\nb")"#), "{text}");
        let long = Error::invalid_value("job id", "x".repeat(99), "is too long").to_string();
        assert!(long.ends_with("x...)") && long.len() < 99, "{long}");
    }

    /// An error printed with its causes shows every text once.
    #[test]
    fn no_error_repeats_its_source() {
        for (error, ..) in table() {
            let causes = std::iter::successors(Some(&error as &dyn StdError), |&e| e.source());
            let texts: Vec<_> = causes.map(ToString::to_string).collect();
            for (cause, text) in texts.iter().zip(texts.iter().skip(1)) {
                assert!(!cause.contains(text.as_str()), "{texts:?}");
            }
            assert_eq!(error.with_causes().to_string(), texts.join(": "));
        }
    }
}
