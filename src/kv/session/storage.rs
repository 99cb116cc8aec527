//! The scripts that read and change sessions in Redis.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

use super::options::{PER_USER_MAX, Protection, WhenFull};
use super::record::{Body, Envelope, Keys, Loaded, Times};
use super::{SessionError, SessionId, SessionInfo, Sessions, UserId};
use crate::client::{Command, Repeat, Reply, Script, ScriptCall, lua};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::kv::{mismatch, named};
use crate::vault::OpenError;

static CREATE: Script = lua!("kv/create_session", uses: ["sessions"]);
static SAVE: Script = lua!("kv/save_session", uses: ["sessions"]);
static TOUCH: Script = lua!("kv/touch_session", uses: ["sessions"]);
static ROTATE: Script = lua!("kv/rotate_session", uses: ["sessions"]);
static RESEAL: Script = lua!("kv/reseal_session", uses: []);
static DESTROY: Script = lua!("kv/destroy_session", uses: ["sessions"]);
static DESTROY_ALL: Script = lua!("kv/destroy_sessions", uses: []);
static LIST: Script = lua!("kv/list_sessions", uses: ["sessions"]);

/// Bytes of a version: enough that no two writes share one.
const VERSION_LEN: usize = 12;

/// How many sessions one call looks at or ends: less than a millisecond of the server's time.
const PAGE: &str = "250";

impl Sessions {
    /// Returns the times of a session that starts now.
    pub(super) fn times_of_new(&self, now: Timestamp) -> Times {
        let until = now + self.settings.absolute;
        Times {
            created: now,
            touched: now,
            ends: until.min(now + self.settings.idle),
            until,
        }
    }

    /// Returns the times of a session that is used now.
    pub(super) fn times_of_use(&self, times: Times, now: Timestamp) -> Result<Times, SessionError> {
        if now >= times.ends {
            return Err(SessionError::Gone);
        }
        Ok(Times {
            touched: now,
            ends: times.until.min(now + self.settings.idle),
            ..times
        })
    }

    /// Stores a new session and returns its version.
    pub(super) async fn put(
        &self,
        keys: &Keys,
        body: &Body,
        times: Times,
    ) -> Result<String, SessionError> {
        let version = version()?;
        let refuse = self.settings.when_full == WhenFull::Refuse;
        let args = [
            keys.prefix.as_str(),
            &keys.tail,
            &self.protect(keys, body)?,
            &version,
            &times.touched.to_string(),
            &times.ends.to_string(),
            &self.settings.per_user.to_string(),
            if refuse { "1" } else { "0" },
        ];
        loop {
            let list = keys.list();
            let reply = self.run(&CREATE, &keys.session, &list, &args).await?;
            match reply.text()?.as_str() {
                "ok" => return Ok(version),
                "full" => return Err(SessionError::Full),
                // Sessions that are in its way go in bounded steps.
                "more" => {}
                _ => return Err(odd(&CREATE)),
            }
        }
    }

    /// Reads a session, and reseals it when it was sealed with an old key.
    pub(super) async fn fetch<T: DeserializeOwned>(
        &self,
        keys: &Keys,
    ) -> Result<Option<Loaded<T>>, SessionError> {
        let command = ["data", "version", "touched", "ends"]
            .into_iter()
            .fold(Command::new("HMGET").arg(&keys.session), Command::arg);
        let reply = self.connection.call(command, Repeat::Safe).await;
        let reply = reply.map_err(|error| mismatch(&keys.session, error))?;
        let fields = <[Option<String>; 4]>::try_from(reply.texts()?);
        let Ok([Some(data), Some(version), Some(touched), Some(ends)]) = fields else {
            // Either all fields are there, or the key is none of ours.
            return Ok(None);
        };
        let touched = millis(&keys.session, &touched)?;
        let ends = millis(&keys.session, &ends)?;
        let json = self.reveal(keys, &data)?;
        let envelope: Envelope<T> =
            serde_json::from_slice(&json).map_err(|error| OpenError::content(&error))?;
        let until = Timestamp::from_millis(envelope.until);
        let times = Times {
            created: Timestamp::from_millis(envelope.created),
            touched,
            ends: ends.min(until),
            until,
        };
        if self.clock.now() >= times.ends {
            return Ok(None);
        }
        self.reseal(keys, &data, &json).await;
        Ok(Some(Loaded {
            times,
            version,
            data: envelope.data,
        }))
    }

    /// Seals what was read with the active key, if another one sealed it. The reader has what it
    /// asked for, so failing leaves it to the next one.
    async fn reseal(&self, keys: &Keys, old: &str, json: &[u8]) {
        let Protection::Sealed(keyring) = &self.settings.protection else {
            return;
        };
        if !keyring.is_stale(old) {
            return;
        }
        let Ok(new) = keyring.seal(&keys.associated_data(), json) else {
            return;
        };
        let list = [keys.session.as_str()];
        if let Err(error) = self.run(&RESEAL, &keys.session, &list, &[old, &new]).await {
            tracing::debug!(%error, "a session keeps its old key");
        }
    }

    /// Replaces the data of a session and returns its new version.
    pub(super) async fn replace(
        &self,
        keys: &Keys,
        body: &Body,
        expected: Option<&str>,
        times: Times,
    ) -> Result<String, SessionError> {
        let version = version()?;
        let args = [
            keys.tail.as_str(),
            &self.protect(keys, body)?,
            expected.unwrap_or_default(),
            &version,
            &times.touched.to_string(),
            &self.clock.now().to_string(),
            &times.ends.to_string(),
        ];
        self.change(&SAVE, keys, &keys.list(), &args).await?;
        Ok(version)
    }

    /// Lets a session live until `times.ends`.
    pub(super) async fn prolong(&self, keys: &Keys, times: Times) -> Result<(), SessionError> {
        let args = [
            keys.tail.as_str(),
            &times.touched.to_string(),
            &times.ends.to_string(),
        ];
        self.change(&TOUCH, keys, &keys.list(), &args).await
    }

    /// Moves a session to a new key and returns its new version.
    pub(super) async fn exchange(
        &self,
        old: &Keys,
        new: &Keys,
        body: &Body,
        expected: &str,
        times: Times,
    ) -> Result<String, SessionError> {
        let version = version()?;
        let args = [
            old.tail.as_str(),
            &new.tail,
            &self.protect(new, body)?,
            expected,
            &version,
            &times.touched.to_string(),
            &times.ends.to_string(),
        ];
        let mut list = vec![old.session.as_str()];
        list.extend(new.list());
        self.change(&ROTATE, old, &list, &args).await?;
        Ok(version)
    }

    /// Ends a session.
    pub(super) async fn remove(&self, keys: &Keys) -> Result<bool, SessionError> {
        let reply = self
            .run(&DESTROY, &keys.session, &[&keys.session], &[&keys.tail])
            .await?;
        Ok(reply.flag()?)
    }

    /// Ends all sessions of a user but the one whose tail is `keep`.
    pub(super) async fn remove_all(&self, user: &UserId, keep: &str) -> Result<u64, SessionError> {
        let prefix = format!("{}:", self.settings.prefix);
        let index = format!("{prefix}{user}");
        let mut ended = 0;
        loop {
            let args = [prefix.as_str(), keep, PAGE];
            let reply = self.run(&DESTROY_ALL, &index, &[&index], &args).await?;
            let [now, left] = reply.ints()?;
            ended += u64::try_from(now).unwrap_or(0);
            if left <= 0 {
                return Ok(ended);
            }
        }
    }

    /// Lists the sessions of a user, page by page, those that end last first.
    pub(super) async fn listed(&self, user: &UserId) -> Result<Vec<SessionInfo>, SessionError> {
        let prefix = format!("{}:", self.settings.prefix);
        let index = format!("{prefix}{user}");
        let (mut last, mut ends) = (String::new(), String::new());
        let mut found = Vec::new();
        loop {
            let now = self.clock.now().to_string();
            let args = [prefix.as_str(), &now, PAGE, &last, &ends];
            let reply = self.run(&LIST, &index, &[&index], &args).await?;
            let mut flat = reply.texts()?.into_iter().flatten();
            let (Some(more), Some(tail), Some(time)) = (flat.next(), flat.next(), flat.next())
            else {
                let source = "the answer is no page of sessions".into();
                let what = named(&index);
                return Err(Error::Decode { what, source }.into());
            };
            (last, ends) = (tail, time);
            while let (Some(tail), Some(created), Some(touched), Some(ends)) =
                (flat.next(), flat.next(), flat.next(), flat.next())
            {
                let Ok(id) = SessionId::parse(tail.rsplit(':').next().unwrap_or_default()) else {
                    continue;
                };
                found.push(SessionInfo {
                    id,
                    created: millis(&index, &created)?,
                    touched: millis(&index, &touched)?,
                    ends: millis(&index, &ends)?,
                });
            }
            if more != "1" {
                break;
            }
        }
        // One that was used meanwhile comes again, with its new times.
        found.reverse();
        let mut seen = HashSet::new();
        found.retain(|one| seen.insert(one.id.clone()));
        found.truncate(PER_USER_MAX as usize);
        Ok(found)
    }

    /// Runs a script that says what became of a session.
    async fn change(
        &self,
        script: &'static Script,
        keys: &Keys,
        list: &[&str],
        args: &[&str],
    ) -> Result<(), SessionError> {
        let reply = self.run(script, &keys.session, list, args).await?;
        match reply.text()?.as_str() {
            "ok" => Ok(()),
            "gone" => Err(SessionError::Gone),
            "conflict" => Err(SessionError::Conflict),
            _ => Err(odd(script)),
        }
    }

    async fn run(
        &self,
        script: &'static Script,
        key: &str,
        keys: &[&str],
        args: &[&str],
    ) -> Result<Reply> {
        // Each of the scripts recognises what an earlier execution did.
        let call = ScriptCall::new(script, keys).args(args);
        let reply = self.connection.run(call, Repeat::Safe).await;
        reply.map_err(|error| mismatch(key, error))
    }
}

fn odd(script: &Script) -> SessionError {
    Error::Protocol(format!("{} has an odd reply", script.name())).into()
}

fn version() -> Result<String> {
    let bytes: [u8; VERSION_LEN] = crate::vault::random()?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn millis(key: &str, text: &str) -> Result<Timestamp> {
    text.parse()
        .map(Timestamp::from_millis)
        .map_err(|_| Error::Decode {
            what: named(key),
            source: "a time is not a number".into(),
        })
}
