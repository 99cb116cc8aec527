//! How long a publication waits, and for what.

use std::time::Duration;

/// How long and how often a job waits for the API. None of the waits uses an attempt.
#[derive(Debug, Clone, Copy)]
pub struct PublishLimits {
    /// The first wait of a step; each further one is twice as long. Default: 5 s.
    pub first_wait: Duration,
    /// No wait is longer. Default: 60 s.
    pub longest_wait: Duration,
    /// How long an attempt waits for its containers to be finished. Default: 30 min.
    pub processing: Duration,
    /// How long containers that the API does not show are waited for; then they are used without their
    /// status. Default: 2 min.
    pub hidden: Duration,
    /// How long a request to publish that got no answer may still be on its way: only then is a
    /// container that is not published published again. Default: 30 s, twice a request's deadline.
    pub settle: Duration,
    /// How long a post that may be public is looked for before a failure is final. Default: 10 min.
    pub doubt: Duration,
    /// Whether a failed attempt is final.
    pub last_attempt: bool,
    /// Waits for a published post's permalink. Default: 3.
    pub permalink_waits: u32,
    /// How long an account whose publishing quota is used up waits until it looks again.
    /// Default: 15 min.
    pub quota_wait: Duration,
    /// How long limits of the API may put a post off before it fails. Default: 24 h.
    pub postpone_max: Duration,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(5),
            longest_wait: Duration::from_secs(60),
            processing: Duration::from_secs(30 * 60),
            hidden: Duration::from_secs(2 * 60),
            settle: Duration::from_secs(30),
            doubt: Duration::from_secs(10 * 60),
            last_attempt: false,
            permalink_waits: 3,
            quota_wait: Duration::from_secs(15 * 60),
            postpone_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// Requests to publish a container that is not found (24/2207008), after the first.
pub(super) const NOT_FOUND_RETRIES: u32 = 2;

impl PublishLimits {
    /// How long the wait after `waits` others is.
    pub(super) fn wait(&self, waits: u32) -> Duration {
        self.first_wait
            .saturating_mul(1_u32.checked_shl(waits).unwrap_or(u32::MAX))
            .min(self.longest_wait)
    }

    /// How long the wait before a retry of a container that was not found is: within 30 s to 2 min in all by
    /// default.
    pub(super) fn not_found_wait(&self, retries: u32) -> Duration {
        if retries == 0 {
            self.longest_wait / 2
        } else {
            self.longest_wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A video that takes an hour must not be asked about every five seconds.
    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = PublishLimits::default();
        let seconds: Vec<_> = (0..6).map(|waits| limits.wait(waits).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        assert_eq!(limits.wait(u32::MAX), limits.longest_wait);
    }
}
