//! Sessions as the store of the `tower-sessions` middleware.

use std::collections::HashMap;

use async_trait::async_trait;
use time::OffsetDateTime;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error as StoreError, Result as StoreResult};

use super::record::{Body, Keys, Loaded, Times};
use super::{SessionError, SessionId, Sessions, UserId};
use crate::clock::Timestamp;

/// What stands in the key where the user would, as the middleware knows a session by its id alone.
pub const OWNER: &str = "web";

/// [`Sessions`] for the `tower-sessions` middleware, and so for axum.
///
/// A session lies at `session:web:{sessionId}`. With [`user_field`](Self::user_field) it is also
/// in the index of its user, so that [`Sessions::destroy_all`], [`Sessions::list`] and the limit
/// of sessions per user hold for it. It ends when the middleware's `Expiry` says, and no later
/// than the absolute end; the idle time is the middleware's. The middleware writes only what a
/// request changed, the last writer wins, and a session that was destroyed meanwhile stays so.
///
/// # Examples
/// ```no_run
/// # fn run(sessions: oxbull::kv::session::Sessions) {
/// use oxbull::kv::session::SessionStore;
///
/// let store = SessionStore::new(sessions).user_field("user_id");
/// let layer = tower_sessions::SessionManagerLayer::new(store);
/// let app: axum::Router = axum::Router::new().layer(layer);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SessionStore {
    sessions: Sessions,
    user_field: Option<String>,
}

impl SessionStore {
    /// Serves the middleware from `sessions`.
    pub fn new(sessions: Sessions) -> Self {
        Self {
            sessions,
            user_field: None,
        }
    }

    /// Names the field of a session's data that has its user, as text that is a [`UserId`].
    #[must_use]
    pub fn user_field(mut self, field: impl Into<String>) -> Self {
        self.user_field = Some(field.into());
        self
    }

    /// Returns the sessions it serves.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Ends a session by an id from [`Sessions::list`]; returns whether it existed.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn end(&self, id: &SessionId) -> Result<bool, SessionError> {
        self.sessions.remove(&self.keys(id, None)).await
    }

    fn keys(&self, id: &SessionId, user: Option<&UserId>) -> Keys {
        Keys::new(&self.sessions.settings.prefix, OWNER, id, user)
    }

    fn keys_of(&self, record: &Record) -> StoreResult<Keys> {
        let field = self.user_field.as_ref();
        let user = field.and_then(|field| record.data.get(field));
        let user = match user {
            None | Some(serde_json::Value::Null) => None,
            Some(user) => {
                let user = user
                    .as_str()
                    .ok_or_else(|| StoreError::Encode("the user field is not text".to_owned()))?;
                Some(UserId::new(user).map_err(|error| StoreError::Encode(error.to_string()))?)
            }
        };
        Ok(self.keys(&hashed(record.id), user.as_ref()))
    }
}

#[async_trait]
impl tower_sessions_core::SessionStore for SessionStore {
    async fn create(&self, record: &mut Record) -> StoreResult<()> {
        // The middleware's 128 random bits do not collide; where they would, its id is replaced
        // by one that is not in use.
        while self.load(&record.id).await?.is_some() {
            record.id = Id::default();
        }
        let times = self.sessions.times_of_new(self.sessions.clock.now());
        let times = bounded(times, record.expiry_date);
        if times.ends <= times.touched {
            return Ok(());
        }
        let keys = self.keys_of(record)?;
        let body = Body::of(times, &record.data).map_err(SessionError::from);
        let put = self
            .sessions
            .put(&keys, &body.map_err(store_error)?, times)
            .await;
        put.map(drop).map_err(store_error)
    }

    async fn save(&self, record: &Record) -> StoreResult<()> {
        let keys = self.keys_of(record)?;
        let stored = self.sessions.fetch::<serde::de::IgnoredAny>(&keys).await;
        let Some(Loaded { times, .. }) = stored.map_err(store_error)? else {
            return Ok(());
        };
        let now = self.sessions.clock.now();
        let times = bounded(
            Times {
                touched: now,
                ..times
            },
            record.expiry_date,
        );
        if times.ends <= now {
            return self
                .sessions
                .remove(&keys)
                .await
                .map(drop)
                .map_err(store_error);
        }
        let body = Body::of(times, &record.data).map_err(SessionError::from);
        let body = body.map_err(store_error)?;
        match self.sessions.replace(&keys, &body, None, times).await {
            Ok(_) | Err(SessionError::Gone) => Ok(()),
            Err(error) => Err(store_error(error)),
        }
    }

    async fn load(&self, id: &Id) -> StoreResult<Option<Record>> {
        let keys = self.keys(&hashed(*id), None);
        let loaded = self
            .sessions
            .fetch::<HashMap<String, serde_json::Value>>(&keys);
        let loaded = loaded.await.map_err(store_error)?;
        Ok(loaded.map(|loaded| Record {
            id: *id,
            data: loaded.data,
            expiry_date: date(loaded.times.ends),
        }))
    }

    async fn delete(&self, id: &Id) -> StoreResult<()> {
        self.end(&hashed(*id)).await.map(drop).map_err(store_error)
    }
}

/// The id under which Redis sees a session of the middleware.
fn hashed(id: Id) -> SessionId {
    SessionId::of(&id.to_string())
}

/// Ends a session when the middleware says, or at its absolute end.
fn bounded(times: Times, expiry: OffsetDateTime) -> Times {
    let millis = expiry.unix_timestamp_nanos() / 1_000_000;
    let expiry = Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    Times {
        ends: times.until.min(expiry),
        ..times
    }
}

fn date(at: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.as_millis()) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn store_error(error: SessionError) -> StoreError {
    match error {
        SessionError::Open(error) => StoreError::Decode(error.to_string()),
        SessionError::Request(error @ crate::Error::Decode { .. }) => {
            StoreError::Decode(error.to_string())
        }
        SessionError::Request(
            error @ (crate::Error::Encode { .. } | crate::Error::Invalid { .. }),
        ) => StoreError::Encode(error.to_string()),
        other => StoreError::Backend(other.to_string()),
    }
}
