//! What Redis remembers of deliveries and their events.
//!
//! All keys of an account share its hash tag, and all have a time to live. In their names
//! `{…}` is written as it stands, around the account's id:
//!
//! | key | what | time to live |
//! |---|---|---|
//! | `webhook:{account}:delivery:<share>` | `open`, or `done` once its events are handled | 48 h |
//! | `webhook:{account}:turns:<conversation>` | shares to come, by their place | 48 h |
//! | `webhook:{account}:seen:<kind>:<eventId>` | the job that an event belongs to | 48 h |
//! | `webhook:{account}:events` | stream of the newest 10,000 events of known kinds | 30 days |
//! | `webhook:{account}:unknown` | stream of the newest 1,000 of unknown kinds | 30 days |
//! | `webhook:{account}:counts` | events handled, by kind | 30 days |
//! | `webhook:{account}:passed` | places passed over | 30 days |
//!
//! A share is named by its job's id, with `#1`, `#2`, … where an account has several in a
//! delivery.

use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use oxbull::client::{self, Client, Repeat, Script, ScriptCall};
use oxbull::{BoxError, Job, JobId, JobState, Queue, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{EventKind, QUEUE, Share, WebhookEvent};
use crate::notify;

/// How long deliveries and events are remembered: the API repeats a delivery for up to 36 hours.
pub const SEEN_TTL: Duration = Duration::from_secs(48 * 3600);

/// How long an account's record is kept after its last event.
pub const RECORD_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Events of known kinds kept an account, about.
pub const MOST_EVENTS: u32 = 10_000;

/// Events of unknown kinds kept an account, about.
pub const MOST_UNKNOWN: u32 = 1_000;

/// How long after a delivery was queued its places may come, and a place may be without its job. A
/// gateway that died in between must not hold up a delivery or a conversation for longer.
pub const PASS_OVER_AFTER: Duration = Duration::from_secs(10);

/// What the ids of the gateway's jobs begin with.
const ID_PREFIX: &str = "delivery-";

/// Calls to Redis that one delivery has under way at a time; they share one connection.
pub(super) const CALLS: usize = 64;

static ACCEPT: Script = Script::new(
    "accept_delivery",
    include_str!("../../../lua/accept_delivery.lua"),
);
static HANDLE: Script = Script::new(
    "handle_events",
    include_str!("../../../lua/handle_events.lua"),
);
static PASS_OVER: Script = Script::new("pass_over", include_str!("../../../lua/pass_over.lua"));

/// The stream of an account's events of known kinds; each entry has one field, `event`, with a
/// [`Notice`] as JSON.
pub fn events_key(account: &str) -> String {
    key(account, "events")
}

/// The stream of an account's events of unknown kinds, as [`events_key`].
pub fn unknown_key(account: &str) -> String {
    key(account, "unknown")
}

/// The channel on which an event is published: the user's, `notify:<userId>`, where the delivery
/// names one, else the account's, `notify:account:<accountId>`.
pub fn channel(user: Option<&str>, account: &str) -> String {
    match user {
        Some(user) => notify::channel(user),
        None => notify::channel(&format!("account:{account}")),
    }
}

fn key(account: &str, rest: &str) -> String {
    format!("webhook:{{{account}}}:{rest}")
}

fn delivery_key(account: &str, share: &str) -> String {
    key(account, &format!("delivery:{share}"))
}

/// The name of a share.
fn name(id: &JobId, share: &Share) -> String {
    match share.part {
        0 => id.to_string(),
        part => format!("{id}#{part}"),
    }
}

/// The job of a share.
fn job_of(name: &str) -> JobId {
    JobId::existing(name.split_once('#').map_or(name, |(id, _)| id))
}

fn turns_key(account: &str, conversation: &str) -> String {
    key(account, &format!("turns:{conversation}"))
}

fn seen_key(event: &WebhookEvent) -> String {
    let rest = format!("seen:{}:{}", event.kind.name(), event.event_id);
    key(&event.account_id, &rest)
}

/// What is published and recorded of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "webhook.event")]
pub struct Notice {
    /// The event.
    #[serde(flatten)]
    pub event: WebhookEvent,
}

/// The record of deliveries and events, on the queues' server, which evicts nothing.
#[derive(Debug, Clone)]
pub struct Ledger {
    client: Client,
    queue: Queue<Value>,
}

/// What became of a share.
#[derive(Debug)]
pub(super) enum Handled {
    /// Its events are handled; each with whether this job handled it.
    Done(Vec<bool>),
    /// Another share comes first.
    Behind(First),
    /// Its places are still to come. Nothing has changed.
    Unplaced,
}

/// Whether a share has places in its conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Places {
    /// The gateway gives them, and may still be about to.
    Awaited,
    /// The gateway should have given them by now.
    Late,
    /// Nobody gives them: a backend queued the delivery.
    None,
}

impl Places {
    /// Those of a share: the gateway's jobs are known by their ids.
    pub(super) fn of<D>(job: &Job<D>, share: &Share, now: Timestamp) -> Self {
        if !is_gateways(job.id()) {
            return Self::None;
        }
        // Either way, since clocks differ: a job from the future must not wait until then.
        let age = now.as_millis().abs_diff(job.timestamp().as_millis());
        // What belongs to no conversation need not wait for its place.
        if age < millis(PASS_OVER_AFTER) && !share.conversations.is_empty() {
            Self::Awaited
        } else {
            Self::Late
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Awaited => "awaited",
            Self::Late => "late",
            Self::None => "none",
        }
    }
}

/// The id of the gateway's job for a delivery with this hash, in hexadecimal digits.
///
/// # Errors
/// None for a hash: only an empty text or one that is too long makes no id.
pub fn delivery_id(hash: &str) -> oxbull::Result<JobId> {
    JobId::new(format!("{ID_PREFIX}{hash}"))
}

/// Whether an id was made by [`delivery_id`] of a SHA-256.
fn is_gateways(id: &JobId) -> bool {
    let hash = id.as_str().strip_prefix(ID_PREFIX);
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(is_digit))
}

/// The delivery that is first in a conversation.
#[derive(Debug)]
pub(super) struct First {
    conversation: String,
    share: String,
    place: i64,
}

impl Ledger {
    /// Opens the ledger of the queue with this prefix.
    ///
    /// # Errors
    /// [`oxbull::Error::Invalid`] for the prefix.
    pub async fn open(client: &Client, prefix: &str) -> oxbull::Result<Self> {
        // It only reads jobs, so it must not write the queue's options.
        let queue = Queue::builder(client, QUEUE)
            .prefix(prefix)
            .skip_settings_update();
        Ok(Self {
            client: client.clone(),
            queue: queue.open().await?,
        })
    }

    /// Gives a share of a delivery its place in the account's conversations, unless it has it;
    /// returns whether its events have been handled. Safe to repeat.
    ///
    /// # Errors
    /// When Redis did not answer.
    pub async fn accept(&self, id: &JobId, share: &Share) -> Result<bool, BoxError> {
        let name = name(id, share);
        let turns = share.conversations.iter();
        let call = ACCEPT
            .call()
            .key(delivery_key(&share.account, &name))
            .keys(turns.map(|conversation| turns_key(&share.account, conversation)))
            .arg(name)
            .arg(self.now())
            .arg(millis(SEEN_TTL));
        Ok(self.run(call).await?.into_text()? == "done")
    }

    /// Gives all shares of a delivery their places, many at a time. Safe to repeat.
    ///
    /// # Errors
    /// When Redis did not answer: some shares may have their places, others not.
    pub async fn accept_all(&self, id: &JobId, shares: &[Share]) -> Result<(), BoxError> {
        let calls: Vec<_> = shares.iter().map(|share| self.accept(id, share)).collect();
        stream::iter(calls)
            .buffer_unordered(CALLS)
            .try_for_each(async |_| Ok(()))
            .await
    }

    /// Handles a share's events if it comes first in all their conversations.
    pub(super) async fn handle(
        &self,
        id: &JobId,
        owner: &str,
        user: Option<&str>,
        places: Places,
        share: &Share,
    ) -> Result<Handled, BoxError> {
        let account = &share.account;
        let name = name(id, share);
        let turns = share.conversations.iter();
        let mut call = HANDLE
            .call()
            .key(delivery_key(account, &name))
            .key(events_key(account))
            .key(unknown_key(account))
            .key(key(account, "counts"))
            .keys(turns.map(|conversation| turns_key(account, conversation)))
            .arg(name)
            .arg(owner)
            .arg(millis(SEEN_TTL))
            .arg(millis(RECORD_TTL))
            .arg(MOST_EVENTS)
            .arg(MOST_UNKNOWN)
            .arg(channel(user, account))
            .arg(share.conversations.len())
            .arg(places.as_str());
        for event in &share.events {
            let known = !matches!(event.kind, EventKind::Unknown(_));
            let notice = Notice {
                event: event.clone(),
            };
            call = call
                .key(seen_key(event))
                .arg(event.kind.name())
                .arg(u8::from(known))
                .arg(serde_json::to_string(&notice)?);
        }
        let reply = self.run(call).await?.into_array()?.into_iter();
        let reply: Vec<_> = reply
            .map(client::Value::into_text)
            .collect::<Result<_, _>>()?;
        let odd = || BoxError::from("the script's reply is not understood");
        match reply.as_slice() {
            [done, ours @ ..] if done == "done" && ours.len() == share.events.len() => {
                Ok(Handled::Done(ours.iter().map(|ours| ours == "1").collect()))
            }
            [unplaced] if unplaced == "unplaced" => Ok(Handled::Unplaced),
            [behind, number, first, place] if behind == "behind" => {
                let conversation = share.conversations.get(number.parse::<usize>()?);
                Ok(Handled::Behind(First {
                    conversation: conversation.ok_or_else(odd)?.clone(),
                    share: first.clone(),
                    place: place.parse()?,
                }))
            }
            _ => Err(odd()),
        }
    }

    /// Takes the place from a share that will not come: its job has ended, or is not there for
    /// [`PASS_OVER_AFTER`] since its place was given. Returns whether it did.
    pub(super) async fn pass_over(&self, account: &str, first: &First) -> Result<bool, BoxError> {
        let id = job_of(&first.share);
        let job = self.queue.state(&id).await?;
        let waited = self.now() - first.place;
        let gone = match job {
            Some(state) => matches!(state, JobState::Completed | JobState::Failed),
            None => waited >= i64::try_from(PASS_OVER_AFTER.as_millis())?,
        };
        if !gone {
            return Ok(false);
        }
        let call = PASS_OVER
            .call()
            .key(turns_key(account, &first.conversation))
            .key(key(account, "passed"))
            .arg(&first.share)
            .arg(first.place)
            .arg(millis(RECORD_TTL));
        let passed = self.run(call).await?.into_int()? == 1;
        if passed {
            let state = job.map_or("missing", |state| state.as_str());
            tracing::warn!(
                account,
                job = %id,
                state,
                waited_ms = waited,
                "a delivery was passed over: its conversation goes on without it"
            );
        }
        // Somebody else may have done it, which is as good.
        Ok(true)
    }

    /// Runs a script; each may run again after a lost answer.
    async fn run(&self, call: ScriptCall) -> oxbull::Result<client::Value> {
        self.client.run(call, Repeat::Safe).await
    }

    /// The time by this client's clock.
    pub(super) fn time(&self) -> Timestamp {
        self.client.clock().now()
    }

    fn now(&self) -> i64 {
        self.time().as_millis()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the gateway's jobs wait for places: a backend may choose ids that look alike.
    #[test]
    fn gateways_jobs_are_known_by_their_ids() {
        let is = |id: &str| is_gateways(&JobId::existing(id));
        assert!(is_gateways(&delivery_id(&"0a".repeat(32)).unwrap()));
        for id in ["7", "delivery-", "delivery-7", "delivery", ""] {
            assert!(!is(id), "{id}");
        }
        assert!(!is(&format!("delivery-{}", "0A".repeat(32))));
        assert!(!is(&format!("delivery-{}0", "0a".repeat(32))));
        assert!(!is(&"0a".repeat(32)));
    }
}
