//! How sessions are kept.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::Sessions;
use crate::client::{Client, Connection};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::kv::check_id;
use crate::vault::Keyring;

/// Default of [`SessionsBuilder::idle`]: a session ends 30 min after its last use.
pub const IDLE: Duration = Duration::from_secs(30 * 60);

/// Default of [`SessionsBuilder::absolute`]: a session ends 12 h after its creation.
pub const ABSOLUTE: Duration = Duration::from_secs(12 * 3600);

/// Default of [`SessionsBuilder::touch_every`]: a use is recorded at most once in 1 min.
pub const TOUCH_EVERY: Duration = Duration::from_secs(60);

/// Default of [`SessionsBuilder::max_data`]: the data of a session is at most 16 KiB of JSON.
pub const DATA_MAX: usize = 16 << 10;

/// Default of [`SessionsBuilder::max_per_user`]: a user has at most 50 sessions at a time.
pub const PER_USER: u32 = 50;

/// Most sessions that any setting may allow a user: scripts look at all of them.
pub(super) const PER_USER_MAX: u32 = 1000;

/// Longest life that can be set: 10 years.
const LIFE_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// What happens when a user with the most sessions allowed logs in once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The session that would end first is destroyed: usually the one unused for longest.
    #[default]
    DropOldest,
    /// The login is refused with [`SessionError::Full`](super::SessionError::Full).
    Refuse,
}

/// How the data of sessions is stored.
#[derive(Debug, Clone)]
pub(super) enum Protection {
    Sealed(Keyring),
    Plain,
}

/// Describes how sessions are kept, from [`Sessions::builder`].
#[derive(Debug)]
#[must_use]
pub struct SessionsBuilder {
    connection: Connection,
    clock: Clock,
    protection: Option<Protection>,
    prefix: String,
    idle: Duration,
    absolute: Duration,
    touch_every: Duration,
    max_data: usize,
    per_user: NonZeroU32,
    when_full: WhenFull,
}

impl SessionsBuilder {
    pub(super) fn new(client: &Client) -> Self {
        Self {
            connection: client.connection().clone(),
            clock: client.clock().clone(),
            protection: None,
            prefix: "session".to_owned(),
            idle: IDLE,
            absolute: ABSOLUTE,
            touch_every: TOUCH_EVERY,
            max_data: DATA_MAX,
            per_user: NonZeroU32::new(PER_USER).unwrap_or(NonZeroU32::MIN),
            when_full: WhenFull::default(),
        }
    }

    /// Seals the data of every session. This, or [`unsealed`](Self::unsealed), has to be chosen.
    pub fn sealed_with(mut self, keyring: Keyring) -> Self {
        self.protection = Some(Protection::Sealed(keyring));
        self
    }

    /// Stores the data of sessions as plain JSON: anyone who can read Redis can read it, and anyone
    /// who can write to Redis can forge sessions.
    pub fn unsealed(mut self) -> Self {
        self.protection = Some(Protection::Plain);
        self
    }

    /// Sets the first part of every key; on a cluster it is a hash tag, such as `{session}`. Default: `session`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets after how much time without use a session ends, from 1 s to 10 years. Default: [`IDLE`].
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets how long after its creation a session ends even when it is in use, from 1 s to 10
    /// years. Default: [`ABSOLUTE`].
    pub fn absolute(mut self, absolute: Duration) -> Self {
        self.absolute = absolute;
        self
    }

    /// Sets how long [`Sessions::touch`] writes nothing after it recorded a use; zero records every
    /// use. Must be shorter than [`idle`](Self::idle). Default: [`TOUCH_EVERY`].
    pub fn touch_every(mut self, interval: Duration) -> Self {
        self.touch_every = interval;
        self
    }

    /// Sets the longest data of a session as JSON, in bytes. Default: [`DATA_MAX`].
    pub fn max_data(mut self, bytes: usize) -> Self {
        self.max_data = bytes;
        self
    }

    /// Sets the most sessions that a user has at a time, up to 1,000. Default: [`PER_USER`].
    pub fn max_per_user(mut self, sessions: NonZeroU32) -> Self {
        self.per_user = sessions;
        self
    }

    /// Sets what a login does when there are as many. Default: [`WhenFull::DropOldest`].
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Invalid`] when neither [`sealed_with`](Self::sealed_with) nor
    /// [`unsealed`](Self::unsealed) was chosen, the prefix would break a key, a time is not
    /// between 1 s and 10 years, `touch_every` is not shorter than `idle`, or a user may have more
    /// than 1,000 sessions.
    pub fn build(self) -> Result<Sessions> {
        let tag = self.prefix.strip_prefix('{');
        let tag = tag.and_then(|rest| rest.strip_suffix('}'));
        check_id("prefix", tag.unwrap_or(&self.prefix))?;
        if tag.is_none() && self.connection.slot(&self.prefix).is_some() {
            return Err(Error::invalid(
                "prefix",
                "must be a hash tag on a cluster, such as {session}: a session and the index of its user are \
                 changed together",
            ));
        }
        let protection = self.protection.ok_or_else(|| {
            Error::invalid("keyring", "is missing: choose sealed_with or unsealed")
        })?;
        for (field, time) in [("idle", self.idle), ("absolute", self.absolute)] {
            if !(Duration::from_secs(1)..=LIFE_MAX).contains(&time) {
                return Err(Error::invalid(field, "must be between 1 s and 10 years"));
            }
        }
        if self.touch_every >= self.idle {
            return Err(Error::invalid("touch_every", "must be shorter than idle"));
        }
        if self.per_user.get() > PER_USER_MAX {
            return Err(Error::invalid(
                "max_per_user",
                format!("must not be more than {PER_USER_MAX}"),
            ));
        }
        Ok(Sessions {
            connection: self.connection,
            clock: self.clock,
            settings: Arc::new(Settings {
                protection,
                prefix: self.prefix,
                idle: self.idle,
                absolute: self.absolute,
                touch_every: self.touch_every,
                max_data: self.max_data,
                per_user: self.per_user.get(),
                when_full: self.when_full,
            }),
        })
    }
}

/// Checked settings.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) protection: Protection,
    pub(super) prefix: String,
    pub(super) idle: Duration,
    pub(super) absolute: Duration,
    pub(super) touch_every: Duration,
    pub(super) max_data: usize,
    pub(super) per_user: u32,
    pub(super) when_full: WhenFull,
}
