//! Entries of the event stream (`docs/protocol.md#events`): their ids, their fields and their meaning.
//!
//! [`QueueEvent`] is the public form, which owns and keeps everything. [`StreamEvent`] borrows, and has
//! only what the library itself reads from the stream.

mod fields;
mod id;
mod queue_event;
mod stream_event;

pub use fields::EventFields;
pub use id::EventId;
pub use queue_event::{PrevState, QueueEvent, RawJson};
pub(crate) use stream_event::StreamEvent;

/// Names of the fields that several readers use.
mod field {
    pub(super) const EVENT: &str = "event";
    pub(super) const JOB: &str = "jobId";
    pub(super) const RETURN_VALUE: &str = "returnvalue";
    pub(super) const FAILED_REASON: &str = "failedReason";
    pub(super) const DEDUPLICATION_ID: &str = "deduplicationId";
    pub(super) const DEDUPLICATED_JOB: &str = "deduplicatedJobId";
}

/// The events that BullMQ knows.
const KNOWN: [&str; 18] = [
    "active",
    "added",
    "cleaned",
    "completed",
    "debounced",
    "deduplicated",
    "delayed",
    "drained",
    "duplicated",
    "failed",
    "paused",
    "progress",
    "removed",
    "resumed",
    "retries-exhausted",
    "stalled",
    "waiting",
    "waiting-children",
];
/// What BullMQ's listener emits by itself: an entry named `error` ends a Node process that does
/// not expect it.
const LOCAL: [&str; 4] = ["error", "ioredis:close", "newListener", "removeListener"];

/// Whether an event of this name has a meaning for BullMQ clients. `completed:7` is what waiters for
/// job 7 listen to.
pub(crate) fn is_reserved_event(name: &str) -> bool {
    let first = name.split(':').next().unwrap_or_default();
    KNOWN.contains(&first) || LOCAL.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_are_reserved() {
        for name in [
            "completed",
            "completed:7",
            "debounced",
            "error",
            "ioredis:close",
        ] {
            assert!(is_reserved_event(name), "{name}");
        }
        for name in ["deployed", "app:completed", "completed-late", "errors"] {
            assert!(!is_reserved_event(name), "{name}");
        }
    }
}
