//! All keys under a prefix in a form that two implementations can be compared by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oxbull_testkit::{Connection, TestResult};
use serde_json::{Map, Value, json};

/// Two time limits this close count as equal: they run on the server's clock, which no test stops.
const TTL_TOLERANCE: i64 = 5_000;
/// What stands for the prefix of the queues.
const PREFIX: &str = "P";
/// Hash fields that hold JSON; the order of members and the spelling of numbers do not matter.
const JSON_FIELDS: [&str; 6] = ["opts", "data", "parent", "returnvalue", "progress", "pd"];

/// Reads all keys that match a pattern in one step: name, type, time to live and value of each.
const DUMP: &str = r#"
local readers = {
  string = { "GET" },
  list = { "LRANGE", 0, -1 },
  set = { "SMEMBERS" },
  zset = { "ZRANGE", 0, -1, "WITHSCORES" },
  hash = { "HGETALL" },
  stream = { "XRANGE", "-", "+" },
}
local dump = {}
for _, key in ipairs(redis.call("KEYS", ARGV[1])) do
  local kind = redis.call("TYPE", key).ok
  local value = readers[kind] and redis.call(readers[kind][1], key, unpack(readers[kind], 2))
  dump[#dump + 1] = { key, kind, redis.call("PTTL", key), value }
end
return dump
"#;

/// All keys under one prefix.
#[derive(Debug, Default, Clone, PartialEq)]
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
        let dump = redis.call(&["EVAL", DUMP, "0", &pattern]).await?;
        let mut keys = BTreeMap::new();
        for entry in dump.items() {
            let [key, kind, ttl, value] = entry.items() else {
                return Err(format!("keys were not read: {dump:?}").into());
            };
            let key = key.text().unwrap_or_default();
            let kind = kind.text().unwrap_or_default();
            let entry = Entry {
                value: neutral(read(&key, &kind, value)?, prefix),
                ttl: ttl.int().filter(|ttl| *ttl >= 0),
                kind,
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

    /// Leaves out the wake-ups of all queues.
    pub(crate) fn forget_markers(&mut self) {
        self.keys.retain(|key, _| !key.ends_with(":marker"));
    }

    /// Leaves out of a stream the old entries that another snapshot has lost, or still has, so that
    /// only what both have is compared.
    pub(crate) fn level_stream(&mut self, key: &str, other: &mut Self) {
        let key = format!("{PREFIX}:{key}");
        let (Some(here), Some(there)) = (self.keys.get_mut(&key), other.keys.get_mut(&key)) else {
            return;
        };
        let (Value::Array(here), Value::Array(there)) = (&mut here.value, &mut there.value) else {
            return;
        };
        let common = here.len().min(there.len());
        here.drain(..here.len() - common);
        there.drain(..there.len() - common);
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

fn read(key: &str, kind: &str, value: &oxbull_testkit::Value) -> TestResult<Value> {
    Ok(match kind {
        "string" => json!(value.text()),
        "list" | "zset" => json!(value.texts()),
        "set" => {
            let mut members = value.texts();
            members.sort();
            json!(members)
        }
        "hash" => Value::Object(
            value
                .map()
                .into_iter()
                .filter(|(field, _)| field != "version")
                .map(|(field, text)| {
                    let value = decoded(&field, text);
                    (field, value)
                })
                .collect(),
        ),
        "stream" => value
            .items()
            .iter()
            .filter_map(|entry| entry.items().get(1))
            .map(|fields| fields.texts().join(" "))
            .collect(),
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
