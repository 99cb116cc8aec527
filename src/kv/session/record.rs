//! What a session is in Redis: its keys, its times and its sealed data.

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::options::Protection;
use super::{SessionId, Sessions, UserId};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::vault::{AssociatedData, OpenError};

/// The keys that one session concerns.
pub(super) struct Keys {
    /// `<prefix>:`
    pub(super) prefix: String,
    /// `<owner>:<session id>`, by which the index knows the session.
    pub(super) tail: String,
    pub(super) session: String,
    index: Option<String>,
}

impl Keys {
    pub(super) fn new(prefix: &str, owner: &str, id: &SessionId, user: Option<&UserId>) -> Self {
        let tail = format!("{owner}:{id}");
        Self {
            session: format!("{prefix}:{tail}"),
            index: user.map(|user| format!("{prefix}:{user}")),
            prefix: format!("{prefix}:"),
            tail,
        }
    }

    /// Where the data is sealed for.
    pub(super) fn associated_data(&self) -> AssociatedData<'_> {
        AssociatedData::known("session", &self.session)
    }

    /// The session's key, then its index if it has one. A user may not be allowed the empty key,
    /// so it is left out.
    pub(super) fn list(&self) -> Vec<&str> {
        let index = self.index.as_deref();
        [self.session.as_str()].into_iter().chain(index).collect()
    }
}

/// When a session was used and when it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) created: Timestamp,
    pub(super) touched: Timestamp,
    /// Not later than `until`.
    pub(super) ends: Timestamp,
    pub(super) until: Timestamp,
}

/// What is sealed. The times are in it so that writing to Redis cannot prolong a session.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope<T> {
    pub(super) created: i64,
    pub(super) until: i64,
    pub(super) data: T,
}

/// The JSON to be sealed.
pub(super) struct Body {
    json: String,
    /// How much of it is the caller's.
    data_len: usize,
}

impl Body {
    pub(super) fn of<T: Serialize + ?Sized>(times: Times, data: &T) -> Result<Self> {
        let encode = |source| Error::Encode {
            what: "session data",
            source,
        };
        let data: Box<RawValue> = to_raw_value(data).map_err(encode)?;
        let envelope = Envelope {
            created: times.created.as_millis(),
            until: times.until.as_millis(),
            data: &data,
        };
        Ok(Self {
            json: serde_json::to_string(&envelope).map_err(encode)?,
            data_len: data.get().len(),
        })
    }
}

/// A session that was read.
pub(super) struct Loaded<T> {
    pub(super) times: Times,
    pub(super) version: String,
    pub(super) data: T,
}

impl Sessions {
    /// Returns the text to be stored.
    pub(super) fn protect(&self, keys: &Keys, body: &Body) -> Result<String> {
        if body.data_len > self.settings.max_data {
            return Err(Error::invalid(
                "session data",
                format!("must not be longer than {} bytes", self.settings.max_data),
            ));
        }
        match &self.settings.protection {
            Protection::Sealed(keyring) => {
                keyring.seal(&keys.associated_data(), body.json.as_bytes())
            }
            Protection::Plain => Ok(body.json.clone()),
        }
    }

    /// Returns the JSON that was stored. Plain data is not accepted in place of sealed data:
    /// otherwise any client that can write to Redis could forge sessions.
    pub(super) fn reveal(&self, keys: &Keys, text: &str) -> Result<Vec<u8>, OpenError> {
        match &self.settings.protection {
            Protection::Sealed(keyring) => keyring.open(&keys.associated_data(), text),
            Protection::Plain => Ok(text.as_bytes().to_vec()),
        }
    }
}
