//! All keys under a prefix in a form that two implementations can be compared by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oxbull_testkit::Connection;
use serde_json::{Map, Value, json};

use crate::TestResult;

/// Two time limits this close count as equal: they run on the server's clock, which no test stops.
const TTL_TOLERANCE: i64 = 5_000;
/// What stands for the prefix of the queues.
const PREFIX: &str = "P";
/// Hash fields that hold JSON; the order of members and the spelling of numbers do not matter.
const JSON_FIELDS: [&str; 6] = ["opts", "data", "parent", "returnvalue", "progress", "pd"];

/// All keys under one prefix.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshot {
    keys: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    kind: String,
    value: Value,
    ttl: Option<i64>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        let ttl = match (self.ttl, other.ttl) {
            (Some(a), Some(b)) => (a - b).abs() <= TTL_TOLERANCE,
            (a, b) => a == b,
        };
        ttl && self.kind == other.kind && self.value == other.value
    }
}

impl Snapshot {
    /// Reads everything under `prefix`.
    pub(crate) async fn take(redis: &mut Connection, prefix: &str) -> TestResult<Self> {
        let pattern = format!("{prefix}:*");
        let mut keys = BTreeMap::new();
        for key in redis.call(&["KEYS", &pattern]).await?.texts() {
            let kind = redis
                .call(&["TYPE", &key])
                .await?
                .text()
                .unwrap_or_default();
            let value = read(redis, &key, &kind).await?;
            let ttl = redis.call(&["PTTL", &key]).await?.int();
            let entry = Entry {
                kind,
                value: neutral(value, prefix),
                ttl: ttl.filter(|ttl| *ttl >= 0),
            };
            keys.insert(key.replacen(prefix, PREFIX, 1), entry);
        }
        Ok(Self { keys })
    }

    /// Returns the value of a key (`q:wait`), null where there is none.
    pub(crate) fn value(&self, key: &str) -> Value {
        let entry = self.keys.get(&format!("{PREFIX}:{key}"));
        entry.map_or(Value::Null, |entry| entry.value.clone())
    }

    /// Says where two snapshots differ, readable; `None` when they are equal.
    pub(crate) fn difference(&self, reference: &Self) -> Option<String> {
        let mut text = String::new();
        let all: std::collections::BTreeSet<_> =
            self.keys.keys().chain(reference.keys.keys()).collect();
        for key in all {
            let (ours, theirs) = (self.keys.get(key), reference.keys.get(key));
            if ours != theirs {
                writeln!(text, "  {key}").ok();
                writeln!(text, "    reference: {}", show(theirs)).ok();
                writeln!(text, "    here:      {}", show(ours)).ok();
            }
        }
        (!text.is_empty()).then_some(text)
    }
}

fn show(entry: Option<&Entry>) -> String {
    match entry {
        None => "(no such key)".to_owned(),
        Some(Entry { kind, value, ttl }) => {
            let ttl = ttl.map_or(String::new(), |ttl| format!(" ttl {ttl} ms"));
            format!("{kind}{ttl} {value}")
        }
    }
}

async fn read(redis: &mut Connection, key: &str, kind: &str) -> TestResult<Value> {
    Ok(match kind {
        "string" => json!(redis.call(&["GET", key]).await?.text()),
        "list" => json!(redis.call(&["LRANGE", key, "0", "-1"]).await?.texts()),
        "set" => {
            let mut members = redis.call(&["SMEMBERS", key]).await?.texts();
            members.sort();
            json!(members)
        }
        "zset" => {
            let members = redis
                .call(&["ZRANGE", key, "0", "-1", "WITHSCORES"])
                .await?;
            json!(members.texts())
        }
        "hash" => {
            let fields = redis.call(&["HGETALL", key]).await?.map();
            Value::Object(
                fields
                    .into_iter()
                    .filter(|(field, _)| field != "version")
                    .map(|(field, text)| {
                        let value = decoded(&field, text);
                        (field, value)
                    })
                    .collect(),
            )
        }
        "stream" => {
            let entries = redis.call(&["XRANGE", key, "-", "+"]).await?;
            entries
                .items()
                .iter()
                .filter_map(|entry| entry.items().get(1))
                .map(|fields| fields.texts().join(" "))
                .collect()
        }
        _ => return Err(format!("{key} has the unknown type {kind}").into()),
    })
}

/// Decodes the fields of a hash that are JSON.
fn decoded(field: &str, text: String) -> Value {
    if field == "stacktrace" {
        // What comes after the message is up to each language.
        let traces: Vec<String> = serde_json::from_str(&text).unwrap_or_default();
        return traces
            .iter()
            .map(|trace| trace.lines().next().unwrap_or_default())
            .map(|line| line.split_once(": ").map_or(line, |(_, message)| message))
            .collect();
    }
    if JSON_FIELDS.contains(&field)
        && let Ok(value) = serde_json::from_str(&text)
    {
        return value;
    }
    Value::String(text)
}

/// Replaces the prefix in every text of a value.
pub(crate) fn neutral(value: Value, prefix: &str) -> Value {
    match value {
        Value::String(text) => text.replace(prefix, PREFIX).into(),
        Value::Array(items) => items.into_iter().map(|v| neutral(v, prefix)).collect(),
        Value::Object(map) => {
            let map: Map<String, Value> = map
                .into_iter()
                .map(|(name, v)| (name.replace(prefix, PREFIX), neutral(v, prefix)))
                .collect();
            Value::Object(map)
        }
        // 5 and 5.0 are one number in JSON.
        Value::Number(number) => json!(number.as_f64()),
        other => other,
    }
}
