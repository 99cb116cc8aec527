//! States of jobs as text and in JSON.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};
use crate::state::JobState;

impl FromStr for JobState {
    type Err = Error;

    /// Reads the name that BullMQ uses for the state.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for any other text.
    fn from_str(name: &str) -> Result<Self> {
        let state = Self::ALL.into_iter().find(|state| state.as_str() == name);
        state.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid_value("job state", name, format!("must be one of {names}"))
        })
    }
}

impl Serialize for JobState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for JobState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_survive_a_trip_through_text_and_json() {
        for state in JobState::ALL {
            assert_eq!(state.to_string().parse::<JobState>().unwrap(), state);
            let json = serde_json::to_value(state).unwrap();
            assert_eq!(json, state.as_str());
            assert_eq!(serde_json::from_value::<JobState>(json).unwrap(), state);
        }
        for bad in ["", "Waiting", "wait", "paused"] {
            assert!(bad.parse::<JobState>().is_err(), "{bad}");
        }
    }
}
