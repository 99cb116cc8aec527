//! Reading a delivery in either shape: an object, or an array of such objects. An element of an array that is
//! no delivery becomes an entry that is kept whole; an array without any delivery is none.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::WebhookDelivery;

/// The object.
#[derive(Deserialize)]
struct Single {
    object: String,
    entry: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl From<Single> for WebhookDelivery {
    fn from(single: Single) -> Self {
        Self {
            object: single.object,
            entry: single.entry,
            other: single.other,
        }
    }
}

struct EitherShape;

impl<'de> Visitor<'de> for EitherShape {
    type Value = WebhookDelivery;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delivery or an array of deliveries")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Single::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut all: Option<WebhookDelivery> = None;
        let mut problem = None;
        let mut entries = Vec::new();
        while let Some(element) = array.next_element::<Value>()? {
            match Single::deserialize(&element) {
                Ok(next) => {
                    entries.extend(next.entry);
                    let all = all.get_or_insert_with(|| WebhookDelivery {
                        object: next.object,
                        entry: Vec::new(),
                        other: Map::new(),
                    });
                    for (name, value) in next.other {
                        all.other.entry(name).or_insert(value);
                    }
                }
                // In an array of its own it is an entry of unknown shape, which is kept whole.
                Err(error) => {
                    problem.get_or_insert(error);
                    entries.push(Value::Array(vec![element]));
                }
            }
        }
        match (all, problem) {
            (Some(all), _) => Ok(WebhookDelivery {
                entry: entries,
                ..all
            }),
            (None, Some(problem)) => Err(A::Error::custom(problem)),
            (None, None) => Err(A::Error::invalid_length(0, &self)),
        }
    }
}

impl<'de> Deserialize<'de> for WebhookDelivery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherShape)
    }
}

/// Replaces halves of surrogate pairs by U+FFFD: text that was cut in the middle of a character makes
/// them, and no decoder takes them. Returns `None` where there are none.
pub(crate) fn without_lone_surrogates(json: &str) -> Option<String> {
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
    use super::*;

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
