//! The id of an entry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::clock::Timestamp;
use crate::error::{Error, Result};

/// The place of an entry in a queue's event stream: the server's time when it was written, in
/// milliseconds, and a number among the entries of that millisecond. As text `1795409883072-0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventId {
    millis: u64,
    sequence: u64,
}

impl EventId {
    /// The place before every entry: `0-0`.
    pub const START: Self = Self::new(0, 0);

    /// Builds an id from its two parts.
    pub const fn new(millis: u64, sequence: u64) -> Self {
        Self { millis, sequence }
    }

    /// Returns when the entry was written, by the server's clock.
    pub fn timestamp(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.millis).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

impl FromStr for EventId {
    type Err = Error;

    /// Reads `1795409883072-0`, or a time in milliseconds alone.
    fn from_str(text: &str) -> Result<Self> {
        let (millis, sequence) = text.split_once('-').unwrap_or((text, "0"));
        match (millis.parse(), sequence.parse()) {
            (Ok(millis), Ok(sequence)) => Ok(Self { millis, sequence }),
            _ => Err(Error::invalid_value(
                "event id",
                text,
                "must be two numbers with a dash between them",
            )),
        }
    }
}

/// As text, such as `1795409883072-0`.
impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From text, as [`FromStr`] reads it.
impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_number_and_keep_their_text() {
        let id: EventId = "1795409883072-10".parse().unwrap();
        assert_eq!(id.to_string(), "1795409883072-10");
        assert_eq!(id.timestamp().as_millis(), 1_795_409_883_072);
        assert!(id > "1795409883072-9".parse().unwrap());
        assert_eq!("17".parse::<EventId>().unwrap(), EventId::new(17, 0));
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, r#""1795409883072-10""#);
        assert_eq!(serde_json::from_str::<EventId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<EventId>(r#""x""#).is_err());
        for bad in ["", "$", "1-", "-1", "1-2-3", "a-b"] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }
}
