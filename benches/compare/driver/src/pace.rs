//! How adds are spread over time.

use std::time::Duration;

use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Failure;

/// Calls `add` with 0 to `jobs` - 1, `in_flight` of the calls at once.
pub async fn all_in_flight<F, Fut>(jobs: usize, in_flight: usize, add: F) -> Result<(), Failure>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    stream::iter(0..jobs)
        .map(add)
        .buffer_unordered(in_flight)
        .try_collect()
        .await
}

/// Calls `add` with 0 to `jobs` - 1, `rate` times a second, however long the calls take.
pub async fn paced<F, Fut>(jobs: usize, rate: f64, add: F) -> Result<(), Failure>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), Failure>>,
{
    let start = Instant::now();
    let mut tick = interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut running = FuturesUnordered::new();
    let mut issued = 0;
    while issued < jobs || !running.is_empty() {
        tokio::select! {
            _ = tick.tick(), if issued < jobs => {
                let due = due_by(start.elapsed(), rate).min(jobs);
                running.extend((issued..due).map(&add));
                issued = issued.max(due);
            }
            Some(added) = running.next(), if !running.is_empty() => added?,
        }
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate"
)]
fn due_by(elapsed: Duration, rate: f64) -> usize {
    (elapsed.as_secs_f64() * rate) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn rates_become_counts() {
        assert_eq!(due_by(Duration::from_millis(1500), 100.0), 150);
        assert_eq!(due_by(Duration::from_secs(1), -1.0), 0);
    }

    #[tokio::test]
    async fn each_is_added_once() -> Result<(), Failure> {
        let sum = AtomicUsize::new(0);
        let add = |index| {
            sum.fetch_add(index + 1, Ordering::Relaxed);
            async { Ok(()) }
        };
        paced(100, 1e6, add).await?;
        all_in_flight(100, 7, add).await?;
        assert_eq!(sum.into_inner(), 2 * 5050);
        Ok(())
    }
}
