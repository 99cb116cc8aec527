//! The names of sessions: whose they are, what the browser holds, what Redis sees.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use crate::error::{Error, Result};
use crate::kv::check_id;

/// Bytes of a token that are random.
const SECRET_LEN: usize = 32;

/// Characters that 32 bytes take as base64url: a token's secret, and the id made of it.
const TEXT_LEN: usize = 43;

/// The id of a user, as part of a key: 1 to 128 of `A-Z a-z 0-9 _ - . @ %`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is empty, too long or would break a key.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        check_id("user id", id.as_ref())?;
        Ok(Self(id.as_ref().into()))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a session, as Redis and logs may see it: the SHA-256 of the browser's secret as
/// base64url. It names a session, to end it for instance, and does not
/// authenticate anyone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// Checks and wraps an id that was shown before.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no id of a session.
    pub fn parse(text: &str) -> Result<Self> {
        check_secret("session id", text)?;
        Ok(Self(text.into()))
    }

    /// Names the session of a secret.
    pub(super) fn of(secret: &str) -> Self {
        let hash = digest(&SHA256, secret.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(hash).into())
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the browser holds: `<secret>.<user id>`, with 256 random bits. Safe in a cookie as it is;
/// give the cookie `__Host-`, `Secure`, `HttpOnly` and `SameSite=Lax`.
///
/// Redis never sees the secret, only its hash: a dump or a `MONITOR` gives no login away. Hashing
/// also keeps the time of a look-up independent of the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken {
    text: String,
    user: UserId,
    id: SessionId,
}

impl SessionToken {
    /// Reads what a browser sent.
    ///
    /// # Errors
    /// [`Error::Invalid`] when no session can have this token.
    pub fn parse(text: &str) -> Result<Self> {
        let odd = || Error::invalid("session token", "is not one that was given out");
        let (secret, user) = text.split_once('.').ok_or_else(odd)?;
        check_secret("session token", secret)?;
        let user = UserId::new(user).map_err(|_| odd())?;
        Ok(Self::new(secret, user))
    }

    /// Generates a token with a random secret.
    pub(super) fn generate(user: UserId) -> Result<Self> {
        let secret: [u8; SECRET_LEN] = crate::vault::random()?;
        Ok(Self::new(&URL_SAFE_NO_PAD.encode(secret), user))
    }

    fn new(secret: &str, user: UserId) -> Self {
        Self {
            text: format!("{secret}.{user}"),
            id: SessionId::of(secret),
            user,
        }
    }

    /// Returns the token as the value of a cookie. It is a secret.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whose session it is, if there is such a session.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns the id of the session.
    pub fn id(&self) -> &SessionId {
        &self.id
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionToken")
            .field("user", &self.user)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn check_secret(field: &'static str, text: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if text.len() == TEXT_LEN && text.bytes().all(fits) {
        return Ok(());
    }
    Err(Error::invalid(field, "is not one that was given out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A user id may hold dots; the secret cannot, so a token reads one way only.
    #[test]
    fn tokens_survive_the_cookie() {
        let user = UserId::new("a.b@c").unwrap();
        let token = SessionToken::generate(user).unwrap();
        assert_eq!(SessionToken::parse(token.as_str()).unwrap(), token);
        assert!(!format!("{token:?}").contains(&token.as_str()[..TEXT_LEN]));
        let short = &token.as_str()[1..];
        let spaced = token.as_str().replace("a.b", "a b");
        for odd in ["", ".", "x", "x.y", short, &spaced, &"x".repeat(TEXT_LEN)] {
            assert!(SessionToken::parse(odd).is_err(), "{odd}");
        }
    }

    /// The id in the key is the hash of the text before the dot, as a Node.js service computes it.
    #[test]
    fn id_is_the_hash_of_the_secret() {
        let id = SessionId::of("abc");
        assert_eq!(id.as_str(), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
    }
}
