//! Holds: a resource that must not be used until a time.

use crate::client::{Command, Repeat, Script, ScriptCall, lua};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::kv::check_id;
use crate::kv::{Kv, mismatch};

static HOLD_OFF: Script = lua!("kv/hold_off", uses: []);

/// Longest hold, in ms: 31 days.
const HOLD_MAX: i64 = 31 * 24 * 3_600_000;

impl Kv {
    /// Holds a resource until a time, such as an account of an API that answered with
    /// `Retry-After`. All processes see the hold with [`Kv::held_until`]; nothing enforces it. A
    /// hold is never shortened: returns the time in force, which may be a later one set before.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id as in [`RateLimiter::take`](super::RateLimiter::take), and
    /// for a time that has passed or is more than 31 days ahead; [`Error::Decode`] when the key
    /// holds something else.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn run(client: oxbull::Client) -> oxbull::Result<()> {
    /// use std::time::Duration;
    ///
    /// let kv = client.kv();
    /// let retry_after = Duration::from_secs(120);
    /// kv.hold_off("account-7", client.clock().now() + retry_after).await?;
    /// if let Some(until) = kv.held_until("account-7").await? {
    ///     println!("not before {until} (ms since 1970)");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn hold_off(&self, resource: &str, until: Timestamp) -> Result<Timestamp> {
        let key = hold_key(resource)?;
        let left = until
            .as_millis()
            .saturating_sub(self.connection.clock().now().as_millis());
        if !(1..=HOLD_MAX).contains(&left) {
            return Err(Error::invalid("until", "must be within the next 31 days"));
        }
        let call = ScriptCall::new(&HOLD_OFF, &[&key])
            .int(until.as_millis().unsigned_abs())
            .int(left.unsigned_abs());
        let reply = self.connection.run(call, Repeat::Safe).await;
        let held = reply.map_err(|error| mismatch(&key, error))?.int()?;
        Ok(Timestamp::from_millis(held))
    }

    /// Returns until when a resource is held; `None` when it is not.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id, [`Error::Decode`] when the key holds something else.
    pub async fn held_until(&self, resource: &str) -> Result<Option<Timestamp>> {
        let key = hold_key(resource)?;
        let held: Option<i64> = self.get(&key).await?;
        let now = self.connection.clock().now();
        Ok(held.map(Timestamp::from_millis).filter(|held| *held > now))
    }

    /// Ends a hold early; returns whether there was one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id.
    pub async fn end_hold(&self, resource: &str) -> Result<bool> {
        let key = hold_key(resource)?;
        let command = Command::new("DEL").arg(&key);
        self.connection.call(command, Repeat::Safe).await?.flag()
    }
}

/// Three parts, where the keys of limits have four.
fn hold_key(resource: &str) -> Result<String> {
    check_id("resource", resource)?;
    Ok(format!("ratelimit:hold:{resource}"))
}
