//! One clock per client: wall time aligned with the Redis server.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, the unit of every stored time (`docs/protocol.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, zero when there is none.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, delta: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(delta.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

/// Returns the time after a wait that may be as long as a `Duration` can say.
pub(crate) fn after(start: tokio::time::Instant, wait: Duration) -> tokio::time::Instant {
    // Later than anybody waits, and far from what the platform's clock can count.
    const NEVER: Duration = Duration::from_secs(30 * 365 * 86_400);
    start + wait.min(NEVER)
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Differences up to this are taken for measuring noise, so that clocks of one host stay equal.
const NOISE: i64 = 50;

/// The time source of a client, its queues and its workers.
///
/// Different machines compare each other's timestamps through Redis, so the clock follows the
/// server's: the client measures the offset when it connects and keeps it fresh. Cloning gives
/// another handle of the same clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset: Arc<AtomicI64>,
    shift: Arc<AtomicI64>,
    /// The time at which a test stopped the clock; 0: it runs.
    stopped: Arc<AtomicI64>,
}

impl Clock {
    /// Returns the current server-aligned time.
    pub fn now(&self) -> Timestamp {
        match self.stopped.load(Ordering::Relaxed) {
            0 => Timestamp(
                wall_millis()
                    .saturating_add(self.offset.load(Ordering::Relaxed))
                    .saturating_add(self.shift.load(Ordering::Relaxed)),
            ),
            stopped => Timestamp(stopped),
        }
    }

    /// Moves this clock by `millis` for tests: time travel for delays, backoff and limits that
    /// this client writes or compares. Server-side expiry does not move.
    pub fn advance(&self, millis: i64) {
        self.shift.fetch_add(millis, Ordering::Relaxed);
    }

    /// Stops the clock at `at`, so that a test knows every time that is written.
    #[doc(hidden)]
    pub fn stop_at(&self, at: Timestamp) {
        self.stopped.store(at.as_millis(), Ordering::Relaxed);
    }

    /// Adopts a measurement of the server's clock taken `round_trip` around `server`.
    pub(crate) fn align(&self, server: Timestamp, round_trip: Duration) {
        let half = i64::try_from(round_trip.as_millis() / 2).unwrap_or(0);
        let offset = server.0.saturating_add(half).saturating_sub(wall_millis());
        let offset = if offset.abs() <= NOISE + half {
            0
        } else {
            offset
        };
        self.offset.store(offset, Ordering::Relaxed);
    }
}

/// Reads the machine's clock.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
fn wall_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
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
            clock.align(Timestamp(wall() + shift), Duration::ZERO);
            assert!((clock.now().as_millis() - wall() - shift).abs() < 1000);
            // A clone is the same clock.
            assert!((clock.clone().now().as_millis() - wall() - shift).abs() < 1000);
        }
    }

    /// The noise of a measurement must not make the times of one host differ.
    #[test]
    fn small_differences_are_noise() {
        let clock = Clock::default();
        clock.align(Timestamp(wall() + 10), Duration::from_millis(20));
        assert_eq!(clock.offset.load(Ordering::Relaxed), 0);
    }

    /// Tests move the clock, and an alignment keeps them where they are.
    #[test]
    fn moved_clock_stays_moved() {
        let clock = Clock::default();
        clock.advance(60_000);
        clock.align(Timestamp(wall()), Duration::ZERO);
        assert!((clock.now().as_millis() - wall() - 60_000).abs() < 1000);
    }

    #[test]
    fn times_do_not_overflow() {
        let end = Timestamp(i64::MAX) + Duration::MAX;
        assert_eq!(end.as_millis(), i64::MAX);
        assert_eq!(Timestamp(1).since(Timestamp(5)), Duration::ZERO);
        assert_eq!(Timestamp(5).since(Timestamp(1)), Duration::from_millis(4));
    }
}
