//! The option `de` (`docs/protocol.md#job-options`).

use serde_json::{Map, Value};

use crate::job::{Deduplication, IfDelayed};
use crate::wire::options::{duration, finite, millis, truthy};

/// Encodes deduplication as the stored options have it; what is not asked for is left out.
pub(super) fn encode_deduplication(deduplication: &Deduplication) -> Value {
    let mut map = Map::new();
    map.insert("id".to_owned(), deduplication.id.as_str().into());
    if let Some(ttl) = deduplication.ttl {
        map.insert("ttl".to_owned(), millis(ttl));
    }
    for (name, set) in [
        ("extend", deduplication.extend),
        ("replace", deduplication.if_delayed == IfDelayed::Replace),
        (
            "reschedule",
            deduplication.if_delayed == IfDelayed::Reschedule,
        ),
        ("keepLastIfActive", deduplication.keep_last_if_active),
    ] {
        if set {
            map.insert(name.to_owned(), true.into());
        }
    }
    Value::Object(map)
}

/// Decodes deduplication, and returns the members this version does not know; `None` when the
/// value cannot be read.
pub(super) fn decode_deduplication(value: &Value) -> Option<(Deduplication, Map<String, Value>)> {
    let map = value.as_object()?;
    let id = match map.get("id")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    let mut known = Deduplication::new(id);
    let mut unknown = Map::new();
    for (name, value) in map {
        match name.as_str() {
            // Nothing and less mean no time limit.
            "ttl" if value.is_null() => {}
            "ttl" => known.ttl = Some(duration(finite(value)?)).filter(|ttl| !ttl.is_zero()),
            "extend" => known.extend = truthy(value),
            "replace" if truthy(value) => known.if_delayed = IfDelayed::Replace,
            // With both, every client replaces.
            "reschedule" if truthy(value) && known.if_delayed == IfDelayed::Keep => {
                known.if_delayed = IfDelayed::Reschedule;
            }
            "id" | "replace" | "reschedule" => {}
            "keepLastIfActive" => known.keep_last_if_active = truthy(value),
            _ => {
                unknown.insert(name.clone(), value.clone());
            }
        }
    }
    Some((known, unknown))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::job::JobOptions;
    use crate::wire::options::{decode_options, encode_options};

    #[test]
    fn deduplication_is_stored_as_in_the_protocol() {
        let stored = |deduplication: Deduplication| -> Value {
            let options = JobOptions::new().deduplication(deduplication);
            serde_json::from_str(&encode_options(&options)).unwrap()
        };
        assert_eq!(
            stored(Deduplication::new("dd")),
            json!({ "attempts": 0, "de": { "id": "dd" } })
        );
        let all = Deduplication::new("dd")
            .ttl(Duration::from_millis(300))
            .extend()
            .replace()
            .keep_last_if_active();
        assert_eq!(
            stored(all)["de"],
            json!({ "id": "dd", "ttl": 300, "extend": true, "replace": true,
                "keepLastIfActive": true })
        );
    }

    #[test]
    fn replacing_goes_before_rescheduling() {
        let decoded = decode_options(r#"{"de":{"id":"k","replace":true,"reschedule":true}}"#);
        let known = Deduplication::new("k").replace();
        assert_eq!(decoded.known.deduplication, Some(known));
        let decoded = decode_options(r#"{"de":{"id":"k","reschedule":true}}"#);
        let known = Deduplication::new("k").reschedule();
        assert_eq!(decoded.known.deduplication, Some(known));
    }

    /// Members of newer versions are kept, odd values read by their meaning, the rest named.
    #[test]
    fn odd_deduplication_of_other_writers_is_read_leniently() {
        let decoded = decode_options(
            r#"{"de":{"id":7,"ttl":"5000","extend":1,"replace":null,"later":{"a":1}},"new":2}"#,
        );
        let known = Deduplication::new("7").ttl(Duration::from_secs(5)).extend();
        assert_eq!(decoded.known.deduplication, Some(known));
        let unknown: Value = serde_json::from_str(&decoded.unknown.unwrap()).unwrap();
        assert_eq!(unknown, json!({ "de": { "later": { "a": 1 } }, "new": 2 }));
        assert_eq!(decoded.problems, Vec::<String>::new());

        let negative = decode_options(r#"{"de":{"id":"k","ttl":-5}}"#);
        assert_eq!(negative.known.deduplication, Some(Deduplication::new("k")));
        // A worker does not need it to run the job, so what is not understood only stays.
        for text in [
            r#"{"de":{}}"#,
            r#"{"de":["k"]}"#,
            r#"{"de":{"id":"k","ttl":"soon"}}"#,
        ] {
            let decoded = decode_options(text);
            assert_eq!(decoded.unknown.as_deref(), Some(text));
            assert_eq!(decoded.known, JobOptions::new());
            assert_eq!(decoded.problems, Vec::<String>::new());
        }
    }

    proptest! {
        /// Decoding what was encoded gives the same deduplication, and nothing unknown.
        #[test]
        fn deduplication_survives_the_round_trip(
            id in ".{1,40}",
            ttl in proptest::option::of(1u64..1 << 52),
            [extend, keep] in any::<[bool; 2]>(),
            if_delayed in proptest::sample::select(vec![
                IfDelayed::Keep, IfDelayed::Replace, IfDelayed::Reschedule,
            ]),
        ) {
            let mut deduplication = Deduplication::new(id);
            deduplication.extend = extend;
            deduplication.keep_last_if_active = keep;
            deduplication.ttl = ttl.map(Duration::from_millis);
            deduplication.if_delayed = if_delayed;
            let options = JobOptions::new().attempts(0).deduplication(deduplication);
            let decoded = decode_options(&encode_options(&options));
            prop_assert_eq!(decoded.known, options);
            prop_assert_eq!(decoded.unknown, None);
            prop_assert_eq!(decoded.problems, Vec::<String>::new());
        }
    }
}
