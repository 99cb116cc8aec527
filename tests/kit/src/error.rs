//! The one error of the kit: a text for the reader of a failed test.

use std::fmt;

/// What went wrong in the test environment, in words.
#[derive(Debug, Clone)]
pub struct KitError(String);

/// A result whose error is a [`KitError`].
pub type Result<T> = std::result::Result<T, KitError>;

impl KitError {
    /// Makes an error from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Makes an error that names the step that failed and why.
    pub(crate) fn because(step: impl fmt::Display, cause: impl fmt::Display) -> Self {
        Self(format!("{step}: {cause}"))
    }
}

impl fmt::Display for KitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for KitError {}
