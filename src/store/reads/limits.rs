//! What bounds the workers of a queue together: global concurrency and rate limits.

use std::time::Duration;

use crate::client::Repeat;
use crate::error::Result;
use crate::resp::{Batch, Command, Value};
use crate::store::{Store, reply};

/// How long workers must not start jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RateLimitState {
    /// Jobs may start. No window is open; the first start opens one.
    NoWindow,
    /// Jobs may start in the window that is open.
    Room {
        /// How many more.
        jobs: u64,
        /// How long the window lasts.
        window: Duration,
    },
    /// No job starts for this long.
    For(Duration),
    /// There is a count that never ends. Workers do not wait for it: the next start under a limit
    /// opens a new window.
    Endless,
}

impl RateLimitState {
    /// Says whether a job may start now.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::RateLimitState;
    /// use std::time::Duration;
    ///
    /// assert!(RateLimitState::NoWindow.may_start());
    /// assert!(!RateLimitState::For(Duration::from_secs(1)).may_start());
    /// ```
    pub fn may_start(self) -> bool {
        match self {
            // After a count that never ends, the next start opens a new window.
            Self::NoWindow | Self::Room { .. } | Self::Endless => true,
            Self::For(_) => false,
        }
    }

    /// Decides by how many jobs have been counted, how many milliseconds the count lasts (below
    /// zero: for ever), and how many jobs the limit allows, if it is known.
    fn of(count: Option<f64>, left: i64, max: Option<f64>) -> Self {
        let left = u64::try_from(left).ok().filter(|left| *left > 0);
        let left = left.map(Duration::from_millis);
        match (count, left, max.map(|max| max.max(1.0))) {
            (Some(count), Some(window), Some(max)) if count < max => Self::Room {
                jobs: whole(max - count),
                window,
            },
            (Some(_), Some(window), _) => Self::For(window),
            (Some(_), None, None) => Self::Endless,
            (None, ..) | (Some(_), None, Some(_)) => Self::NoWindow,
        }
    }
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
        Ok(RateLimitState::of(number(count.clone()), left, max))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A window in which jobs may start is not the same as none: its rest is what is left.
    #[test]
    fn state_tells_no_window_from_room_in_one() {
        let window = Duration::from_millis(500);
        for (count, left, max, state) in [
            (None, -2, Some(5.0), RateLimitState::NoWindow),
            (None, -2, None, RateLimitState::NoWindow),
            (
                Some(2.0),
                500,
                Some(5.0),
                RateLimitState::Room { jobs: 3, window },
            ),
            (Some(5.0), 500, Some(5.0), RateLimitState::For(window)),
            (Some(1.0), 500, Some(0.0), RateLimitState::For(window)),
            (
                Some(1.5),
                500,
                Some(2.0),
                RateLimitState::Room { jobs: 1, window },
            ),
            (Some(2.0), 500, None, RateLimitState::For(window)),
            // Workers replace a count that never ends.
            (Some(9.0), -1, Some(5.0), RateLimitState::NoWindow),
            (Some(2.0), -1, Some(5.0), RateLimitState::NoWindow),
            (Some(2.0), -1, None, RateLimitState::Endless),
        ] {
            assert_eq!(
                RateLimitState::of(count, left, max),
                state,
                "{count:?} {left} {max:?}"
            );
        }
    }
}
