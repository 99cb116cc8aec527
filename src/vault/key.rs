//! One key of a keyring.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use ring::hmac;

use crate::error::{Error, Result};

/// Longest id of a key, in bytes.
const ID_MAX: usize = 32;

/// What the keys of single values are derived for.
const SEAL: &[u8] = b"oxbull seal v1\0";

/// A 256-bit key and the id that sealed values name it by.
///
/// The key itself encrypts nothing: every value gets a key of its own, derived by HMAC-SHA-256.
/// It is held by `ring`, which does not wipe it from memory.
#[derive(Clone)]
pub struct Key {
    id: Arc<str>,
    secret: hmac::Key,
}

impl Key {
    /// Takes a key of 32 random bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the id is not 1 to 32 of `A-Z a-z 0-9 _ -`.
    pub fn new(id: &str, bytes: &[u8; 32]) -> Result<Self> {
        let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if id.is_empty() || id.len() > ID_MAX || !id.bytes().all(letter) {
            return Err(Error::invalid(
                "key id",
                format!("must be 1 to {ID_MAX} letters, digits, '_' or '-'"),
            ));
        }
        Ok(Self {
            id: id.into(),
            secret: hmac::Key::new(hmac::HMAC_SHA256, bytes),
        })
    }

    /// Takes a key as base64 of 32 bytes, such as `openssl rand -base64 32` prints.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the id, or for text that is not base64 of 32 bytes.
    pub fn from_base64(id: &str, text: &str) -> Result<Self> {
        let text = text.trim().trim_end_matches('=');
        let bytes = STANDARD_NO_PAD
            .decode(text)
            .or_else(|_| URL_SAFE_NO_PAD.decode(text))
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| Error::invalid("key", "must be base64 of exactly 32 bytes"))?;
        Self::new(id, &bytes)
    }

    /// Returns the id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Derives the key of one value from its salt.
    pub(super) fn cipher(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(SEAL);
        context.update(salt);
        let bytes = context.sign();
        let key = UnboundKey::new(&AES_256_GCM, bytes.as_ref()).ok()?;
        Some(LessSafeKey::new(key))
    }

    /// Derives a key that signs messages of one kind.
    #[cfg(feature = "oauth")]
    pub(super) fn signer(&self, kind: &str) -> hmac::Key {
        let mut context = hmac::Context::with_key(&self.secret);
        context.update(b"oxbull sign v1\0");
        context.update(kind.as_bytes());
        hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
