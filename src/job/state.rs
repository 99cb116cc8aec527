//! The states of a job.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Result};

/// Where a job is in its life (`docs/protocol.md#job-states`). `docs/states.md` lists the
/// transitions.
///
/// As text and in JSON it has BullMQ's name.
///
/// # Examples
///
/// ```
/// use oxbull::JobState;
///
/// assert_eq!(JobState::WaitingChildren.to_string(), "waiting-children");
/// assert_eq!("delayed".parse::<JobState>()?, JobState::Delayed);
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum JobState {
    /// Ready to run, in order of arrival. A paused queue keeps its jobs here.
    Waiting,
    /// Ready to run once nothing is [`Waiting`](Self::Waiting), lowest priority number first.
    Prioritized,
    /// Waits for a point in time.
    Delayed,
    /// A worker runs it, or ran it and crashed.
    Active,
    /// Waits for its children to end.
    WaitingChildren,
    /// Ended with a result.
    Completed,
    /// Ended without: no attempts are left, or trying again is pointless.
    Failed,
}

impl JobState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Prioritized,
        Self::Delayed,
        Self::Active,
        Self::WaitingChildren,
        Self::Completed,
        Self::Failed,
    ];

    /// Returns the name that BullMQ uses for the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Prioritized => "prioritized",
            Self::Delayed => "delayed",
            Self::Active => "active",
            Self::WaitingChildren => "waiting-children",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Returns whether the job has ended.
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for JobState {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

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
