//! The states of a job. How they are read from text is in `job/state.rs`.

use std::fmt;

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
