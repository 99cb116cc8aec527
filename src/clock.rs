//! One clock per client: wall time aligned with the Redis server.

mod timestamp;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

pub use timestamp::Timestamp;

/// Differences up to this are taken for measuring noise, so that clocks of one host stay equal.
const NOISE: i64 = 50;

/// The time source of a client, its queues and its workers.
///
/// Different machines compare each other's timestamps through Redis, so the clock follows the
/// server's: the client measures the offset when it connects and keeps it fresh. Cloning gives
/// another handle of the same clock. With the feature `testing`, tests can set and move it.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// How far the server's clock is ahead, in milliseconds.
    offset: Arc<AtomicI64>,
    #[cfg(any(test, feature = "testing"))]
    moved: Arc<Moved>,
}

/// What a test has done to a clock.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug)]
struct Moved {
    /// How far it is ahead of the server's clock, in milliseconds.
    ahead: AtomicI64,
    /// The time at which it stands still, in milliseconds since the epoch, or [`RUNS`].
    stopped: AtomicI64,
}

#[cfg(any(test, feature = "testing"))]
const RUNS: i64 = i64::MIN;

#[cfg(any(test, feature = "testing"))]
impl Default for Moved {
    fn default() -> Self {
        Self {
            ahead: AtomicI64::new(0),
            stopped: AtomicI64::new(RUNS),
        }
    }
}

impl Clock {
    /// Returns the current server-aligned time.
    pub fn now(&self) -> Timestamp {
        let offset = self.offset.load(Ordering::Relaxed);
        let aligned = wall_millis().saturating_add(offset);
        #[cfg(any(test, feature = "testing"))]
        let aligned = self.moved.apply(aligned);
        Timestamp::from_millis(aligned)
    }

    /// Adopts a measurement of the server's clock taken `round_trip` around `server`.
    pub(crate) fn align(&self, server: Timestamp, round_trip: Duration) {
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(0);
        let measured = server.as_millis().saturating_add(half);
        let offset = measured.saturating_sub(wall_millis());
        let offset = if offset.abs() <= NOISE + half {
            0
        } else {
            offset
        };
        self.offset.store(offset, Ordering::Relaxed);
    }
}

/// For tests of an application, with the feature `testing`.
///
/// What moves is every time that this client, its queues and its workers write and compare: delays,
/// backoff, limits, expiry that is stored. What the server does by itself, such as the expiry of
/// keys, does not move, and neither do the waits of this process.
///
/// # Examples
///
/// ```
/// use oxbull::testing;
/// use oxbull::Timestamp;
/// use std::time::Duration;
///
/// let client = testing::unconnected_client();
/// let clock = client.clock();
/// clock.set(Timestamp::from_millis(1_795_408_930_777));
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), Timestamp::from_millis(1_795_408_990_777));
/// ```
#[cfg(any(test, feature = "testing"))]
impl Clock {
    /// Sets the clock, and stops it there: it stands until it is set or moved.
    pub fn set(&self, at: Timestamp) {
        self.moved.stopped.store(at.as_millis(), Ordering::Relaxed);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.moved
            .shift(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Moves the clock back.
    pub fn rewind(&self, by: Duration) {
        self.moved
            .shift(-i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }
}

#[cfg(any(test, feature = "testing"))]
impl Moved {
    fn apply(&self, aligned: i64) -> i64 {
        match self.stopped.load(Ordering::Relaxed) {
            RUNS => aligned.saturating_add(self.ahead.load(Ordering::Relaxed)),
            stopped => stopped,
        }
    }

    fn shift(&self, millis: i64) {
        match self.stopped.load(Ordering::Relaxed) {
            RUNS => self.ahead.fetch_add(millis, Ordering::Relaxed),
            _ => self.stopped.fetch_add(millis, Ordering::Relaxed),
        };
    }
}

/// Reads the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall_millis() -> i64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

/// Returns the time after a wait that may be as long as a `Duration` can say.
pub(crate) fn after(start: tokio::time::Instant, wait: Duration) -> tokio::time::Instant {
    // Later than anybody waits, and far from what the platform's clock can count.
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    start + wait.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall() -> i64 {
        Clock::default().now().as_millis()
    }

    /// A machine whose clock is an hour off writes the times that the server would.
    #[test]
    fn clock_follows_a_server_far_away() {
        const HOUR: i64 = 3_600_000;
        for shift in [HOUR, -HOUR] {
            let clock = Clock::default();
            clock.align(Timestamp::from_millis(wall() + shift), Duration::ZERO);
            assert!((clock.now().as_millis() - wall() - shift).abs() < 1000);
            // A clone is the same clock.
            assert!((clock.clone().now().as_millis() - wall() - shift).abs() < 1000);
        }
    }

    /// The noise of a measurement must not make the times of one host differ.
    #[test]
    fn small_differences_are_noise() {
        let clock = Clock::default();
        clock.align(
            Timestamp::from_millis(wall() + 10),
            Duration::from_millis(20),
        );
        assert_eq!(clock.offset.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn clock_that_is_set_stands_until_it_is_moved() {
        let clock = Clock::default();
        clock.set(Timestamp::from_millis(1_000));
        assert_eq!(clock.now(), Timestamp::from_millis(1_000));
        clock.advance(Duration::from_millis(5));
        clock.rewind(Duration::from_millis(2));
        assert_eq!(clock.clone().now(), Timestamp::from_millis(1_003));
    }

    /// Tests move the clock, and an alignment keeps them where they are.
    #[test]
    fn moved_clock_stays_moved() {
        let clock = Clock::default();
        clock.advance(Duration::from_secs(60));
        clock.align(Timestamp::from_millis(wall()), Duration::ZERO);
        assert!((clock.now().as_millis() - wall() - 60_000).abs() < 1000);
    }
}
