//! The cache's keys in Redis: `lua/kv/cache_*.lua`

use std::time::Duration;

use super::entry::Entry;
use super::rules::Terms;
use crate::client::{Command, Connection, Repeat, Reply, Script, ScriptCall, lua};
use crate::clock::{Clock, Timestamp};
use crate::error::{Error, Result};
use crate::http::bounded::BoundedConnection;
use crate::kv::release;

static CLAIM: Script = lua!("kv/cache_claim", uses: []);
static STORE: Script = lua!("kv/cache_store", uses: []);
static INVALIDATE: Script = lua!("kv/cache_invalidate", uses: []);

/// Entries deleted by one step of an invalidation.
const STEP: u64 = 200;
/// How long the mark of an invalidation holds, in ms: longer than a request takes.
const MARK_TTL: u64 = 600_000;
/// How much later than the clock the mark is set, in ms: clocks of two processes differ.
const MARK_SLACK: i64 = 100;

/// Redis, as one cache layer sees it.
pub(super) struct Remote {
    bounded: BoundedConnection,
    connection: Connection,
    /// This layer's token for locks. Within it, requests for one entry follow each other, so
    /// that a lock left by a request that went away can be taken over.
    token: String,
    lease: u64,
}

/// The keys of an entry. The second part of all but the first is no method.
struct Keys {
    body: String,
    record: String,
    stale: String,
    lock: String,
}

impl Keys {
    fn new(entry: &str) -> Self {
        Self {
            body: format!("api:{entry}"),
            record: format!("api:meta:{entry}"),
            stale: format!("api:stale:{entry}"),
            lock: format!("api:lock:{entry}"),
        }
    }
}

/// Who answers.
pub(super) enum Claim {
    Found(Entry),
    /// What is stored cannot be read; it will be replaced.
    Unreadable,
    Leader,
    Wait,
}

/// What is to be stored.
pub(super) struct Storage<'a> {
    pub(super) name: &'a str,
    pub(super) entry: &'a Entry,
    pub(super) terms: &'a Terms,
    pub(super) stale_for: Duration,
    pub(super) tags: Vec<String>,
    /// When the request that made it began.
    pub(super) started: Timestamp,
}

impl Remote {
    pub(super) fn new(connection: Connection, deadline: Duration, lease: Duration) -> Self {
        Self {
            bounded: BoundedConnection::new(connection.clone(), deadline),
            connection,
            token: uuid::Uuid::new_v4().to_string(),
            lease: millis(lease),
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        self.connection.clock()
    }

    /// Looks for an entry.
    pub(super) async fn look_up(&self, name: &str) -> Result<Option<Entry>> {
        let keys = Keys::new(name);
        let command = Command::new("MGET").arg(&keys.body).arg(&keys.record);
        let ask =
            |redis: Connection| async move { redis.call(command, Repeat::Safe).await?.list() };
        let mut found = self.bounded.ask(ask).await?.into_iter();
        let (body, record) = (found.next().flatten(), found.next().flatten());
        Ok(Entry::read(body, record))
    }

    /// Looks again, and takes the lock of an entry that is missing.
    pub(super) async fn claim(&self, name: &str) -> Result<Claim> {
        let call = self.claiming(name);
        let ask = |redis: Connection| async move { redis.run(call, Repeat::Safe).await?.list() };
        let mut reply = self.bounded.ask(ask).await?.into_iter();
        let mut next = || reply.next().flatten();
        match next().as_deref() {
            Some(b"hit") => {
                let (body, record) = (next(), next());
                Ok(Entry::read(body, record).map_or(Claim::Unreadable, Claim::Found))
            }
            Some(b"lead") => Ok(Claim::Leader),
            Some(b"wait") => Ok(Claim::Wait),
            _ => Err(Error::Protocol("cache_claim answered oddly".to_owned())),
        }
    }

    /// Waits for work that runs under the lock of an entry, and keeps the lock meanwhile.
    pub(super) async fn hold<T>(&self, name: &str, work: impl Future<Output = T>) -> T {
        let renew_after = Duration::from_millis((self.lease / 3).max(1));
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(renew_after) => {
                    let call = self.claiming(name);
                    self.bounded.detach(|redis| async move {
                        redis.run(call, Repeat::Once).await.map(drop)
                    });
                }
            }
        }
    }

    fn claiming(&self, name: &str) -> ScriptCall {
        let keys = Keys::new(name);
        ScriptCall::new(&CLAIM, &[&keys.body, &keys.record, &keys.lock])
            .arg(self.token.as_str())
            .int(self.lease)
    }

    /// Releases a lock without waiting for the reply.
    pub(super) fn release(&self, name: &str) {
        let call = release(&Keys::new(name).lock, &self.token);
        self.bounded
            .detach(|redis| async move { redis.run(call, Repeat::Safe).await.map(drop) });
    }

    /// Stores an entry and gives up its lock; `false` when a tag was invalidated meanwhile, or
    /// the entry has no stored form.
    pub(super) async fn store(&self, storage: Storage<'_>) -> Result<bool> {
        let Storage { entry, terms, .. } = storage;
        let keys = Keys::new(storage.name);
        let tags: Vec<_> = storage.tags.iter().map(|tag| tag_keys(tag)).collect();
        let mut all: Vec<&str> = vec![&keys.body, &keys.record, &keys.stale, &keys.lock];
        for (set, mark) in &tags {
            all.extend([set.as_str(), mark.as_str()]);
        }
        let Some(whole) = entry.head_with_body() else {
            return Ok(false);
        };
        let beside = (terms.plain && entry.is_json()).then(|| entry.head_beside_body());
        let stale_for = if terms.stale {
            millis(storage.stale_for)
        } else {
            0
        };
        let call = ScriptCall::new(&STORE, &all)
            .arg(self.token.as_str())
            .arg(storage.started.to_string())
            .arg(self.clock().now().to_string())
            .int(millis(terms.ttl))
            .int(stale_for)
            .arg(storage.name)
            .arg(whole)
            .arg(beside.flatten().unwrap_or_default())
            .arg(entry.body().to_vec());
        let ask = |redis: Connection| async move { redis.run(call, Repeat::Safe).await?.flag() };
        self.bounded.ask(ask).await
    }

    /// Reads the copy of an entry that outlives it.
    pub(super) async fn stale(&self, name: &str) -> Result<Option<Entry>> {
        let command = Command::new("GET").arg(Keys::new(name).stale);
        let ask = |redis: Connection| async move {
            redis
                .call(command, Repeat::Safe)
                .await
                .and_then(Reply::bytes)
        };
        let record = self.bounded.ask(ask).await?;
        Ok(Entry::read(None, record))
    }

    /// Deletes the entries of a tag, step by step; those of the first moment, so that entries
    /// that come meanwhile do not keep it busy.
    pub(super) async fn invalidate(&self, tag: &str) -> Result<u64> {
        let (set, mark) = tag_keys(tag);
        let at = self.clock().now() + Duration::from_millis(MARK_SLACK.unsigned_abs());
        let mut deleted = 0_u64;
        let mut due = None;
        loop {
            let call = ScriptCall::new(&INVALIDATE, &[&set, &mark])
                .arg(at.to_string())
                .int(MARK_TTL)
                .int(STEP);
            let reply = self.connection.run(call, Repeat::Safe).await?.numbers()?;
            let mut numbers = reply
                .into_iter()
                .map(|number| u64::try_from(number).unwrap_or(0));
            let step = numbers.next().unwrap_or(0);
            let left = numbers.next().unwrap_or(0);
            deleted = deleted.saturating_add(step);
            let due = due.get_or_insert(left.saturating_add(step));
            if left == 0 || step == 0 || deleted >= *due {
                return Ok(deleted);
            }
        }
    }
}

fn tag_keys(tag: &str) -> (String, String) {
    (format!("api:tag:{tag}"), format!("api:untag:{tag}"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
