//! What bounds the workers of a queue together: global concurrency and rate limits.

use std::time::Duration;

use crate::client::Repeat;
use crate::error::Result;
use crate::job::{JobRateLimit, RateLimitState};
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

impl Store {
    /// Reads how many jobs may be active at once. A value that is not a number does not bound
    /// anything, which holds for workers too.
    pub(crate) async fn global_concurrency(&self) -> Result<Option<u32>> {
        let [concurrency] = self.settings(["concurrency"]).await?;
        Ok(concurrency.map(whole))
    }

    /// Returns whether as many jobs are active as may be.
    pub(crate) async fn is_maxed(&self) -> Result<bool> {
        const WHAT: &str = "the concurrency of a queue";
        let mut batch = Batch::new();
        batch.push(
            Command::new("HGET")
                .arg(self.keys.key("meta"))
                .arg("concurrency"),
        );
        batch.push(Command::new("LLEN").arg(self.keys.key("active")));
        let answers = self.snapshot(&batch, WHAT).await?;
        let [concurrency, active] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let active = u64::try_from(reply::int(active, WHAT)?).unwrap_or(0);
        Ok(number(concurrency.clone()).is_some_and(|limit| active >= u64::from(whole(limit))))
    }

    /// Reads the global limit.
    pub(crate) async fn global_rate_limit(&self) -> Result<Option<JobRateLimit>> {
        let [max, window] = self.settings(["max", "duration"]).await?;
        Ok(max.zip(window).map(|(max, window)| {
            let window = Duration::try_from_secs_f64(window.abs() / 1000.0);
            JobRateLimit::new(whole(max), window.unwrap_or(Duration::MAX))
        }))
    }

    /// Reads how long the rate limit of `max` jobs holds; without one, that of the global limit,
    /// or else of the present count.
    pub(crate) async fn rate_limit_state(&self, max: Option<u32>) -> Result<RateLimitState> {
        const WHAT: &str = "the rate limit of a queue";
        let limiter = self.keys.key("limiter");
        let mut batch = Batch::new();
        batch.push(Command::new("GET").arg(&limiter));
        batch.push(Command::new("PTTL").arg(&limiter));
        batch.push(Command::new("HGET").arg(self.keys.key("meta")).arg("max"));
        let answers = self.snapshot(&batch, WHAT).await?;
        let [count, left, global] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let max = max.map(f64::from).or_else(|| number(global.clone()));
        let left = reply::int(left, WHAT)?;
        Ok(state_of(number(count.clone()), left, max))
    }

    /// Reads settings that are numbers.
    async fn settings<const N: usize>(&self, fields: [&str; N]) -> Result<[Option<f64>; N]> {
        let command = Command::new("HMGET")
            .arg(self.keys.key("meta"))
            .args(fields);
        let values = self.connection.request(command, Repeat::Safe).await?;
        let values: Vec<_> = reply::items(values, "the settings of a queue")?
            .into_iter()
            .map(number)
            .collect();
        <[Option<f64>; N]>::try_from(values)
            .map_err(|_| reply::unexpected("the settings of a queue"))
    }
}

/// Derives the state from how many jobs have been counted, how many milliseconds the count lasts (below
/// zero: it does not expire), and how many jobs the limit allows, if that is known.
fn state_of(count: Option<f64>, left: i64, max: Option<f64>) -> RateLimitState {
    let left = u64::try_from(left).ok().filter(|left| *left > 0);
    let left = left.map(Duration::from_millis);
    match (count, left, max.map(|max| max.max(1.0))) {
        (Some(count), Some(reset), Some(max)) if count < max => RateLimitState::Available {
            remaining: whole(max - count),
            reset,
        },
        (Some(_), Some(retry_after), _) => RateLimitState::Limited { retry_after },
        (Some(_), None, None) => RateLimitState::NeverExpires,
        (None, ..) | (Some(_), None, Some(_)) => RateLimitState::NoWindow,
    }
}

/// A number that some client stored, in any notation.
fn number(value: Value) -> Option<f64> {
    let text = reply::text(value, "a number").ok()?;
    text.trim().parse().ok().filter(|n: &f64| n.is_finite())
}

/// The count that a limit of `n` comes to: a fraction leaves room for one more, as in scripts.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is below zero is none"
)]
fn whole(n: f64) -> u32 {
    n.ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window in which jobs may start is not the same as none: it ends.
    #[test]
    fn open_window_is_not_the_same_as_none() {
        let reset = Duration::from_millis(500);
        let limited = RateLimitState::Limited { retry_after: reset };
        for (count, left, max, state) in [
            (None, -2, Some(5.0), RateLimitState::NoWindow),
            (None, -2, None, RateLimitState::NoWindow),
            (
                Some(2.0),
                500,
                Some(5.0),
                RateLimitState::Available {
                    remaining: 3,
                    reset,
                },
            ),
            (Some(5.0), 500, Some(5.0), limited),
            (Some(1.0), 500, Some(0.0), limited),
            (
                Some(1.5),
                500,
                Some(2.0),
                RateLimitState::Available {
                    remaining: 1,
                    reset,
                },
            ),
            (Some(2.0), 500, None, limited),
            // Workers replace a count that never expires.
            (Some(9.0), -1, Some(5.0), RateLimitState::NoWindow),
            (Some(2.0), -1, Some(5.0), RateLimitState::NoWindow),
            (Some(2.0), -1, None, RateLimitState::NeverExpires),
        ] {
            assert_eq!(
                state_of(count, left, max),
                state,
                "{count:?} {left} {max:?}"
            );
        }
    }
}
