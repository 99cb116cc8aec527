//! Sessions: who is logged in, for how long, and with what.
//!
//! A session is a hash at `session:{userId}:{sessionId}` with a time to live; `session:{userId}`
//! is the sorted set of its user's sessions by the time they end. Scripts keep the two in step, so
//! no key is ever searched for. The browser holds a [`SessionToken`], Redis its hash and, unless
//! chosen otherwise, data that is sealed for its key (see [`vault`](crate::vault)).
//!
//! All of this holds on one server; on a cluster a user's keys would have to share a hash tag.
//!
//! | field of the hash | |
//! |---|---|
//! | `data` | sealed JSON `{"created", "until", "data"}`; purpose `session`, key: the whole key |
//! | `version` | random, new with each write of `data` |
//! | `created`, `touched`, `ends` | times in ms |
//! | `index` | the user's index, empty for none |

mod id;
mod options;
mod record;
mod storage;
#[cfg(feature = "tower-sessions")]
mod tower;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use id::{SessionId, SessionToken, UserId};
pub use options::{ABSOLUTE, DATA_MAX, IDLE, PER_USER, SessionsBuilder, TOUCH_EVERY, WhenFull};
#[cfg(feature = "tower-sessions")]
pub use tower::{OWNER, SessionStore};

use crate::client::{Client, Connection};
use crate::clock::{Clock, Timestamp};
use crate::error::Error;
use crate::vault::OpenError;
use options::Settings;
use record::{Body, Keys, Times};

/// The sessions of an application. Cheap to clone.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use oxbull::kv::session::{SessionToken, Sessions, UserId};
/// use oxbull::vault::Keyring;
///
/// let sessions = Sessions::builder(&client)
///     .sealed_with(Keyring::from_env()?)
///     .build()?;
///
/// // At login. A session that the visitor had before is destroyed, never adopted.
/// let (token, _session) = sessions.create(&UserId::new("42")?, "seller").await?;
/// let cookie = format!("__Host-session={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.as_str());
///
/// // With each request.
/// let token = SessionToken::parse(token.as_str())?;
/// if let Some(mut session) = sessions.load::<String>(&token).await? {
///     sessions.touch(&mut session).await?;
///     assert_eq!(session.data(), "seller");
/// }
///
/// // After a change of password.
/// sessions.destroy_all(&UserId::new("42")?).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Sessions {
    connection: Connection,
    clock: Clock,
    settings: Arc<Settings>,
}

/// Why a session was not read or changed. A request whose session gives an error is not logged in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session has ended or was destroyed; nothing changed.
    #[error("the session has ended")]
    Gone,
    /// Another request saved the session since it was loaded; nothing changed. Load it again.
    #[error("the session was changed meanwhile")]
    Conflict,
    /// The user has as many sessions as allowed; nothing changed.
    #[error("the user has too many sessions")]
    Full,
    /// The stored data does not open: it was changed, moved from another key, or sealed with a
    /// key that is gone.
    #[error("the data of the session cannot be opened")]
    Open(#[from] OpenError),
    /// The request itself failed.
    #[error(transparent)]
    Request(#[from] Error),
}

/// A session as it was when it was loaded, with what its holder changed since.
pub struct Session<T> {
    user: UserId,
    id: SessionId,
    times: Times,
    version: String,
    data: T,
}

/// What is known of a session without its data, from [`Sessions::list`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    id: SessionId,
    created: Timestamp,
    touched: Timestamp,
    ends: Timestamp,
}

impl Sessions {
    /// Describes sessions on the client's server.
    pub fn builder(client: &Client) -> SessionsBuilder {
        SessionsBuilder::new(client)
    }

    /// Starts a session. The token goes to the browser; it cannot be read again later.
    ///
    /// At login, destroy the session that the visitor had before, if any: a token that was known
    /// before the login must not be valid after it.
    ///
    /// # Errors
    /// [`SessionError::Full`] with [`WhenFull::Refuse`]; [`Error::Encode`] and [`Error::Invalid`]
    /// for the data.
    pub async fn create<T: Serialize>(
        &self,
        user: &UserId,
        data: T,
    ) -> Result<(SessionToken, Session<T>), SessionError> {
        let token = SessionToken::generate(user.clone())?;
        let times = self.times_of_new(self.clock.now());
        let keys = self.keys(user, token.id());
        let version = self.put(&keys, &Body::of(times, &data)?, times).await?;
        let session = Session {
            user: user.clone(),
            id: token.id().clone(),
            times,
            version,
            data,
        };
        Ok((token, session))
    }

    /// Reads a session; `None` when there is none, or it has ended. Reading does not extend it.
    ///
    /// Data that was sealed with an older key is resealed with the active one.
    ///
    /// # Errors
    /// [`SessionError::Open`] when the data does not open.
    pub async fn load<T: DeserializeOwned>(
        &self,
        token: &SessionToken,
    ) -> Result<Option<Session<T>>, SessionError> {
        let keys = self.keys(token.user(), token.id());
        let Some(loaded) = self.fetch(&keys).await? else {
            return Ok(None);
        };
        Ok(Some(Session {
            user: token.user().clone(),
            id: token.id().clone(),
            times: loaded.times,
            version: loaded.version,
            data: loaded.data,
        }))
    }

    /// Records a use of the session, which extends it by the idle time, up to its absolute end.
    /// Writes nothing when a use was recorded shortly before ([`SessionsBuilder::touch_every`]);
    /// returns whether it wrote.
    ///
    /// # Errors
    /// [`SessionError::Gone`] when the session has ended.
    pub async fn touch<T>(&self, session: &mut Session<T>) -> Result<bool, SessionError> {
        let now = self.clock.now();
        if now.since(session.times.touched) < self.settings.touch_every && now < session.times.ends
        {
            return Ok(false);
        }
        let times = self.times_of_use(session.times, now)?;
        let keys = self.keys(&session.user, &session.id);
        self.prolong(&keys, times).await?;
        session.times = times;
        Ok(true)
    }

    /// Stores the data that the session has now; counts as a use.
    ///
    /// Of two requests that load and save at the same time, the second gets an error: a lost
    /// update could restore a permission that was just revoked. Retry from [`load`](Self::load).
    ///
    /// # Errors
    /// [`SessionError::Conflict`] when another request saved it since it was loaded,
    /// [`SessionError::Gone`] when it has ended; [`Error::Encode`] and [`Error::Invalid`] for the
    /// data.
    pub async fn save<T: Serialize>(&self, session: &mut Session<T>) -> Result<(), SessionError> {
        let times = self.times_of_use(session.times, self.clock.now())?;
        let keys = self.keys(&session.user, &session.id);
        let body = Body::of(times, &session.data)?;
        let expected = Some(session.version.as_str());
        session.version = self.replace(&keys, &body, expected, times).await?;
        session.times = times;
        Ok(())
    }

    /// Gives the session a new token and stores its data. The old token is invalid at once; the
    /// absolute end stays. Do this whenever the session gains rights.
    ///
    /// There is no grace period for requests already sent with the old token: a thief could use it
    /// as well.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    pub async fn rotate<T: Serialize>(
        &self,
        session: &mut Session<T>,
    ) -> Result<SessionToken, SessionError> {
        let token = SessionToken::generate(session.user.clone())?;
        let times = self.times_of_use(session.times, self.clock.now())?;
        let old = self.keys(&session.user, &session.id);
        let new = self.keys(&session.user, token.id());
        let body = Body::of(times, &session.data)?;
        session.version = self
            .exchange(&old, &new, &body, &session.version, times)
            .await?;
        session.times = times;
        session.id = token.id().clone();
        Ok(token)
    }

    /// Ends a session; returns whether it existed. After a lost reply the request is repeated, and
    /// `false` can then also mean that the first one ended it.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn destroy(&self, user: &UserId, id: &SessionId) -> Result<bool, SessionError> {
        self.remove(&self.keys(user, id)).await
    }

    /// Ends all sessions of a user and returns how many. Sessions created after it returns stay.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn destroy_all(&self, user: &UserId) -> Result<u64, SessionError> {
        self.remove_all(user, "").await
    }

    /// Ends all sessions of a user but this one, and returns how many.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn destroy_others<T>(&self, session: &Session<T>) -> Result<u64, SessionError> {
        let keep = self.keys(&session.user, &session.id);
        self.remove_all(&session.user, &keep.tail).await
    }

    /// Lists up to 1,000 sessions of a user, those that end last first.
    ///
    /// # Errors
    /// Those of every request.
    pub async fn list(&self, user: &UserId) -> Result<Vec<SessionInfo>, SessionError> {
        self.listed(user).await
    }

    fn keys(&self, user: &UserId, id: &SessionId) -> Keys {
        Keys::new(&self.settings.prefix, user.as_str(), id, Some(user))
    }
}

impl<T> Session<T> {
    /// Returns whose session it is.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Returns its id, which is not a secret.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns when it was created.
    pub fn created(&self) -> Timestamp {
        self.times.created
    }

    /// Returns when a use was last recorded.
    pub fn touched(&self) -> Timestamp {
        self.times.touched
    }

    /// Returns when it ends if it is not used any more.
    pub fn ends(&self) -> Timestamp {
        self.times.ends
    }

    /// Returns when it ends at the latest.
    pub fn until(&self) -> Timestamp {
        self.times.until
    }

    /// Returns its data.
    pub fn data(&self) -> &T {
        &self.data
    }

    /// Returns its data to be changed, for [`Sessions::save`] or [`Sessions::rotate`].
    pub fn data_mut(&mut self) -> &mut T {
        &mut self.data
    }

    /// Takes the data out.
    pub fn into_data(self) -> T {
        self.data
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("user", &self.user)
            .field("id", &self.id)
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl SessionInfo {
    /// Returns the id, which is not a secret.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns when the session was created.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// Returns when a use was last recorded.
    pub fn touched(&self) -> Timestamp {
        self.touched
    }

    /// Returns when it ends if it is not used any more.
    pub fn ends(&self) -> Timestamp {
        self.ends
    }
}
