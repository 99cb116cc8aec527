//! Reading a delivery in either shape: an object, or an array of such objects.

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
        let first = array.next_element::<Single>()?;
        let mut all: WebhookDelivery = first
            .ok_or_else(|| A::Error::invalid_length(0, &self))?
            .into();
        while let Some(next) = array.next_element::<Single>()? {
            all.entry.extend(next.entry);
            for (name, value) in next.other {
                all.other.entry(name).or_insert(value);
            }
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for WebhookDelivery {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherShape)
    }
}
