//! JSON of other clients, read leniently, and what is shown of it in JSON of ours.
//!
//! JavaScript cuts text anywhere, also inside a surrogate pair. The half that is left reaches
//! Redis as an escape (`"\ud83d"`, from `JSON.stringify`) or as three bytes that are not UTF-8
//! (from packed arguments); `serde_json` accepts neither. Here the half reads as U+FFFD, and
//! everything else as it is. What is read strictly costs nothing more.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Decodes JSON text; half a surrogate pair reads as U+FFFD.
///
/// # Errors
///
/// As `serde_json`, which also refuses to read values of more than 128 levels into a type. Members
/// that the type ignores and raw values have no bound.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let error = match serde_json::from_str(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let error = match mended(text) {
        Some(mended) => match serde_json::from_str(&mended) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        },
        None => error,
    };
    if error.is_syntax() && error.to_string().starts_with("recursion limit exceeded") {
        return Err(serde_json::Error::custom(
            "nested deeper than 128 levels, which only raw JSON may be",
        ));
    }
    Err(error)
}

/// Durations in JSON: whole milliseconds, the unit of BullMQ's durations.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        u64::try_from(duration.as_millis())
            .unwrap_or(u64::MAX)
            .serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// As [`millis`]; none is `null`.
pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "the shape that serde calls")]
    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::millis::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// Shows stored JSON text as the value that it is.
pub(crate) fn stored<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    Stored(text).serialize(serializer)
}

/// Stored JSON text, shown in JSON as the value that it is; as text where it is no JSON.
pub(crate) struct Stored<'a>(pub(crate) &'a str);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match read::<Box<RawValue>>(self.0) {
            Ok(value) => value.serialize(serializer),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}

/// Takes an object apart: its members, and as text those that are nested too deeply to be read,
/// with U+FFFD for half a surrogate pair. `None` when the text is not a JSON object.
pub(crate) fn object(text: &str) -> Option<(Map<String, Value>, BTreeMap<String, String>)> {
    match read(text) {
        Ok(Value::Object(map)) => return Some((map, BTreeMap::new())),
        Ok(_) => return None,
        Err(_) => {}
    }
    let members: BTreeMap<String, Box<RawValue>> = read(text).ok()?;
    let mut map = Map::new();
    let mut deep = BTreeMap::new();
    for (name, member) in members {
        if let Ok(value) = read(member.get()) {
            map.insert(name, value);
        } else {
            let text = mended(member.get());
            deep.insert(name, text.unwrap_or_else(|| member.get().to_owned()));
        }
    }
    Some((map, deep))
}

/// Makes text of stored JSON. Halves of surrogate pairs that are three bytes become escapes, which
/// mean the same; other bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(stored: Vec<u8>) -> String {
    let stored = match String::from_utf8(stored) {
        Ok(text) => return text,
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(stored.len() + 16);
    let mut rest = stored.as_slice();
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => {
                let (valid, broken) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                if let [0xed, second @ 0xa0..=0xbf, third @ 0x80..=0xbf, after @ ..] = broken {
                    let half = 0xd000 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
                    let escape = format!("\\u{half:04x}");
                    text.push_str(&escape);
                    rest = after;
                } else {
                    text.push('\u{fffd}');
                    let length = error.error_len().unwrap_or(broken.len());
                    rest = broken.get(length..).unwrap_or_default();
                }
            }
        }
    }
}

/// Replaces escapes of half a surrogate pair by U+FFFD; `None` when there are none.
fn mended(text: &str) -> Option<String> {
    let mut result = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    while let Some(found) = bytes
        .get(at..)
        .and_then(|rest| rest.iter().position(|b| *b == b'\\'))
    {
        at += found;
        let unit = |at: usize| bytes.get(at..).and_then(escaped);
        match unit(at) {
            Some(0xd800..=0xdbff) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            Some(0xd800..=0xdfff) => {
                result.extend(bytes.get(copied..at)?);
                result.extend("\\ufffd".as_bytes());
                at += 6;
                copied = at;
            }
            _ => at += 2,
        }
    }
    if copied == 0 {
        return None;
    }
    result.extend(bytes.get(copied..)?);
    String::from_utf8(result).ok()
}

/// Reads the escape that the bytes begin with.
fn escaped(bytes: &[u8]) -> Option<u16> {
    let [b'\\', b'u', digits @ ..] = bytes else {
        return None;
    };
    let digits = digits.get(..4)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn halves_of_surrogate_pairs_read_as_replacement_characters() {
        for (text, read_as) in [
            (r#""hi \ud83d""#, "hi \u{fffd}"),
            (r#""\udE00x""#, "\u{fffd}x"),
            (r#""\ud83d\ude00""#, "\u{1f600}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\\ud83d""#, "\\ud83d"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\ud83dA""#, "\u{fffd}A"),
        ] {
            assert_eq!(read::<String>(text).unwrap(), read_as, "{text}");
        }
        let object: Value = read(r#"{"\ud83d":{"a":[1.50,"\udc00"]}}"#).unwrap();
        assert_eq!(object, json!({"\u{fffd}": {"a": [1.5, "\u{fffd}"]}}));
        for bad in ["", "{", r#"{"a":"\ud83d"#, r#""\ud8"#, r#""\ud83g""#] {
            assert!(read::<Value>(bad).is_err(), "{bad}");
        }
    }

    /// As an escape the half is still there for readers that know halves.
    #[test]
    fn halves_that_are_bytes_become_escapes() {
        let stored = b"{\"u\":\"a\xed\xa0\xbd!\xed\xb8\x80\xff\"}".to_vec();
        let as_text = text(stored);
        assert_eq!(as_text, "{\"u\":\"a\\ud83d!\\ude00\u{fffd}\"}");
    }

    #[derive(serde::Deserialize)]
    struct Known {
        a: u8,
    }

    /// No depth crashes: raw values and ignored members have no bound, types have one of 128.
    #[test]
    fn depth_is_bounded_for_types_and_not_for_raw_values() {
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read::<Value>(&deep(127)).is_ok());
        let million = deep(1_000_000);
        let error = read::<Value>(&million).unwrap_err().to_string();
        assert!(error.starts_with("nested deeper than 128"), "{error}");
        assert_eq!(read::<Box<RawValue>>(&million).unwrap().get(), million);

        let object = format!(r#"{{"deep":{million},"a":7,"half":"\ud83d"}}"#);
        assert_eq!(read::<Known>(&object).unwrap().a, 7);
        let (members, deep) = super::object(&object).unwrap();
        assert_eq!(Value::Object(members), json!({"a": 7, "half": "\u{fffd}"}));
        assert_eq!(deep["deep"], million);
    }

    proptest! {
        /// No bytes make reading panic, and valid text is read as `serde_json` reads it.
        #[test]
        fn any_bytes_are_read_or_refused(stored in proptest::collection::vec(any::<u8>(), 0..60)) {
            let as_text = text(stored.clone());
            read::<Value>(&as_text).ok();
            object(&as_text);
            if std::str::from_utf8(&stored).is_ok() {
                prop_assert_eq!(as_text.as_bytes(), stored.as_slice());
            }
        }

        /// What `JSON.stringify` makes of any JavaScript string is read, each lone half replaced.
        #[test]
        fn any_javascript_string_is_read(units in proptest::collection::vec(
            prop_oneof![any::<u16>(), 0xd800u16..0xe000], 0..20)) {
            let expected = String::from_utf16_lossy(&units);
            let escaped: Vec<String> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();
            let escaped = escaped.concat();
            let json = format!("{{\"k\":\"{escaped}\"}}");
            let read: BTreeMap<String, String> = read(&json).unwrap();
            prop_assert_eq!(&read["k"], &expected);
        }
    }
}
