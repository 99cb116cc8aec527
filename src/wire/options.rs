//! The `opts` field of a job hash (`docs/protocol.md#job-options`).
//!
//! Writing keeps to the names and shapes that BullMQ stores. Reading is lenient: options come from
//! environment variables and forms, and one that cannot be read must not fail its job. It
//! has BullMQ's effect where that is safe, otherwise none, and is reported among the problems.

mod decode;
mod value;

use std::time::Duration;

use serde_json::{Map, Number, Value, json};

use crate::job::{Backoff, BackoffKind, ChildPolicy, JobOptions, Parent, Retention};
use crate::wire::deduplication::encode_deduplication;

pub(crate) use decode::decode_options;
pub(crate) use value::{duration, finite, problem, truthy, whole};

/// Encodes options as they are stored with a job.
pub(crate) fn encode_options(options: &JobOptions) -> String {
    let mut map = options_map(options);
    map.entry("attempts").or_insert_with(|| 0.into());
    Value::Object(map).to_string()
}

/// Encodes options as they are stored with a job scheduler: what is not set is absent.
pub(crate) fn options_map(options: &JobOptions) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        map.insert(name.to_owned(), value);
    };
    if let Some(attempts) = options.attempts {
        put("attempts", attempts.into());
    }
    if let Some(id) = &options.id {
        put("jobId", id.as_str().into());
    }
    if let Some(delay) = options.delay {
        put("delay", millis(delay));
    }
    if let Some(priority) = options.priority {
        put("priority", priority.into());
    }
    if let Some(lifo) = options.lifo {
        put("lifo", lifo.into());
    }
    if let Some(backoff) = &options.backoff {
        put("backoff", encode_backoff(backoff));
    }
    if let Some(retention) = &options.remove_on_complete {
        put("removeOnComplete", encode_retention(retention));
    }
    if let Some(retention) = &options.remove_on_fail {
        put("removeOnFail", encode_retention(retention));
    }
    if let Some(rows) = options.keep_logs {
        put("kl", rows.into());
    }
    if let Some(entries) = options.stack_trace_limit {
        put("stackTraceLimit", entries.into());
    }
    if let Some(bytes) = options.size_limit {
        put("sizeLimit", bytes.into());
    }
    if let Some(timestamp) = options.timestamp {
        put("timestamp", timestamp.as_millis().into());
    }
    if let Some(parent) = &options.parent {
        put(
            "parent",
            json!({ "id": parent.id.as_str(), "queue": parent.queue }),
        );
        if let Some(flag) = policy_flag(parent.on_failure) {
            put(flag, true.into());
        }
    }
    if let Some(deduplication) = &options.deduplication {
        put("de", encode_deduplication(deduplication));
    }
    if let Some(telemetry) = &options.telemetry {
        if let Some(metadata) = &telemetry.metadata {
            put("tm", metadata.as_str().into());
        }
        if let Some(omit) = telemetry.omit_context {
            put("omc", omit.into());
        }
    }
    map
}

/// Encodes the `parent` field of a child's hash (`docs/protocol.md#job-hash`). The id is written as
/// Redis has it, for scripts to find the parent by.
pub(crate) fn parent_link(parent: &Parent) -> Vec<u8> {
    let mut link = b"{\"id\":\"".to_vec();
    for byte in parent.id.as_bytes() {
        match byte {
            b'"' | b'\\' => link.extend([b'\\', *byte]),
            0..=0x1f => link.extend(format!("\\u{byte:04x}").bytes()),
            _ => link.push(*byte),
        }
    }
    let queue = Value::from(parent.queue.as_str());
    link.extend(format!("\",\"queueKey\":{queue}").bytes());
    if let Some(flag) = policy_flag(parent.on_failure) {
        link.extend(format!(",\"{flag}\":true").bytes());
    }
    link.push(b'}');
    link
}

/// Reads a child's policy from the flags of its `parent` field or options.
pub(crate) fn policy_of(flags: &Map<String, Value>) -> ChildPolicy {
    let set = |name: &str| {
        let flag = flags.get(name);
        flag.is_some_and(|flag| !matches!(flag, Value::Null | Value::Bool(false)))
    };
    if set("fpof") {
        ChildPolicy::FailParent
    } else if set("cpof") {
        ChildPolicy::ContinueParent
    } else if set("idof") {
        ChildPolicy::Ignore
    } else if set("rdof") {
        ChildPolicy::Remove
    } else {
        ChildPolicy::Wait
    }
}

pub(super) fn policy_flag(policy: ChildPolicy) -> Option<&'static str> {
    match policy {
        ChildPolicy::Wait => None,
        ChildPolicy::FailParent => Some("fpof"),
        ChildPolicy::ContinueParent => Some("cpof"),
        ChildPolicy::Ignore => Some("idof"),
        ChildPolicy::Remove => Some("rdof"),
    }
}

pub(super) fn millis(duration: Duration) -> Value {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX)
        .into()
}

fn encode_backoff(backoff: &Backoff) -> Value {
    let mut map = Map::new();
    let kind = match &backoff.kind {
        BackoffKind::Fixed => "fixed",
        BackoffKind::Exponential => "exponential",
        BackoffKind::Custom(name) => name,
    };
    map.insert("type".to_owned(), kind.into());
    if let Some(delay) = backoff.delay {
        map.insert("delay".to_owned(), millis(delay));
    }
    if let Some(jitter) = backoff.jitter.and_then(Number::from_f64) {
        map.insert("jitter".to_owned(), Value::Number(jitter));
    }
    Value::Object(map)
}

fn encode_retention(retention: &Retention) -> Value {
    match retention {
        Retention::KeepAll => false.into(),
        Retention::Remove => true.into(),
        Retention::KeepLast(count) => (*count).into(),
        Retention::Bounded { count, age, limit } => {
            let mut map = Map::new();
            if let Some(count) = count {
                map.insert("count".to_owned(), (*count).into());
            }
            if let Some(age) = age {
                map.insert("age".to_owned(), seconds(*age));
            }
            if let Some(limit) = limit {
                map.insert("limit".to_owned(), (*limit).into());
            }
            Value::Object(map)
        }
    }
}

fn seconds(age: Duration) -> Value {
    if age.subsec_millis() == 0 {
        age.as_secs().into()
    } else {
        age.as_secs_f64().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::{JobId, Telemetry};

    fn parsed(options: &JobOptions) -> Value {
        serde_json::from_str(&encode_options(options)).unwrap()
    }

    #[test]
    fn options_are_stored_under_the_names_of_the_protocol() {
        let options = JobOptions::new()
            .keep_logs(7)
            .telemetry(Telemetry::new("m").omit_context())
            .backoff(Backoff::fixed(Duration::from_secs(1)))
            .remove_on_complete(Retention::KeepLast(100))
            .remove_on_fail(Retention::Bounded {
                count: Some(50),
                age: Some(Duration::from_secs(3600)),
                limit: Some(10),
            })
            .parent(
                Parent::new("bull:p", JobId::existing("P1")).on_failure(ChildPolicy::FailParent),
            );
        assert_eq!(
            parsed(&options),
            json!({
                "attempts": 0, "kl": 7, "tm": "m", "omc": true, "fpof": true,
                "backoff": {"type": "fixed", "delay": 1000},
                "removeOnComplete": 100,
                "removeOnFail": {"age": 3600, "count": 50, "limit": 10},
                "parent": {"id": "P1", "queue": "bull:p"},
            })
        );
        assert_eq!(parsed(&JobOptions::new()), json!({"attempts": 0}));
    }

    /// What other writers store is read by its meaning, and nothing is lost on the way.
    #[test]
    fn odd_values_of_other_writers_are_read_leniently() {
        let decoded = decode_options(
            r#"{"attempts":"3","delay":1.5,"backoff":500,"removeOnComplete":-1,"removeOnFail":{},
                "repeat":{"every":1},"lifo":0,"tm":false,"priority":2.0}"#,
        );
        assert_eq!(decoded.problems, Vec::<String>::new());
        assert_eq!(decoded.known.attempts, Some(3));
        assert_eq!(decoded.known.delay, Some(Duration::from_millis(1)));
        assert_eq!(
            decoded.known.backoff,
            Some(Backoff::fixed(Duration::from_millis(500)))
        );
        assert_eq!(decoded.known.remove_on_complete, Some(Retention::KeepAll));
        assert_eq!(decoded.known.lifo, Some(false));
        assert_eq!(decoded.known.priority, Some(2));
        assert_eq!(
            decoded.unknown.as_deref(),
            Some(r#"{"repeat":{"every":1}}"#)
        );
    }

    #[test]
    fn links_to_parents_have_the_id_as_it_is() {
        let parent = Parent::new("bull:p", JobId::from_bytes(b"a\"\\\x01\xed\xa0\xbd"));
        assert_eq!(
            parent_link(&parent.on_failure(ChildPolicy::Ignore)),
            b"{\"id\":\"a\\\"\\\\\\u0001\xed\xa0\xbd\",\"queueKey\":\"bull:p\",\"idof\":true}"
        );
    }

    proptest! {
        /// Decoding what was encoded gives the same options.
        #[test]
        fn options_survive_the_round_trip(
            attempts in proptest::option::of(0u32..1000),
            delay in proptest::option::of(0u64..1 << 50),
            priority in proptest::option::of(0u32..2_097_152),
            lifo in proptest::option::of(any::<bool>()),
            logs in proptest::option::of(0u32..100),
            // Sixteenths, which every writer of numbers keeps exactly.
            jitter in proptest::option::of((0u8..=16).prop_map(|n| f64::from(n) / 16.0)),
            keep in proptest::option::of(1u64..1000),
            id in proptest::option::of("[a-z]{3,9}"),
            metadata in proptest::option::of(".{0,20}"),
        ) {
            let options = JobOptions {
                id: id.map(JobId::existing),
                attempts: Some(attempts.unwrap_or(0)),
                delay: delay.map(Duration::from_millis),
                priority, lifo,
                keep_logs: logs,
                backoff: jitter.map(|j| Backoff::exponential(Duration::from_millis(10)).jitter(j)),
                remove_on_complete: keep.map(Retention::KeepLast),
                telemetry: metadata.map(Telemetry::new),
                ..JobOptions::new()
            };
            let decoded = decode_options(&encode_options(&options));
            prop_assert_eq!(decoded.problems, Vec::<String>::new());
            prop_assert_eq!(decoded.known, options);
        }

        /// No text makes decoding panic.
        #[test]
        fn any_text_decodes_or_is_named(text in ".{0,60}") {
            decode_options(&text);
        }
    }
}
