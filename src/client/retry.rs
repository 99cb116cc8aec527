//! When to ask again what failed.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Connection;

/// The wait before the second try.
const FIRST: Duration = Duration::from_millis(50);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(2);

/// Shortens a wait by up to half, so that clients that lost one server do not return as one.
pub(crate) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// The waits between tries: each twice the one before, up to 2 s, and jittered.
#[derive(Debug)]
pub(crate) struct Waits {
    next: Duration,
}

impl Waits {
    /// Begins with about 50 ms.
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Returns the wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = jittered(self.next);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }

    /// Returns whether no try has failed since the beginning.
    pub(crate) fn is_fresh(&self) -> bool {
        self.next == FIRST
    }

    /// Starts over, after a try that succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// Tries at something that may fail for a while. It ends at once when the client is closed.
#[derive(Debug)]
pub(crate) struct Retry {
    waits: Waits,
    until: Option<Instant>,
    stop: CancellationToken,
}

impl Retry {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            waits: Waits::new(),
            until: None,
            stop,
        }
    }

    /// Ends the tries after this time from now; the last one is made when it is over.
    pub(crate) fn within(mut self, timeout: Duration) -> Self {
        // Without a time that far away, there is none.
        self.until = Instant::now().checked_add(timeout);
        self
    }

    /// Waits until the next try is due; `false` when there is none.
    pub(crate) async fn pause(&mut self) -> bool {
        let mut wait = self.waits.next();
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            wait = wait.min(left);
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = sleep(wait) => true,
        }
    }

    /// Starts over with the shortest wait, after a try that succeeded.
    pub(crate) fn reset(&mut self) {
        self.waits.reset();
    }
}

impl Connection {
    /// Describes tries at what is asked over this connection.
    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.stopping())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients must neither flood a server that comes back nor return in step.
    #[test]
    fn waits_grow_to_their_maximum_and_are_jittered() {
        let mut waits = Waits::new();
        for whole in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            let wait = waits.next();
            let whole = Duration::from_millis(whole);
            assert!(wait > whole / 3 && wait <= whole, "{wait:?} of {whole:?}");
        }
        assert!(!waits.is_fresh());
        waits.reset();
        assert!(waits.is_fresh() && waits.next() <= FIRST);
    }

    #[tokio::test]
    async fn tries_end_with_their_time_and_with_the_client() {
        let stop = CancellationToken::new();
        let mut retry = Retry::new(stop.clone()).within(Duration::from_millis(1));
        assert!(
            retry.pause().await,
            "the last try is made when the time is over"
        );
        assert!(!retry.pause().await);

        let mut retry = Retry::new(stop.clone());
        assert!(retry.pause().await);
        stop.cancel();
        assert!(!retry.pause().await);
        assert!(!Retry::new(stop).within(Duration::MAX).pause().await);
    }
}
