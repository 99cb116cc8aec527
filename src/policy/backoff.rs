//! How long a failed job waits for its next attempt (`docs/protocol.md#backoff`).

use std::time::Duration;

use crate::job::{Backoff, BackoffKind};

/// Longest wait: 2^53 ms, the largest whole number every client can read.
const WAIT_MAX: f64 = 9_007_199_254_740_992.0;

/// Returns the wait after the `failures`-th failed attempt (1, 2, …), with `random` from 0 up to
/// 1; `None` when the strategy is a custom one.
pub(crate) fn wait(backoff: Option<&Backoff>, failures: u32, random: f64) -> Option<Duration> {
    let Some(backoff) = backoff else {
        return Some(Duration::ZERO);
    };
    #[expect(clippy::cast_precision_loss, reason = "bounded by the option's check")]
    let base = backoff.delay.unwrap_or_default().as_millis() as f64;
    let full = match &backoff.kind {
        BackoffKind::Fixed => base,
        BackoffKind::Exponential => {
            let doublings = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
            (base * 2f64.powi(doublings)).round()
        }
        BackoffKind::Custom(_) => return None,
    };
    let full = if full.is_finite() {
        full.clamp(0.0, WAIT_MAX)
    } else {
        WAIT_MAX
    };
    let full = if base == 0.0 { 0.0 } else { full };
    let millis = match backoff.jitter {
        Some(jitter) if jitter > 0.0 => {
            let jitter = jitter.min(1.0);
            (random.clamp(0.0, 1.0) * full * jitter + full * (1.0 - jitter)).floor()
        }
        _ => full,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 0..=2^53 above"
    )]
    Some(Duration::from_millis(millis as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn exponential_doubles() {
        let backoff = Backoff::exponential(Duration::from_secs(1));
        let waits: Vec<u128> = (1..=5)
            .map(|n| wait(Some(&backoff), n, 0.5).unwrap().as_millis())
            .collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16000]);
    }

    #[test]
    fn no_backoff_means_at_once() {
        assert_eq!(wait(None, 3, 0.5), Some(Duration::ZERO));
        let without_delay = Backoff {
            kind: BackoffKind::Exponential,
            delay: None,
            jitter: None,
        };
        assert_eq!(wait(Some(&without_delay), 5000, 0.5), Some(Duration::ZERO));
    }

    proptest! {
        /// No attempt number, delay or jitter overflows or leaves the documented range.
        #[test]
        fn waits_stay_in_range(
            delay in 0u64..(1 << 52), failures in 0u32.., jitter in 0.0f64..=1.0, random in 0.0f64..1.0,
            exponential: bool,
        ) {
            let delay = Duration::from_millis(delay);
            let backoff = if exponential { Backoff::exponential(delay) } else { Backoff::fixed(delay) };
            let full = wait(Some(&backoff), failures, random).unwrap();
            let spread = wait(Some(&backoff.jitter(jitter)), failures, random).unwrap();
            prop_assert!(full.as_millis() <= 1 << 53);
            prop_assert!(spread <= full);
            let floor = full.mul_f64(1.0 - jitter).as_millis();
            prop_assert!(spread.as_millis() + 2 + floor / 1_000_000_000 >= floor);
        }
    }
}
