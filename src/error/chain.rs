//! Errors inside of errors: shown one after the other, searched for a type, shared.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::error::{Decided, Error};

/// Shows an error with its causes, for log lines.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0, f)?;
        causes(self.0).try_for_each(|cause| write!(f, ": {cause}"))
    }
}

/// Returns the causes of an error that are to be shown, outermost first.
pub(crate) fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(error.source(), |&error| error.source())
        .filter(|cause| !cause.is::<Decided>())
}

/// Walks an error and everything below it, to look for a type: also through errors that hold another
/// one and leave it out of their sources.
pub(crate) fn links<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| held(error).or_else(|| error.source()))
}

/// Returns the error that this one holds, where its sources leave it out.
fn held<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    type Dyn = dyn StdError + Send + Sync;
    if let Some(SharedError(shared)) = error.downcast_ref() {
        return Some(&**shared);
    }
    if let Some(shared) = error.downcast_ref::<Arc<Dyn>>() {
        return Some(&**shared);
    }
    if let Some(shared) = error.downcast_ref::<Arc<Error>>() {
        return Some(&**shared);
    }
    if let Some(boxed) = error.downcast_ref::<Box<Error>>() {
        return Some(&**boxed);
    }
    let io: &std::io::Error = error.downcast_ref()?;
    io.get_ref().map(|held| held as &(dyn StdError + 'static))
}

/// Why a server cannot serve now, in its words. The type is what tells it from other causes: an
/// application's error may show the sources of ours and hide the error itself.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Outage(String);

impl Outage {
    pub(super) fn new(answer: impl Into<String>) -> Self {
        Self(answer.into())
    }
}

/// An error that several callers get.
#[derive(Debug, Clone)]
pub(crate) struct SharedError(pub(crate) Arc<Error>);

impl SharedError {
    /// Shares an error.
    pub(crate) fn new(error: Error) -> Self {
        Self(Arc::new(error))
    }

    /// Returns a copy for one caller.
    pub(crate) fn copy(&self) -> Error {
        let source = || Box::new(self.clone());
        match &*self.0 {
            Error::Unreachable(_) => Error::Unreachable(source()),
            Error::Overloaded(_) => Error::Overloaded(source()),
            Error::Server(text) => Error::Server(text.clone()),
            Error::Denied(text) => Error::Denied(text.clone()),
            Error::Unsuitable(text) => Error::Unsuitable(text.clone()),
            Error::Protocol(text) => Error::Protocol(text.clone()),
            Error::Closed => Error::Closed,
            // Anything else about a call that was sent leaves its outcome unknown.
            _ => Error::Indeterminate(source()),
        }
    }
}

impl fmt::Display for SharedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StdError::source(&*self.0) {
            Some(source) => fmt::Display::fmt(source, f),
            None => fmt::Display::fmt(&*self.0, f),
        }
    }
}

impl StdError for SharedError {}
