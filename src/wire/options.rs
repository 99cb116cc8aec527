//! The `opts` field of a job hash (spec: layout §6).
//!
//! Writing keeps to the names and shapes that BullMQ stores. Reading is lenient about how a value
//! is written (a number as text, a whole number with a fraction) and strict about what it means: a
//! value that cannot be understood is named, never replaced by a default.

use std::time::Duration;

use serde_json::{Map, Number, Value, json};

use crate::clock::Timestamp;
use crate::job::{
    Backoff, BackoffKind, ChildPolicy, JobId, JobOptions, Parent, Retention, Telemetry,
};
use crate::wire::deduplication::{decode_deduplication, encode_deduplication};

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

/// Encodes the `parent` field of a child's hash (spec: layout §5).
pub(crate) fn parent_link(parent: &Parent) -> String {
    let mut link = json!({ "id": parent.id.as_str(), "queueKey": parent.queue });
    if let (Some(flag), Some(link)) = (policy_flag(parent.on_failure), link.as_object_mut()) {
        link.insert(flag.to_owned(), true.into());
    }
    link.to_string()
}

/// Reads a child's policy from the flags of its `parent` field or options.
pub(crate) fn policy_of(flags: &Map<String, Value>) -> ChildPolicy {
    let set = |name: &str| flags.get(name).is_some_and(|v| v == &Value::Bool(true));
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

fn policy_flag(policy: ChildPolicy) -> Option<&'static str> {
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
                map.insert("age".to_owned(), age.as_secs().into());
            }
            if let Some(limit) = limit {
                map.insert("limit".to_owned(), (*limit).into());
            }
            Value::Object(map)
        }
    }
}

/// What `opts` held: the options this version knows, the others as JSON text, and what could not
/// be understood.
#[derive(Debug, Default)]
pub(crate) struct DecodedOptions {
    pub(crate) known: JobOptions,
    pub(crate) unknown: Option<String>,
    pub(crate) problems: Vec<String>,
}

/// Decodes the stored options of a job.
pub(crate) fn decode_options(text: &str) -> DecodedOptions {
    let mut decoded = DecodedOptions::default();
    // What almost every job without options has; worth not parsing.
    if text == r#"{"attempts":0}"# {
        decoded.known.attempts = Some(0);
        return decoded;
    }
    let map = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(map)) => map,
        Ok(_) => {
            decoded.problems.push("opts: is no JSON object".to_owned());
            return decoded;
        }
        Err(error) => {
            decoded.problems.push(format!("opts: {error}"));
            return decoded;
        }
    };
    let mut unknown = Map::new();
    let mut parent = None;
    for (name, value) in &map {
        // In a form this version does not know it is kept: a worker can do without.
        if name == "de"
            && let Some((deduplication, more)) = decode_deduplication(value)
        {
            decoded.known.deduplication = Some(deduplication);
            if !more.is_empty() {
                unknown.insert(name.clone(), Value::Object(more));
            }
            continue;
        }
        if let Err(reason) = decode_option(&mut decoded.known, &mut parent, name, value) {
            match reason {
                Misread::Unknown => {
                    unknown.insert(name.clone(), value.clone());
                }
                Misread::Because(reason) => {
                    decoded.problems.push(format!("opts.{name}: {reason}"));
                }
            }
        }
    }
    decoded.known.parent = parent.map(|parent: Parent| parent.on_failure(policy_of(&map)));
    if !unknown.is_empty() {
        decoded.unknown = Some(Value::Object(unknown).to_string());
    }
    decoded
}

pub(super) enum Misread {
    Unknown,
    Because(&'static str),
}

fn decode_option(
    options: &mut JobOptions,
    parent: &mut Option<Parent>,
    name: &str,
    value: &Value,
) -> Result<(), Misread> {
    if value.is_null() {
        return Ok(());
    }
    match name {
        "attempts" => options.attempts = Some(small(number(value)?)),
        "delay" => options.delay = Some(duration(number(value)?)),
        "priority" => options.priority = Some(small(number(value)?)),
        "lifo" => options.lifo = Some(truthy(value)),
        "kl" => options.keep_logs = Some(small(number(value)?)),
        "stackTraceLimit" => options.stack_trace_limit = Some(small(number(value)?)),
        "sizeLimit" => options.size_limit = Some(small(number(value)?) as usize),
        "timestamp" => options.timestamp = Some(Timestamp::from_millis(whole(number(value)?))),
        "jobId" => {
            options.id = value
                .as_str()
                .filter(|id| !id.is_empty())
                .map(JobId::existing);
        }
        "backoff" => options.backoff = Some(decode_backoff(value)?),
        "removeOnComplete" => options.remove_on_complete = Some(decode_retention(value)?),
        "removeOnFail" => options.remove_on_fail = Some(decode_retention(value)?),
        "parent" => {
            let field = |name: &str| value.get(name).and_then(Value::as_str);
            let (Some(id), Some(queue)) = (field("id"), field("queue")) else {
                return Err(Misread::Because("has no id and queue"));
            };
            *parent = Some(Parent::new(queue, JobId::existing(id)));
        }
        "fpof" | "cpof" | "idof" | "rdof" => {}
        // Some writers store `false` here; only text is a context.
        "tm" => {
            if let Some(metadata) = value.as_str() {
                let telemetry = options.telemetry.get_or_insert_with(Telemetry::default);
                telemetry.metadata = Some(metadata.to_owned());
            }
        }
        "omc" => {
            let telemetry = options.telemetry.get_or_insert_with(Telemetry::default);
            telemetry.omit_context = Some(truthy(value));
        }
        _ => return Err(Misread::Unknown),
    }
    Ok(())
}

/// Reads a number, also one written as text.
pub(super) fn number(value: &Value) -> Result<f64, Misread> {
    finite(value).ok_or(Misread::Because("is no number"))
}

pub(super) fn finite(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(set) => Some(f64::from(*set)),
        _ => None,
    };
    number.filter(|n| n.is_finite())
}

/// Whole part of a number, negative ones as 0, larger ones as the maximum.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(super) fn small(number: f64) -> u32 {
    number as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, which is what is wanted"
)]
pub(super) fn whole(number: f64) -> i64 {
    number as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(super) fn duration(millis: f64) -> Duration {
    Duration::from_millis(millis as u64)
}

pub(super) fn truthy(value: &Value) -> bool {
    match value {
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Null => false,
        Value::Array(_) | Value::Object(_) => true,
    }
}

fn decode_backoff(value: &Value) -> Result<Backoff, Misread> {
    match value {
        Value::Number(_) => Ok(Backoff::fixed(duration(number(value)?))),
        // A plain text has no type for BullMQ, whatever it says: an unknown strategy.
        Value::String(name) => Ok(Backoff::custom(name.as_str())),
        Value::Object(map) => {
            let optional = |name: &str| match map.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => number(value).map(Some),
            };
            let kind = match map.get("type").and_then(Value::as_str) {
                Some("fixed") => BackoffKind::Fixed,
                Some("exponential") => BackoffKind::Exponential,
                Some(name) => BackoffKind::Custom(name.to_owned()),
                None => BackoffKind::Custom("undefined".to_owned()),
            };
            Ok(Backoff {
                kind,
                delay: optional("delay")?.map(duration),
                jitter: optional("jitter")?.map(|jitter| jitter.clamp(0.0, 1.0)),
            })
        }
        _ => Err(Misread::Because("is no backoff")),
    }
}

fn decode_retention(value: &Value) -> Result<Retention, Misread> {
    match value {
        Value::Bool(true) => Ok(Retention::Remove),
        Value::Bool(false) => Ok(Retention::KeepAll),
        Value::Number(_) | Value::String(_) => {
            let count = number(value)?;
            Ok(if count < 0.0 {
                Retention::KeepAll
            } else if count < 1.0 {
                Retention::Remove
            } else {
                Retention::KeepLast(u64::from(small(count)))
            })
        }
        Value::Object(map) => {
            let bound = |name: &str| match map.get(name) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => {
                    number(value).map(|n| (n >= 0.0).then(|| u64::try_from(whole(n)).unwrap_or(0)))
                }
            };
            let count = bound("count")?;
            if count == Some(0) {
                return Ok(Retention::Remove);
            }
            Ok(Retention::Bounded {
                count,
                age: bound("age")?.map(Duration::from_secs),
                limit: bound("limit")?,
            })
        }
        // An empty table stored by a Redis-side encoder reads as an empty list.
        Value::Array(list) if list.is_empty() => Ok(Retention::KeepAll),
        _ => Err(Misread::Because("is no retention")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(options: &JobOptions) -> Value {
        serde_json::from_str(&encode_options(options)).unwrap()
    }

    #[test]
    fn options_are_stored_under_the_names_of_the_spec() {
        let options = JobOptions::new()
            .keep_logs(7)
            .telemetry(Telemetry::new("m").omit_context(true))
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
    fn broken_values_are_named_and_the_others_kept() {
        let decoded = decode_options(r#"{"attempts":[],"delay":"soon","priority":4}"#);
        assert_eq!(decoded.known.priority, Some(4));
        assert_eq!(
            decoded.problems,
            ["opts.attempts: is no number", "opts.delay: is no number"]
        );
        assert!(!decode_options("{\"attempts\":3").problems.is_empty());
        assert!(!decode_options("null").problems.is_empty());
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
