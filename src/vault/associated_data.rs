//! What a sealed value is bound to.

use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, Result};
use crate::job::QueueName;

/// What a sealed value is bound to: its purpose and the key that holds it. It is authenticated
/// together with the value (the associated data of AES-GCM), so that a value copied to another key
/// does not open there.
#[derive(Clone, PartialEq, Eq)]
pub struct AssociatedData<'a> {
    purpose: Cow<'a, str>,
    key: Cow<'a, str>,
}

impl<'a> AssociatedData<'a> {
    /// Binds values to a purpose of your own and a key.
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

    /// Binds a token, or any other value of a [`Vault`](crate::kv::Vault), to its key. Purpose `token`.
    pub fn token(key: &'a str) -> Self {
        Self::known("token", key)
    }

    /// Binds a value to the jobs of a queue. Purpose `job`, key `<queue>`.
    ///
    /// The id of a job is not known before it is added, so a value sealed for the queue alone
    /// opens in every job of that queue; [`about`](Self::about) narrows that.
    pub fn job(queue: &'a QueueName) -> Self {
        Self::known("job", queue.as_str())
    }

    /// Binds the value to a subject as well, which the reader knows from elsewhere, such as the account
    /// that a job names in clear: the value does not open beside another account. The key becomes
    /// `<key>:<subject>`.
    #[must_use]
    pub fn about(self, subject: &str) -> Self {
        Self {
            key: Cow::Owned(format!("{}:{subject}", self.key)),
            purpose: self.purpose,
        }
    }

    /// As [`AssociatedData::new`], for a purpose that is known to be valid.
    pub(crate) fn known(purpose: &'a str, key: &'a str) -> Self {
        Self {
            purpose: Cow::Borrowed(purpose),
            key: Cow::Borrowed(key),
        }
    }

    /// Returns the bytes for a value sealed with `key_id`. Neither of the first two parts can contain
    /// the separator, so that no two values of this type give the same bytes.
    pub(super) fn bind(&self, key_id: &str) -> Vec<u8> {
        format!("v1.{key_id}\0{}\0{}", self.purpose, self.key).into_bytes()
    }
}

impl fmt::Debug for AssociatedData<'_> {
    /// A key may contain a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssociatedData")
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}
