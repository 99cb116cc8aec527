//! Sealing and opening, and the text form of sealed values.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, NONCE_LEN, Nonce};

use super::{AssociatedData, Key};
use crate::error::{Error, Result};

/// Most keys in a keyring: an old one is of use only as long as its values live.
pub const KEYS_MAX: usize = 16;

/// Longest value that is sealed, in bytes, unless [`Keyring::max_plaintext`] says otherwise.
pub const PLAINTEXT_MAX: usize = 1 << 20;

/// Where [`Keyring::from_env`] finds the keys.
const VARIABLE: &str = "ENCRYPTION_KEYS";

/// What every sealed value begins with.
const VERSION: &str = "v1.";

/// Bytes that the key of a value is derived from; the nonce follows them.
const SALT_LEN: usize = 12;

/// The keys of an application: one that seals, and older ones that can still open.
///
/// To rotate, give every process the new key with [`decrypt_with`](Keyring::decrypt_with), then make it
/// the active one, and keep the old one until the last value sealed with it is gone. Cheap to clone.
///
/// # Examples
/// ```
/// use oxbull::vault::{Key, Keyring, AssociatedData};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keyring = Keyring::new(Key::from_base64("2026", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U=")?)
///     .decrypt_with(Key::from_base64("2025", "b2xkZXJvbGRlcm9sZGVyb2xkZXJvbGRlcm9sZGVyb2w=")?)?;
/// let associated_data = AssociatedData::token("token:instagram:17");
/// let sealed = keyring.seal(&associated_data, b"IGQVJ...")?;
/// assert!(sealed.starts_with("v1.2026."));
/// assert_eq!(keyring.open(&associated_data, &sealed)?, b"IGQVJ...");
/// assert!(keyring.open(&AssociatedData::token("token:instagram:18"), &sealed).is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Keyring {
    /// The first one is active.
    keys: Arc<[Key]>,
    max_plaintext: usize,
}

/// Why a sealed value does not open; it was left as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// It is no sealed value of this version.
    #[error("the value is not sealed as it should be: {0}")]
    Malformed(&'static str),
    /// It was sealed with a key that this keyring does not have.
    #[error("the value is sealed with the unknown key {0:?}")]
    UnknownKey(String),
    /// It was changed, or is bound to other associated data.
    #[error("the value was tampered with or belongs elsewhere")]
    NotAuthentic,
    /// It opened, and is not of the type that the caller expects.
    #[error("the sealed value does not decode: {0}")]
    Content(String),
}

impl OpenError {
    /// Says that opened JSON is not a `T`; serde's own text may quote the value.
    pub(crate) fn content(error: &serde_json::Error) -> Self {
        Self::Content(format!(
            "{:?} error at column {}",
            error.classify(),
            error.column()
        ))
    }
}

impl Keyring {
    /// Starts a keyring with its active key.
    pub fn new(active: Key) -> Self {
        Self {
            keys: Arc::new([active]),
            max_plaintext: PLAINTEXT_MAX,
        }
    }

    /// Adds an older key that can still open values, or a newer one that is to become active.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is a key of this id, or there are [`KEYS_MAX`] keys.
    pub fn decrypt_with(mut self, key: Key) -> Result<Self> {
        if self.keys.iter().any(|known| known.id() == key.id()) {
            return Err(Error::invalid(
                "keyring",
                format!("has two keys with the id {}", key.id()),
            ));
        }
        if self.keys.len() >= KEYS_MAX {
            return Err(Error::invalid(
                "keyring",
                format!("must not have more than {KEYS_MAX} keys"),
            ));
        }
        self.keys = self.keys.iter().cloned().chain([key]).collect();
        Ok(self)
    }

    /// Reads `ENCRYPTION_KEYS`: `id:base64` pairs with commas between them, the active one first.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is missing or a key is not as [`Key::from_base64`] wants it. The
    /// text of the error has no key.
    pub fn from_env() -> Result<Self> {
        let text = std::env::var(VARIABLE)
            .map_err(|_| Error::invalid(VARIABLE, "is missing or no text"))?;
        Self::parse(&text)
    }

    /// Reads keys in the form of `ENCRYPTION_KEYS`.
    ///
    /// # Errors
    /// As [`Keyring::from_env`].
    pub fn parse(text: &str) -> Result<Self> {
        let mut keyring: Option<Self> = None;
        for pair in text.split(',').map(str::trim) {
            let (id, key) = pair.split_once(':').ok_or_else(|| {
                Error::invalid(VARIABLE, "must be id:base64 pairs with commas between them")
            })?;
            let key = Key::from_base64(id, key)?;
            keyring = Some(match keyring {
                None => Self::new(key),
                Some(keyring) => keyring.decrypt_with(key)?,
            });
        }
        keyring.ok_or_else(|| Error::invalid(VARIABLE, "has no key"))
    }

    /// Sets the longest value that is sealed, in bytes. Default: [`PLAINTEXT_MAX`].
    #[must_use]
    pub fn max_plaintext(mut self, bytes: usize) -> Self {
        self.max_plaintext = bytes;
        self
    }

    /// Returns the id of the key that seals.
    pub fn active_id(&self) -> &str {
        self.keys.first().map_or("", Key::id)
    }

    /// Seals a value, bound to its associated data, with the active key. The text is safe in JSON, URLs and cookies.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the value is too long, or the system has no random numbers.
    pub fn seal(&self, associated_data: &AssociatedData<'_>, plaintext: &[u8]) -> Result<String> {
        if plaintext.len() > self.max_plaintext {
            return Err(Error::invalid(
                "plaintext",
                format!("must not be longer than {} bytes", self.max_plaintext),
            ));
        }
        let key = self.keys.first();
        let key = key.ok_or_else(|| Error::invalid("keyring", "has no key"))?;
        let unique: [u8; SALT_LEN + NONCE_LEN] = super::random()?;
        let mut body = plaintext.to_vec();
        let sealed = split(&unique).and_then(|(salt, nonce)| {
            let aad = Aad::from(associated_data.bind(key.id()));
            let cipher = key.cipher(salt)?;
            cipher.seal_in_place_append_tag(nonce, aad, &mut body).ok()
        });
        sealed.ok_or_else(|| Error::invalid("plaintext", "cannot be sealed"))?;
        Ok(format!(
            "{VERSION}{}.{}.{}",
            key.id(),
            URL_SAFE_NO_PAD.encode(unique),
            URL_SAFE_NO_PAD.encode(body)
        ))
    }

    /// Opens a value that was sealed with this associated data, with whichever key it names.
    ///
    /// # Errors
    /// [`OpenError`] says why it does not open.
    pub fn open(
        &self,
        associated_data: &AssociatedData<'_>,
        sealed: &str,
    ) -> Result<Vec<u8>, OpenError> {
        let parts = Parts::of(sealed)?;
        let key = self.keys.iter().find(|key| key.id() == parts.key_id);
        let key = key.ok_or_else(|| OpenError::UnknownKey(shown(parts.key_id)))?;
        let unique = decode(parts.unique, "its nonce is not base64url")?;
        let (salt, nonce) =
            split(&unique).ok_or(OpenError::Malformed("its nonce has no 24 bytes"))?;
        let mut body = decode(parts.body, "its content is not base64url")?;
        let cipher = key.cipher(salt).ok_or(OpenError::NotAuthentic)?;
        let length = cipher
            .open_in_place(nonce, Aad::from(associated_data.bind(key.id())), &mut body)
            .map_err(|_| OpenError::NotAuthentic)?
            .len();
        body.truncate(length);
        Ok(body)
    }

    /// Returns whether a value was sealed with another key than the active one, and should be sealed
    /// again before that key is dropped.
    pub fn is_stale(&self, sealed: &str) -> bool {
        Parts::of(sealed).is_ok_and(|parts| parts.key_id != self.active_id())
    }

    /// Signs a message of one kind with the active key.
    #[cfg(feature = "oauth")]
    pub(crate) fn sign(&self, kind: &str, message: &[u8]) -> Vec<u8> {
        self.keys.first().map_or_else(Vec::new, |key| {
            ring::hmac::sign(&key.signer(kind), message)
                .as_ref()
                .to_vec()
        })
    }

    /// Returns whether a message was signed with any of the keys, in constant time for each.
    #[cfg(feature = "oauth")]
    pub(crate) fn verify(&self, kind: &str, message: &[u8], signature: &[u8]) -> bool {
        let signed = |key: &Key| ring::hmac::verify(&key.signer(kind), message, signature).is_ok();
        self.keys.iter().any(signed)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(Key::id))
            .finish()
    }
}

/// `v1.<key id>.<salt and nonce>.<ciphertext and tag>`
struct Parts<'a> {
    key_id: &'a str,
    unique: &'a str,
    body: &'a str,
}

impl<'a> Parts<'a> {
    fn of(sealed: &'a str) -> Result<Self, OpenError> {
        let rest = sealed.strip_prefix(VERSION);
        let rest = rest.ok_or(OpenError::Malformed("it does not begin with v1"))?;
        let mut parts = rest.split('.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(key_id), Some(unique), Some(body), None) => Ok(Self {
                key_id,
                unique,
                body,
            }),
            _ => Err(OpenError::Malformed("it has not four parts")),
        }
    }
}

/// Takes salt and nonce apart.
fn split(unique: &[u8]) -> Option<(&[u8], Nonce)> {
    let (salt, nonce) = unique.split_at_checked(SALT_LEN)?;
    Some((salt, Nonce::try_assume_unique_for_key(nonce).ok()?))
}

fn decode(text: &str, problem: &'static str) -> Result<Vec<u8>, OpenError> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| OpenError::Malformed(problem))
}

/// Shortens what stands where a key id should.
fn shown(key_id: &str) -> String {
    key_id.chars().take(32).collect()
}
