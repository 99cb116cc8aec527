//! Splitting webhook deliveries into events, each of which is passed on once although the API
//! repeats deliveries.

mod claims;
mod event;
mod handler;
mod process;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use claims::RedisClaims;
pub use event::{EventKind, WebhookEvent, split};
pub use handler::{CONCURRENCY, handle, options};
pub use process::{Claims, SEEN_PREFIX, SEEN_TTL, process};

/// The queue's name.
pub const QUEUE: &str = "webhook-processing";

/// A job's data: one delivery, exactly as the API posted it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WebhookDelivery {
    /// What the delivery is about; `instagram`.
    #[serde(default)]
    pub object: String,
    /// Its entries, one per account and moment.
    #[serde(default)]
    pub entry: Vec<Value>,
    /// What came besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A job's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessedDelivery {
    /// The events that no earlier delivery had, in their order.
    pub events: Vec<WebhookEvent>,
    /// How many were dropped because they had been seen.
    pub repeated: usize,
}
