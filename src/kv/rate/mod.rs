//! Request rate limits, shared by all processes that use one Redis server.

mod hold;
mod limit;

use std::time::Duration;

pub use limit::RateLimit;
use serde::{Deserialize, Serialize};

use super::check_id;
use super::{Kv, mismatch};
use crate::client::{Connection, Repeat, Reply, Script, ScriptCall, lua};
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::json;
use limit::Algorithm;

static FIXED_WINDOW: Script = lua!("kv/fixed_window", uses: []);
static SLIDING_WINDOW: Script = lua!("kv/sliding_window", uses: []);
static TOKEN_BUCKET: Script = lua!("kv/token_bucket", uses: []);

/// How much longer than its window a key lives, in ms: a client whose clock is behind must not
/// find an emptied window. Server-aligned clocks differ by far less.
const SKEW: u64 = 5_000;

/// Whether a request may go on, and what is left. In JSON names are in camel case and times are
/// milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RateLimitDecision {
    /// Whether the request fits; if so it has been counted, unless this was a peek.
    pub allowed: bool,
    /// The most that a window or bucket takes.
    pub limit: u32,
    /// What is left of it now.
    pub remaining: u32,
    /// How long until all of it is there again, if nothing else comes.
    #[serde(with = "json::millis")]
    pub reset: Duration,
    /// When not allowed: how long until the request would fit, if nothing else comes.
    #[serde(with = "json::optional_millis")]
    pub retry_after: Option<Duration>,
}

/// Limits how often something is done, for each endpoint and user; from [`Kv::rate_limiter`].
///
/// However many processes ask at once, they never pass the limit together. One call is one
/// round trip and one atomic step; every key has a time to live from that same step. The times
/// are those of the client's [`Clock`], which follows the server's.
///
/// A request whose answer is lost is asked for again within the client's bounds, and may then
/// be counted twice, never less than once.
///
/// # Examples
/// ```no_run
/// # async fn run(client: oxbull::Client) -> oxbull::Result<()> {
/// use std::time::Duration;
/// use oxbull::kv::RateLimit;
///
/// let per_minute = RateLimit::fixed_window(60, Duration::from_secs(60));
/// let limiter = client.kv().rate_limiter(per_minute)?;
/// let decision = limiter.take("publish", "user-7").await?;
/// if let Some(wait) = decision.retry_after {
///     println!("try again in {wait:?}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct RateLimiter {
    connection: Connection,
    clock: Clock,
    limit: RateLimit,
}

impl Kv {
    /// Makes a rate limiter on this server.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the limit or its time is out of bounds.
    pub fn rate_limiter(&self, limit: RateLimit) -> Result<RateLimiter> {
        limit.check()?;
        Ok(RateLimiter {
            connection: self.connection.clone(),
            clock: self.connection.clock().clone(),
            limit,
        })
    }
}

impl RateLimiter {
    /// Counts one request of a user to an endpoint, if it fits.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an endpoint or user id that has other characters than letters,
    /// digits and `_ - . @ %`, is empty or longer than 128 bytes (see
    /// [`escape_id`](super::escape_id)); [`Error::Decode`] when the key holds something else.
    pub async fn take(&self, endpoint: &str, user: &str) -> Result<RateLimitDecision> {
        self.decide(endpoint, user, 1, false).await
    }

    /// Counts a request that costs as much as `cost` ordinary ones: all of it or nothing.
    ///
    /// # Errors
    /// As [`RateLimiter::take`], and [`Error::Invalid`] for a cost of 0 or over the limit.
    pub async fn take_many(
        &self,
        endpoint: &str,
        user: &str,
        cost: u32,
    ) -> Result<RateLimitDecision> {
        self.decide(endpoint, user, cost, false).await
    }

    /// Decides on one request without counting it.
    ///
    /// # Errors
    /// As [`RateLimiter::take`].
    pub async fn peek(&self, endpoint: &str, user: &str) -> Result<RateLimitDecision> {
        self.decide(endpoint, user, 1, true).await
    }

    /// Returns what this limiter allows.
    pub fn limit(&self) -> RateLimit {
        self.limit
    }

    #[cfg(feature = "http-rate-limit")]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    async fn decide(
        &self,
        endpoint: &str,
        user: &str,
        cost: u32,
        peek: bool,
    ) -> Result<RateLimitDecision> {
        check_id("endpoint", endpoint)?;
        check_id("user id", user)?;
        if cost == 0 || cost > self.limit.capacity() {
            return Err(Error::invalid("cost", "must be between 1 and the limit"));
        }
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(0);
        let family = format!("ratelimit:{endpoint}:{user}");
        let peek = u64::from(peek);
        match self.limit.algorithm {
            Algorithm::FixedWindow { limit, window } => {
                let key = format!("{family}:{}", now / window);
                let left = window - now % window;
                let call = ScriptCall::new(&FIXED_WINDOW, &[&key])
                    .int(limit)
                    .int(cost)
                    .int(left + SKEW)
                    .int(peek);
                let reply = self.ask(&key, call).await?;
                decision(reply, limit, Some(left))
            }
            Algorithm::SlidingWindow { limit, window } => {
                let key = format!("{family}:sliding");
                let call = ScriptCall::new(&SLIDING_WINDOW, &[&key])
                    .int(limit)
                    .int(cost)
                    .int(now)
                    .int(window)
                    .int(window + SKEW)
                    .int(peek);
                decision(self.ask(&key, call).await?, limit, None)
            }
            Algorithm::TokenBucket {
                capacity,
                refill,
                period,
            } => {
                let key = format!("{family}:bucket");
                let call = ScriptCall::new(&TOKEN_BUCKET, &[&key])
                    .int(capacity)
                    .int(refill)
                    .int(period)
                    .int(cost)
                    .int(now)
                    .int(SKEW)
                    .int(peek);
                decision(self.ask(&key, call).await?, capacity, None)
            }
        }
    }

    async fn ask(&self, key: &str, call: ScriptCall) -> Result<Reply> {
        let reply = self.connection.run(call, Repeat::Safe).await;
        reply.map_err(|error| mismatch(key, error))
    }
}

/// Reads a script's answer. A fixed window ends after `left` ms, whatever was counted.
fn decision(reply: Reply, limit: u32, left: Option<u64>) -> Result<RateLimitDecision> {
    let mut numbers = reply.numbers()?.into_iter();
    let mut next = || numbers.next().and_then(|number| u64::try_from(number).ok());
    let (Some(allowed), Some(remaining)) = (next(), next()) else {
        return Err(Error::Protocol("a rate limit's answer is short".to_owned()));
    };
    let reset = left.or_else(&mut next).unwrap_or(0);
    let wait = left.or_else(&mut next).unwrap_or(0);
    let allowed = allowed == 1;
    Ok(RateLimitDecision {
        allowed,
        limit,
        remaining: u32::try_from(remaining).unwrap_or(limit),
        reset: Duration::from_millis(reset),
        retry_after: (!allowed).then(|| Duration::from_millis(wait)),
    })
}
