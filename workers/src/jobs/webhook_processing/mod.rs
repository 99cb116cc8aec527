//! Splitting webhook deliveries into events, each of which is handled once although the API
//! repeats deliveries, and in the order of its conversation although jobs run side by side.
//!
//! Handling an event is one step of Redis ([`Ledger`]): it is claimed, recorded for its account
//! and published to listeners. However often a delivery arrives, a job runs or a worker
//! crashes, this step happens once:
//!
//! - *exactly once*: the entry in the account's record, its count, and the `PUBLISH`;
//! - *at most once* for each listener: Redis keeps no messages for disconnected listeners, which
//!   read the record instead.
//!
//! A conversation is an account and the other side of a message, postback, receipt or reaction.
//! The gateway queues each delivery and then gives it a place in its conversations; a job whose place is
//! not the first, or not there yet, waits a moment, then is delayed without using an attempt. So no place
//! is ever without a job. A job that finds the first place held by one that has failed or was removed skips
//! that place and logs it; one whose places do not come for [`PASS_OVER_AFTER`], because its gateway died,
//! is handled without. Deliveries that were queued without the gateway have no place: they are handled
//! in the order of the queue, as far as concurrent jobs keep it. Accounts are handled side by side, and
//! what has to wait for its turn holds up no other account.

mod delivery;
mod event;
mod handler;
mod ledger;
mod reading;
mod share;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use delivery::NoDelivery;
pub use event::{EventKind, WebhookEvent, in_ms, split};
pub use handler::{CONCURRENCY, STALLS, handle, options};
pub use ledger::{
    Ledger, MOST_EVENTS, MOST_UNKNOWN, Notice, PASS_OVER_AFTER, RECORD_TTL, SEEN_TTL, channel,
    delivery_id, events_key, unknown_key,
};
pub use share::{SHARE_MAX, Share, shares};

/// The queue's name.
pub const QUEUE: &str = "webhook-processing";

/// A job's data: one delivery, exactly as the API posted it. Where that is an array of deliveries, which
/// its documentation shows, they are read as one; an element of another
/// shape is kept whole, as an event of unknown kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct WebhookDelivery {
    /// What the delivery is about; `instagram`.
    pub object: String,
    /// Its entries, one per account and moment.
    pub entry: Vec<Value>,
    /// What came besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// How many parts of it no decoder takes, such as a number of 400 digits. They are kept as text, or
    /// beside the one that has the same name, and cost nothing else of the delivery.
    #[serde(skip)]
    pub unreadable: usize,
}

impl WebhookDelivery {
    /// The user to notify, from the field `userId` of deliveries that a backend queued.
    pub fn user(&self) -> Option<&str> {
        self.other.get("userId")?.as_str()
    }
}

/// A job's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProcessedDelivery {
    /// The events that no earlier delivery had, in their order.
    pub events: Vec<WebhookEvent>,
    /// How many were dropped because they had been seen.
    pub repeated: usize,
}
