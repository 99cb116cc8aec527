//! How many jobs of a queue may start in a window of time, and how much of that is left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::json;

/// How many jobs of a queue may start in a window of time. In JSON it is `max` and `duration`, in
/// milliseconds, as with BullMQ.
///
/// # Examples
///
/// ```
/// use oxbull::JobRateLimit;
/// use std::time::Duration;
///
/// let limit = JobRateLimit::new(200, Duration::from_secs(3600));
/// assert_eq!(limit.max, 200);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JobRateLimit {
    /// How many jobs may start in a window. Read from a queue, it may be 0, which BullMQ clients may
    /// store; workers then start one.
    pub max: u32,
    /// How long a window lasts. It begins with the first start in it.
    #[serde(rename = "duration", with = "json::millis")]
    pub window: Duration,
}

impl JobRateLimit {
    /// Lets at most `max` jobs start in each `window`.
    pub fn new(max: u32, window: Duration) -> Self {
        Self { max, window }
    }
}

/// Whether jobs may start under a rate limit. In JSON times are milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "state",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
#[non_exhaustive]
pub enum RateLimitState {
    /// Jobs may start. No window is open; the first start opens one.
    NoWindow,
    /// Jobs may start in the window that is open.
    #[non_exhaustive]
    Available {
        /// How many more.
        remaining: u32,
        /// How long until the window ends.
        #[serde(with = "json::millis")]
        reset: Duration,
    },
    /// No job starts for now.
    #[non_exhaustive]
    Limited {
        /// How long until jobs may start again.
        #[serde(with = "json::millis")]
        retry_after: Duration,
    },
    /// There is a count that never expires. Workers do not wait for it: the next start under a limit
    /// opens a new window.
    NeverExpires,
}

impl RateLimitState {
    /// Whether a job may start now.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::RateLimitState;
    ///
    /// assert!(RateLimitState::NoWindow.may_start());
    /// ```
    pub fn may_start(self) -> bool {
        match self {
            // After a count that never expires, the next start opens a new window.
            Self::NoWindow | Self::Available { .. } | Self::NeverExpires => true,
            Self::Limited { .. } => false,
        }
    }
}
