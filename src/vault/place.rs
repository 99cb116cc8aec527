//! Where a sealed value belongs.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Result};
use crate::job::QueueName;

/// What a sealed value is for and where it is kept; it opens nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Place<'a> {
    purpose: Cow<'a, str>,
    key: Cow<'a, str>,
}

impl<'a> Place<'a> {
    /// Names a place for a purpose of your own.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the purpose is empty or contains control characters.
    pub fn new(purpose: &'a str, key: &'a str) -> Result<Self> {
        if purpose.is_empty() || purpose.chars().any(char::is_control) {
            return Err(Error::invalid(
                "purpose",
                "must not be empty or contain control characters",
            ));
        }
        Ok(Self::known(purpose, key))
    }

    /// Names the key that holds a token, or any other value of a [`Vault`](super::Vault).
    /// Purpose `token`.
    pub fn token(key: &'a str) -> Self {
        Self::known("token", key)
    }

    /// Names the jobs of a queue. Purpose `job`, key `<queue>`.
    ///
    /// The id of a job is not known before it is added, so a value sealed for the queue alone
    /// opens in every job of that queue; [`about`](Self::about) narrows that.
    pub fn job(queue: &'a QueueName) -> Self {
        Self::known("job", queue.as_str())
    }

    /// Narrows the place to a subject that the reader knows from elsewhere, such as the account
    /// that a job names in clear: the value does not open beside another account. The key becomes
    /// `<key>:<subject>`.
    #[must_use]
    pub fn about(self, subject: &str) -> Self {
        Self {
            key: Cow::Owned(format!("{}:{subject}", self.key)),
            purpose: self.purpose,
        }
    }

    /// Names a place whose purpose is known to be sound.
    pub(crate) fn known(purpose: &'a str, key: &'a str) -> Self {
        Self {
            purpose: Cow::Borrowed(purpose),
            key: Cow::Borrowed(key),
        }
    }

    /// Returns the associated data of a value sealed with `key_id`. Neither of the first two
    /// parts can contain the separator, so no two places share it.
    pub(super) fn bind(&self, key_id: &str) -> Vec<u8> {
        format!("v1.{key_id}\0{}\0{}", self.purpose, self.key).into_bytes()
    }
}

impl fmt::Debug for Place<'_> {
    /// A key may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}
