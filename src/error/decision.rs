//! What a handler's error decided about its job, kept while the error travels inside of others.

use std::error::Error as StdError;
use std::fmt;

use crate::error::BoxError;

/// What becomes of the job, and where that was decided.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    pub(crate) kind: Kind,
    /// `file:line:column`, where known.
    pub(crate) location: Option<String>,
}

/// What becomes of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Retry,
    Fatal,
    Postpone,
}

/// A decided error as a boxed one: its message, and below it the decision.
#[derive(Debug)]
pub(crate) struct Boxed(pub(crate) Decided);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

impl StdError for Boxed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

/// The decision as a link between its error and the error's causes. A transparent wrapper hides the error
/// that it wraps, but not what comes below it.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) source: BoxError,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.decision.kind {
            Kind::Retry => "to be retried",
            Kind::Fatal => "not to be retried",
            Kind::Postpone => "postponed",
        })
    }
}

impl StdError for Decided {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}
