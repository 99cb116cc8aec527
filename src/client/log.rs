//! Log lines that repeat at most once a second, with a count of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two lines of one cause.
const PERIOD: Duration = Duration::from_secs(1);

/// Admits one line a second for one cause.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Throttle {
    /// Says whether to log now: the number of occurrences left out since the last line.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.0 {
            Some(last) if now.duration_since(last) < PERIOD => {
                state.1 = state.1.saturating_add(1);
                None
            }
            _ => {
                let skipped = state.1;
                *state = (Some(now), 0);
                Some(skipped)
            }
        }
    }
}

/// The causes that a client's connections share.
#[derive(Debug, Default)]
pub(super) struct Causes {
    pub(super) connected: Throttle,
    pub(super) disconnected: Throttle,
    pub(super) failed: Throttle,
    pub(super) warned: Throttle,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_with_the_count_of_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit_at(start), Some(0));
        assert_eq!(throttle.admit_at(start), None);
        assert_eq!(throttle.admit_at(start + PERIOD / 2), None);
        assert_eq!(throttle.admit_at(start + PERIOD), Some(2));
        assert_eq!(throttle.admit_at(start + PERIOD * 2), Some(0));
    }
}
