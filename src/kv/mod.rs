//! Values by key: with a time to live, as counters and as hashes; sessions, OAuth states and rate
//! limits.

mod claim;
mod client;
mod flush;
mod id;
#[cfg(feature = "oauth")]
pub mod oauth;
mod publish;
mod rate;
mod scan;
#[cfg(feature = "sessions")]
pub mod session;
#[cfg(feature = "encryption")]
mod vault;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use claim::Claim;
#[cfg(feature = "http-cache")]
pub(crate) use claim::release;
pub use flush::FlushDb;
pub(crate) use id::check_id;
pub use id::escape_id;
pub use rate::{RateLimit, RateLimitDecision, RateLimiter};
pub use scan::{Scan, escape_pattern};
#[cfg(feature = "encryption")]
pub use vault::{Vault, VaultError};

use crate::client::{Command, Connection, Health, Repeat, Reply};
use crate::error::{Error, Result};

/// Time to live of values that are stored without one: 1 h.
pub const DEFAULT_TTL: Duration = Duration::from_secs(3600);

/// The time to live of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// The key stays until it is deleted.
    NeverExpires,
    /// The server deletes the key after this time.
    ExpiresIn(Duration),
}

/// Keys and values on one server, from [`Client::kv`](crate::client::Client::kv) or
/// [`Client::cache`](crate::client::Client::cache). Cheap to clone.
///
/// Structured values are stored as JSON; the `text` calls store the bytes of a string, as other
/// clients do. Error texts hide the last part of a key, which may be a token.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::client::Client) -> oxbull::Result<()> {
/// use std::time::Duration;
///
/// let kv = client.kv();
/// kv.set("api:profile:7", &vec!["a", "b"]).await?; // for an hour
/// let profile: Option<Vec<String>> = kv.get("api:profile:7").await?;
/// kv.set_text_with_ttl("greeting", "hello", Duration::from_secs(60)).await?;
/// let visits = kv.incr("visits").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Kv {
    connection: Connection,
}

impl Kv {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Returns the connection, for the helpers that run scripts.
    #[cfg(any(feature = "encryption", feature = "http-cache"))]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads a JSON value; `None` when there is no such key.
    ///
    /// # Errors
    /// [`Error::Decode`] when the value is not a `T`, besides those of every request.
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let bytes = self.get_bytes(key).await?;
        bytes.map(|bytes| from_json(key, &bytes)).transpose()
    }

    /// Reads a value as text.
    ///
    /// # Errors
    /// [`Error::Decode`] when it is not UTF-8 or no string value.
    pub async fn get_text(&self, key: &str) -> Result<Option<String>> {
        let bytes = self.get_bytes(key).await?;
        bytes.map(|bytes| from_utf8(key, bytes)).transpose()
    }

    /// Reads a value as it is.
    ///
    /// # Errors
    /// [`Error::Decode`] when the key holds no string value.
    pub async fn get_bytes(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.ask(key, Command::new("GET").arg(key)).await?.bytes()
    }

    /// Stores a value as JSON for [`DEFAULT_TTL`].
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form.
    pub async fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.set_with_ttl(key, value, DEFAULT_TTL).await
    }

    /// Stores a value as JSON for `ttl`, from 1 ms.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form, [`Error::Invalid`] for the time.
    pub async fn set_with_ttl<T: Serialize + ?Sized>(
        &self,
        key: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<()> {
        self.store(key, &to_json(value)?, Some(ttl)).await
    }

    /// Stores a value as JSON until it is deleted.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form.
    pub async fn set_forever<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<()> {
        self.store(key, &to_json(value)?, None).await
    }

    /// Stores text for [`DEFAULT_TTL`].
    ///
    /// # Errors
    /// Those of every request.
    pub async fn set_text(&self, key: &str, value: &str) -> Result<()> {
        self.store(key, value.as_bytes(), Some(DEFAULT_TTL)).await
    }

    /// Stores text for `ttl`, from 1 ms.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the time.
    pub async fn set_text_with_ttl(&self, key: &str, value: &str, ttl: Duration) -> Result<()> {
        self.store(key, value.as_bytes(), Some(ttl)).await
    }

    /// Deletes a key; returns whether it existed. After a lost reply the deletion is repeated, and
    /// `false` can then also mean that the first one deleted it.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn del(&self, key: &str) -> Result<bool> {
        self.ask(key, Command::new("DEL").arg(key)).await?.flag()
    }

    /// Returns whether a key exists.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        self.ask(key, Command::new("EXISTS").arg(key)).await?.flag()
    }

    /// Returns how long a key has left, in whole milliseconds.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn ttl(&self, key: &str) -> Result<Ttl> {
        let millis = self.ask(key, Command::new("PTTL").arg(key)).await?.int()?;
        Ok(match u64::try_from(millis) {
            Ok(millis) => Ttl::ExpiresIn(Duration::from_millis(millis)),
            Err(_) if millis == -1 => Ttl::NeverExpires,
            Err(_) => Ttl::Missing,
        })
    }

    /// Adds 1 to a counter and returns it. A new counter starts at 0 and never expires unless
    /// [`Kv::expire`] says so.
    ///
    /// # Errors
    /// [`Error::Indeterminate`] when the connection is lost meanwhile, as counting twice would
    /// be wrong; [`Error::Decode`] when the value is not a 64-bit integer.
    pub async fn incr(&self, key: &str) -> Result<i64> {
        self.count(key, "INCR").await
    }

    /// Subtracts 1 from a counter and returns it.
    ///
    /// # Errors
    /// As [`Kv::incr`].
    pub async fn decr(&self, key: &str) -> Result<i64> {
        self.count(key, "DECR").await
    }

    /// Makes a key expire after `ttl`, from 1 ms; returns whether the key exists.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a time under 1 ms.
    pub async fn expire(&self, key: &str, ttl: Duration) -> Result<bool> {
        let command = Command::new("PEXPIRE").arg(key).int(millis(ttl)?);
        self.ask(key, command).await?.flag()
    }

    /// Reads one field of a hash as JSON.
    ///
    /// # Errors
    /// [`Error::Decode`] when the field is not a `T` or the key no hash.
    pub async fn hget<T: DeserializeOwned>(&self, key: &str, field: &str) -> Result<Option<T>> {
        let bytes = self.field(key, field).await?;
        bytes.map(|bytes| from_json(key, &bytes)).transpose()
    }

    /// Reads one field of a hash as text.
    ///
    /// # Errors
    /// [`Error::Decode`] when the field is not UTF-8 or the key no hash.
    pub async fn hget_text(&self, key: &str, field: &str) -> Result<Option<String>> {
        let bytes = self.field(key, field).await?;
        bytes.map(|bytes| from_utf8(key, bytes)).transpose()
    }

    /// Stores one field of a hash as JSON; returns whether the field is new. The time to live of
    /// the key does not change: a new key never expires unless [`Kv::expire`] says so.
    ///
    /// # Errors
    /// [`Error::Encode`] when it has no JSON form, [`Error::Decode`] when the key is no hash.
    pub async fn hset<T: Serialize + ?Sized>(
        &self,
        key: &str,
        field: &str,
        value: &T,
    ) -> Result<bool> {
        self.set_field(key, field, &to_json(value)?).await
    }

    /// Stores one field of a hash as text; otherwise as [`Kv::hset`].
    ///
    /// # Errors
    /// [`Error::Decode`] when the key is no hash.
    pub async fn hset_text(&self, key: &str, field: &str, value: &str) -> Result<bool> {
        self.set_field(key, field, value.as_bytes()).await
    }

    /// Reads all fields of a hash as JSON; empty when there is no such key.
    ///
    /// # Errors
    /// [`Error::Decode`] when a field is not a `T` or the key no hash.
    pub async fn hgetall<T: DeserializeOwned>(&self, key: &str) -> Result<BTreeMap<String, T>> {
        let pairs = self.fields(key).await?;
        let decoded = pairs
            .into_iter()
            .map(|(field, value)| Ok((from_utf8(key, field)?, from_json(key, &value)?)));
        decoded.collect()
    }

    /// Reads all fields of a hash as text.
    ///
    /// # Errors
    /// [`Error::Decode`] when a field is not UTF-8 or the key no hash.
    pub async fn hgetall_text(&self, key: &str) -> Result<BTreeMap<String, String>> {
        let pairs = self.fields(key).await?;
        let decoded = pairs
            .into_iter()
            .map(|(field, value)| Ok((from_utf8(key, field)?, from_utf8(key, value)?)));
        decoded.collect()
    }

    /// Walks over the keys that match a glob pattern, page by page, without blocking the
    /// server. Parts that are not meant as a pattern go through [`escape_pattern`].
    pub fn keys(&self, pattern: &str) -> Scan {
        Scan::new(self.connection.clone(), pattern)
    }

    /// Deletes every key of the database that the confirmation names.
    ///
    /// # Errors
    /// [`Error::Invalid`] when that is not this connection's database: nothing is deleted.
    pub async fn flushdb(&self, confirmation: FlushDb) -> Result<()> {
        confirmation.check(self.connection.db())?;
        // Not repeated after a loss: it would take what was written in between.
        let command = Command::new("FLUSHDB").arg("ASYNC");
        for node in self.connection.each().await? {
            node.call(command.clone(), Repeat::Once).await?;
        }
        Ok(())
    }

    /// Pings the server, and returns within `deadline` whether and how fast it answered.
    pub async fn health(&self, deadline: Duration) -> Health {
        self.connection.health(deadline).await
    }

    async fn ask(&self, key: &str, command: Command) -> Result<Reply> {
        let reply = self.connection.call(command, Repeat::Safe).await;
        reply.map_err(|error| mismatch(key, error))
    }

    async fn store(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<()> {
        let mut command = Command::new("SET").arg(key).arg(value);
        if let Some(ttl) = ttl {
            command = command.arg("PX").int(millis(ttl)?);
        }
        self.ask(key, command).await.map(drop)
    }

    async fn count(&self, key: &str, name: &str) -> Result<i64> {
        let command = Command::new(name).arg(key);
        let reply = self.connection.call(command, Repeat::Once).await;
        reply.map_err(|error| mismatch(key, error))?.int()
    }

    async fn field(&self, key: &str, field: &str) -> Result<Option<Vec<u8>>> {
        let command = Command::new("HGET").arg(key).arg(field);
        self.ask(key, command).await?.bytes()
    }

    async fn fields(&self, key: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let command = Command::new("HGETALL").arg(key);
        self.ask(key, command).await?.pairs()
    }

    async fn set_field(&self, key: &str, field: &str, value: &[u8]) -> Result<bool> {
        let command = Command::new("HSET").arg(key).arg(field).arg(value);
        self.ask(key, command).await?.flag()
    }
}

/// Checks a time to live.
fn millis(ttl: Duration) -> Result<u64> {
    u64::try_from(ttl.as_millis())
        .ok()
        .filter(|millis| (1..=1 << 52).contains(millis))
        .ok_or_else(|| Error::invalid("ttl", "must be between 1 ms and 142,000 years"))
}

/// Converts the server's error about a key's type into a decode error.
fn mismatch(key: &str, error: Error) -> Error {
    match error {
        Error::Server(text)
            if text.starts_with("WRONGTYPE") || text.contains("is not an integer") =>
        {
            Error::Decode {
                what: named(key),
                source: text.into(),
            }
        }
        other => other,
    }
}

fn from_json<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| Error::Decode {
        what: named(key),
        // The error itself may quote the value.
        source: format!("{:?} error at column {}", error.classify(), error.column()).into(),
    })
}

fn from_utf8(key: &str, bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::Decode {
        what: named(key),
        source: "not valid UTF-8".into(),
    })
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Encode {
        what: "value",
        source,
    })
}

/// Names a key's value with the key's last part hidden.
fn named(key: &str) -> String {
    match key.rsplit_once(':') {
        Some((head, _)) => format!("the value of {}:…", head.escape_debug()),
        None => "the value of a key".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_live_are_bounded() {
        assert!(millis(Duration::ZERO).is_err());
        assert!(millis(Duration::from_micros(999)).is_err());
        assert_eq!(millis(Duration::from_millis(1)).unwrap(), 1);
        assert!(millis(Duration::MAX).is_err());
    }

    #[test]
    fn error_texts_hide_the_last_part_of_a_key_and_the_value() {
        let error = from_json::<u32>("oauth:state:t0ken", b"\"hunter2\"").unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains("oauth:state:"), "{text}");
        assert!(
            !text.contains("t0ken") && !text.contains("hunter2"),
            "{text}"
        );
    }
}
