//! Log lines that get rarer while their cause lasts, with a count of those left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest time between two lines of one cause, as trouble begins.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest, while it lasts: the time doubles with each line.
const PERIOD_MAX: Duration = Duration::from_secs(60);
/// After this long without an occurrence, the trouble has passed. Longer than the longest pause
/// between two tries of whatever the library tries again.
const CALM: Duration = Duration::from_secs(10);

/// Admits the lines of one cause: one a second at first, then ever fewer, one a minute at last.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last line, and the time that must pass before the next.
    line: Option<(Instant, Duration)>,
    /// The last occurrence, logged or not.
    seen: Option<Instant>,
    skipped: u64,
}

impl Throttle {
    /// Returns whether to log now: the number of occurrences left out since the last line.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    /// Starts over, once the trouble has passed: its next occurrence is logged, unless there was a
    /// line within the last second.
    pub(crate) fn reset(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, wait)) = &mut state.line {
            *wait = PERIOD;
        }
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let calm = state
            .seen
            .replace(now)
            .is_none_or(|seen| now.duration_since(seen) >= CALM);
        let wait = match state.line {
            None => PERIOD,
            Some(_) if calm => PERIOD,
            Some((last, wait)) if now.duration_since(last) < wait => {
                state.skipped = state.skipped.saturating_add(1);
                return None;
            }
            Some((_, wait)) => (wait * 2).min(PERIOD_MAX),
        };
        state.line = Some((now, wait));
        Some(std::mem::take(&mut state.skipped))
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

    /// The numbers of the seconds in which there are lines, for an occurrence every 100 ms, and
    /// how many occurrences they stand for.
    fn lines(throttle: &Throttle, start: Instant, seconds: u64) -> (Vec<u64>, u64) {
        let mut lines = Vec::new();
        let mut counted = 0;
        for tick in 0..seconds * 10 {
            if let Some(skipped) = throttle.admit_at(start + Duration::from_millis(tick * 100)) {
                lines.push(tick / 10);
                counted += 1 + skipped;
            }
        }
        (lines, counted)
    }

    /// An outage must neither be missed nor fill the log.
    #[test]
    fn lines_get_rarer_while_trouble_lasts_and_count_the_others() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let (seconds, counted) = lines(&throttle, start, 244);
        assert_eq!(seconds, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        assert_eq!(counted, 2431);
    }

    #[test]
    fn new_trouble_is_told_at_once() {
        let throttle = Throttle::default();
        let start = Instant::now();
        lines(&throttle, start, 100);
        // By itself after a calm time, or when its end is known.
        let next = start + Duration::from_secs(100) + CALM;
        assert!(throttle.admit_at(next).is_some());
        lines(&throttle, next, 100);
        let soon = next + Duration::from_secs(101);
        assert_eq!(throttle.admit_at(soon), None);
        throttle.reset();
        assert!(throttle.admit_at(soon + PERIOD).is_some());
    }
}
