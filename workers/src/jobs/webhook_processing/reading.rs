//! Reading any JSON there is. What a value cannot hold costs only itself, and is kept.

use std::fmt;

use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Levels of arrays and objects that are read; what is below is kept as text. Deliveries have about ten, and
/// readers of what is stored here may stop at 128.
const DEEPEST: usize = 64;

/// What a text holds.
pub(super) struct Reading {
    pub(super) value: Value,
    /// How many parts of it no value holds. A number that is too large, and what is nested too deeply, are
    /// there as their text. Where names are doubled, arrays are joined, and of anything else the last has
    /// the name, as in JavaScript, and the ones before are an array beside it, `<name>#earlier`.
    pub(super) unreadable: usize,
}

/// Reads JSON; halves of surrogate pairs are read as U+FFFD.
///
/// # Errors
/// For text that is no JSON.
pub(super) fn read(text: &str) -> serde_json::Result<Reading> {
    if let Ok(value) = strict(text, DEEPEST) {
        let unreadable = 0;
        return Ok(Reading { value, unreadable });
    }
    let mended = without_lone_surrogates(text);
    let raw: &RawValue = serde_json::from_str(mended.as_deref().unwrap_or(text))?;
    let mut unreadable = 0;
    let value = lenient(raw, DEEPEST, &mut unreadable);
    Ok(Reading { value, unreadable })
}

fn lenient(raw: &RawValue, levels: usize, unreadable: &mut usize) -> Value {
    let text = raw.get();
    if let Ok(value) = strict(text, levels) {
        return value;
    }
    if let Some(levels) = levels.checked_sub(1) {
        if let Ok(Members(members)) = serde_json::from_str(text) {
            let mut object = Map::new();
            for (name, part) in members {
                *unreadable += usize::from(object.contains_key(&name));
                let part = lenient(part, levels, unreadable);
                put(&mut object, name, part);
            }
            return Value::Object(object);
        }
        if let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(text) {
            let parts = parts.into_iter();
            return parts
                .map(|part| lenient(part, levels, unreadable))
                .collect();
        }
    }
    *unreadable += 1;
    Value::String(text.to_owned())
}

/// Adds a member; one of the same name stays, too.
fn put(object: &mut Map<String, Value>, name: String, value: Value) {
    match (object.get_mut(&name), value) {
        (Some(Value::Array(all)), Value::Array(more)) => all.extend(more),
        (Some(last), value) => {
            let earlier = std::mem::replace(last, value);
            put(object, name + "#earlier", Value::Array(vec![earlier]));
        }
        (None, value) => {
            object.insert(name, value);
        }
    }
}

/// Reads what fits into a value of so many levels without a loss.
fn strict(text: &str, levels: usize) -> serde_json::Result<Value> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = Strict(levels).deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

/// The levels that are left.
#[derive(Clone, Copy)]
struct Strict(usize);

impl Strict {
    fn below<E: Error>(self) -> Result<Self, E> {
        let levels = self.0.checked_sub(1);
        levels
            .map(Self)
            .ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut parts = Vec::new();
        while let Some(part) = array.next_element_seed(below)? {
            parts.push(part);
        }
        Ok(Value::Array(parts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object
                .insert(name, members.next_value_seed(below)?)
                .is_some()
            {
                return Err(A::Error::custom("a doubled name"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// An object's members in their order, doubled names included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        json.deserialize_map(InOrder).map(Self)
    }
}

/// Replaces halves of surrogate pairs by U+FFFD: text that was cut in the middle of a character makes
/// them, and no decoder takes them. Returns `None` where there are none.
fn without_lone_surrogates(json: &str) -> Option<String> {
    let mut mended = String::with_capacity(json.len());
    let mut rest = json;
    let mut found = false;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let length = match (unit(escape), escape.get(6..).and_then(unit)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                found = true;
                mended.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            (Some(_), _) => 6,
            // The backslash and what it escapes, which may be another one.
            (None, _) => escape.chars().take(2).map(char::len_utf8).sum(),
        };
        let (escape, after) = escape.split_at(length);
        mended.push_str(escape);
        rest = after;
    }
    mended.push_str(rest);
    found.then_some(mended)
}

/// The code unit that a text begins with as `\uXXXX`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| hex)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reads(text: &str, value: &Value, unreadable: usize) {
        let reading = read(text).unwrap();
        assert_eq!(&reading.value, value, "{text}");
        assert_eq!(reading.unreadable, unreadable, "{text}");
    }

    #[test]
    fn numbers_that_are_too_large_are_kept_as_text() {
        reads("[1e999, 1e3, -1]", &json!(["1e999", 1e3, -1]), 1);
        reads(" -1e999 ", &json!("-1e999"), 1);
        reads(
            r#"{"a": {"b": [{"c": 1e999, "d": "x"}]}, "e": 1}"#,
            &json!({"a": {"b": [{"c": "1e999", "d": "x"}]}, "e": 1}),
            1,
        );
        // Beside half a surrogate pair, which is replaced.
        reads(r#"["\ud83d", 1e999]"#, &json!(["\u{fffd}", "1e999"]), 1);
    }

    #[test]
    fn members_of_the_same_name_are_all_kept() {
        reads(r#"{"a": [1], "a": [2, 3]}"#, &json!({"a": [1, 2, 3]}), 1);
        reads(
            r#"{"a": 1, "a": 2, "\u0061": [3], "b": {}}"#,
            &json!({"a": [3], "a#earlier": [1, 2], "b": {}}),
            2,
        );
        reads(
            r#"{"a#earlier": 0, "a": 1, "a": 2}"#,
            &json!({"a": 2, "a#earlier": [1], "a#earlier#earlier": [0]}),
            1,
        );
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(read(&nested(DEEPEST)).unwrap().unreadable, 0);
        let reading = read(&nested(100_000)).unwrap();
        assert_eq!(reading.unreadable, 1);
        let text = reading.value.to_string();
        assert_eq!(text.matches(['[', '"']).count(), 100_000 + 2);
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "[1,]", "{\"a\"}", "1 2", "{\"a\": 1e999"] {
            assert!(read(text).is_err(), "{text}");
        }
        // It is not what serde_json makes of it.
        let private = json!({"$serde_json::private::RawValue": "[1]"});
        reads(&private.to_string(), &private, 0);
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        let mend = |json| without_lone_surrogates(json);
        assert_eq!(mend(r#""cut \ud83d""#).as_deref(), Some(r#""cut \ufffd""#));
        assert_eq!(
            mend(r#""\ude00\ud83d\ude00""#).as_deref(),
            Some(r#""\ufffd\ud83d\ude00""#)
        );
        assert_eq!(
            mend(r#""\ud83d\ud83d\ude00\n""#).as_deref(),
            Some(r#""\ufffd\ud83d\ude00\n""#)
        );
        for whole in [
            r#""\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\u00e4\u00"#,
            "\\",
            "\\u",
            "é",
        ] {
            assert_eq!(mend(whole), None, "{whole}");
        }
    }
}
