//! What a rate limiter allows.

use std::time::Duration;

use crate::error::{Error, Result};

/// Longest window or period, in ms: 366 days.
const TIME_MAX: u64 = 366 * 24 * 3_600_000;
/// Largest limit of a sliding window, whose log has an entry for each request.
const LOG_MAX: u32 = 10_000;
/// Largest capacity times period (ms), so that Lua's numbers stay whole.
const LEVEL_MAX: u64 = 1 << 52;

/// How much a [`RateLimiter`](super::RateLimiter) allows, and by which algorithm.
///
/// | algorithm | promise | cost |
/// |---|---|---|
/// | fixed window | at most `limit` from one multiple of the window to the next; up to twice as many around its edge | one counter a window |
/// | sliding window | at most `limit` in **any** window | one entry a request in the last window |
/// | token bucket | at most `capacity` at once, and `refill` a period in the long run | one short value |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    pub(super) algorithm: Algorithm,
}

/// Times in ms; checked by [`RateLimit::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    FixedWindow {
        limit: u32,
        window: u64,
    },
    SlidingWindow {
        limit: u32,
        window: u64,
    },
    TokenBucket {
        capacity: u32,
        refill: u32,
        period: u64,
    },
}

impl RateLimit {
    /// Allows `limit` requests in each window of the clock, such as each minute, under the key
    /// `ratelimit:{endpoint}:{userId}:{window's number}`. With windows of 60 s that number is
    /// the minute since 1970, and the value is a plain counter that other clients may share.
    ///
    /// A request belongs to the window in which its client sent it. Clients whose clocks differ
    /// use neighbouring windows for that long around the edge; neither window passes its limit.
    pub fn fixed_window(limit: u32, window: Duration) -> Self {
        Self {
            algorithm: Algorithm::FixedWindow {
                limit,
                window: whole_millis(window),
            },
        }
    }

    /// Allows `limit` requests (up to 10,000) in any window, under the key
    /// `ratelimit:{endpoint}:{userId}:sliding`.
    ///
    /// It keeps a log. Two weighted counters would be smaller, but guess how the last window's
    /// requests were spread and pass the limit where the guess is wrong. For larger limits see
    /// [`RateLimit::token_bucket`].
    pub fn sliding_window(limit: u32, window: Duration) -> Self {
        Self {
            algorithm: Algorithm::SlidingWindow {
                limit,
                window: whole_millis(window),
            },
        }
    }

    /// Allows bursts of `capacity` requests, refilled steadily by `refill` a `period` (GCRA),
    /// under the key `ratelimit:{endpoint}:{userId}:bucket`. In any time `t` no more than
    /// `capacity + refill * t / period` requests are allowed.
    ///
    /// `capacity` times `period` may be at most 2^52 ms.
    pub fn token_bucket(capacity: u32, refill: u32, period: Duration) -> Self {
        Self {
            algorithm: Algorithm::TokenBucket {
                capacity,
                refill,
                period: whole_millis(period),
            },
        }
    }

    /// Returns how many requests a window or a full bucket allows.
    pub fn capacity(&self) -> u32 {
        match self.algorithm {
            Algorithm::FixedWindow { limit, .. } | Algorithm::SlidingWindow { limit, .. } => limit,
            Algorithm::TokenBucket { capacity, .. } => capacity,
        }
    }

    /// Returns the length of the window, or the time in which an empty bucket fills up.
    pub fn window(&self) -> Duration {
        Duration::from_millis(match self.algorithm {
            Algorithm::FixedWindow { window, .. } | Algorithm::SlidingWindow { window, .. } => {
                window
            }
            Algorithm::TokenBucket {
                capacity,
                refill,
                period,
            } => period
                .saturating_mul(capacity.into())
                .div_ceil(u64::from(refill.max(1))),
        })
    }

    pub(super) fn check(self) -> Result<()> {
        let (field, time) = match self.algorithm {
            Algorithm::FixedWindow { window, .. } | Algorithm::SlidingWindow { window, .. } => {
                ("window", window)
            }
            Algorithm::TokenBucket { period, .. } => ("period", period),
        };
        if !(1..=TIME_MAX).contains(&time) {
            return Err(Error::invalid(field, "must be between 1 ms and 366 days"));
        }
        match self.algorithm {
            Algorithm::FixedWindow { limit: 0, .. } | Algorithm::SlidingWindow { limit: 0, .. } => {
                Err(Error::invalid("limit", "must be at least 1"))
            }
            Algorithm::SlidingWindow { limit, .. } if limit > LOG_MAX => Err(Error::invalid(
                "limit",
                format!("of a sliding window must be at most {LOG_MAX}"),
            )),
            Algorithm::TokenBucket { capacity: 0, .. } => {
                Err(Error::invalid("capacity", "must be at least 1"))
            }
            Algorithm::TokenBucket { refill: 0, .. } => {
                Err(Error::invalid("refill", "must be at least 1"))
            }
            Algorithm::TokenBucket {
                capacity, period, ..
            } if u64::from(capacity).saturating_mul(period) > LEVEL_MAX => Err(Error::invalid(
                "capacity",
                "times the period must be at most 2^52 ms",
            )),
            _ => Ok(()),
        }
    }
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bounded() {
        let second = Duration::from_secs(1);
        for good in [
            RateLimit::fixed_window(1, Duration::from_millis(1)),
            RateLimit::fixed_window(u32::MAX, second),
            RateLimit::sliding_window(10_000, second),
            RateLimit::token_bucket(1, u32::MAX, second),
        ] {
            assert!(good.check().is_ok(), "{good:?}");
        }
        for (bad, named) in [
            (RateLimit::fixed_window(0, second), "limit"),
            (RateLimit::sliding_window(0, second), "limit"),
            (RateLimit::sliding_window(10_001, second), "limit"),
            (
                RateLimit::fixed_window(1, Duration::from_micros(999)),
                "window",
            ),
            (RateLimit::sliding_window(1, Duration::MAX), "window"),
            (RateLimit::token_bucket(0, 1, second), "capacity"),
            (RateLimit::token_bucket(1, 0, second), "refill"),
            (RateLimit::token_bucket(1, 1, Duration::ZERO), "period"),
            (
                RateLimit::token_bucket(u32::MAX, 1, Duration::from_millis(TIME_MAX)),
                "capacity",
            ),
        ] {
            let error = bad.check().unwrap_err();
            assert!(
                matches!(error, Error::Invalid { field, .. } if field == named),
                "{bad:?}: {error}"
            );
        }
    }

    #[test]
    fn window_of_a_bucket_is_the_time_it_fills_in() {
        let bucket = RateLimit::token_bucket(10, 4, Duration::from_secs(1));
        assert_eq!(bucket.window(), Duration::from_millis(2_500));
        assert_eq!(bucket.capacity(), 10);
    }
}
