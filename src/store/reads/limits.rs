//! What bounds the workers of a queue together: global concurrency and rate limits.

use std::time::Duration;

use redis::Value;

use crate::client::Repeat;
use crate::error::Result;
use crate::store::{Store, reply};

/// How long workers must not start jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitState {
    /// Jobs may start.
    Free,
    /// No job starts for this long.
    For(Duration),
    /// There is a count that never ends. Workers do not wait for it: the next start under a limit
    /// opens a new window.
    Endless,
}

impl Store {
    /// Reads how many jobs may be active at once. A value that is no number does not bound
    /// anything, for workers neither.
    pub(crate) async fn global_concurrency(&self) -> Result<Option<u64>> {
        let [concurrency] = self.settings(["concurrency"]).await?;
        Ok(concurrency.map(whole))
    }

    /// Says whether as many jobs are active as may be.
    pub(crate) async fn is_maxed(&self) -> Result<bool> {
        const WHAT: &str = "the concurrency of a queue";
        let mut pipe = redis::pipe();
        pipe.cmd("HGET")
            .arg(self.keys.key("meta"))
            .arg("concurrency");
        pipe.cmd("LLEN").arg(self.keys.key("active"));
        let answers = self.snapshot(&pipe, WHAT).await?;
        let [concurrency, active] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let active = u64::try_from(reply::int(active, WHAT)?).unwrap_or(0);
        Ok(number(concurrency.clone()).is_some_and(|limit| active >= whole(limit)))
    }

    /// Reads the global limit: jobs, and the window they may start in.
    pub(crate) async fn global_rate_limit(&self) -> Result<Option<(u64, Duration)>> {
        let [max, window] = self.settings(["max", "duration"]).await?;
        Ok(max.zip(window).map(|(max, window)| {
            let window = Duration::try_from_secs_f64(window.abs() / 1000.0);
            (whole(max), window.unwrap_or(Duration::MAX))
        }))
    }

    /// Reads how long the rate limit of `max` jobs holds; without one, that of the global limit,
    /// or else of whatever is counted.
    pub(crate) async fn rate_limit_state(&self, max: Option<u32>) -> Result<RateLimitState> {
        const WHAT: &str = "the rate limit of a queue";
        let limiter = self.keys.key("limiter");
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(&limiter);
        pipe.cmd("PTTL").arg(&limiter);
        pipe.cmd("HGET").arg(self.keys.key("meta")).arg("max");
        let answers = self.snapshot(&pipe, WHAT).await?;
        let [count, left, global] = answers.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        let max = max.map(f64::from).or_else(|| number(global.clone()));
        let Some(count) = number(count.clone()) else {
            return Ok(RateLimitState::Free);
        };
        if max.is_some_and(|max| count < max.max(1.0)) {
            return Ok(RateLimitState::Free);
        }
        Ok(match u64::try_from(reply::int(left, WHAT)?) {
            Ok(left @ 1..) => RateLimitState::For(Duration::from_millis(left)),
            Err(_) if max.is_none() => RateLimitState::Endless,
            _ => RateLimitState::Free,
        })
    }

    /// Reads settings that are numbers.
    async fn settings<const N: usize>(&self, fields: [&str; N]) -> Result<[Option<f64>; N]> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.keys.key("meta")).arg(&fields);
        let values = self.connection.request(&cmd, Repeat::Safe).await?;
        let values: Vec<_> = reply::items(values, "the settings of a queue")?
            .into_iter()
            .map(number)
            .collect();
        <[Option<f64>; N]>::try_from(values)
            .map_err(|_| reply::unexpected("the settings of a queue"))
    }
}

/// A number that some client stored, whatever it took for one.
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
fn whole(n: f64) -> u64 {
    n.ceil() as u64
}
