//! `lua/limit_rate.lua` and `lua/lift_limit.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::{Error, Result};
use crate::job::JobRateLimit;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static LIMIT: Script = lua!("limit_rate", uses: ["gate", "rate"]);
static LIFT: Script = lua!("lift_limit", uses: ["gate", "marker"]);

/// The longest time a limit may last: 2^52 ms keep every sum exact in the doubles of scripts.
const MILLIS_MAX: u64 = 1 << 52;

impl JobRateLimit {
    /// Checks that the limit lets jobs through and its window ends.
    pub(crate) fn check(&self) -> Result<()> {
        if self.max == 0 {
            return Err(Error::invalid("rate limit", "must allow at least one job"));
        }
        check_millis("rate limit window", self.window)
    }

    /// The window as it is stored.
    pub(crate) fn window_millis(&self) -> u64 {
        millis(self.window)
    }
}

/// Stops workers that know a rate limit from starting jobs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LimitRate {
    wait: Duration,
    /// The number of jobs in the limit that the caller works under.
    known: Option<u32>,
}

impl LimitRate {
    /// For `wait`, or as much of it as can be stored.
    pub(crate) fn new(wait: Duration, known: Option<u32>) -> Self {
        Self { wait, known }
    }

    /// For `wait`, which must be a time that can be stored.
    pub(crate) fn checked(wait: Duration, known: Option<u32>) -> Result<Self> {
        check_millis("rate limit wait", wait)?;
        Ok(Self::new(wait, known))
    }
}

impl Transition for LimitRate {
    const SCRIPT: &'static Script = &LIMIT;
    const SAFETY: Repeat = Repeat::Safe;
    /// How long the limit lasts; longer than asked for where it was reached for longer already.
    type Reply = Duration;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(millis(self.wait).clamp(1, MILLIS_MAX));
        match self.known {
            Some(max) => call.arg(max),
            None => call.arg(""),
        };
    }

    fn read(&self, reply: Value) -> Result<Duration> {
        let left = reply::int(&reply, "limit_rate")?;
        Ok(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }
}

/// Ends the window, or the limit imposed by hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LiftLimit;

impl Transition for LiftLimit {
    const SCRIPT: &'static Script = &LIFT;
    const SAFETY: Repeat = Repeat::Safe;
    /// Whether there was one.
    type Reply = bool;

    fn write(&self, _call: &mut Call<'_>) {}

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "lift_limit")? == 1)
    }
}

/// Whole milliseconds, rounded up: a limit must not end early.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn check_millis(field: &'static str, time: Duration) -> Result<()> {
    if time < Duration::from_millis(1) || millis(time) > MILLIS_MAX {
        return Err(Error::invalid(
            field,
            format!("must be between 1 ms and {MILLIS_MAX} ms"),
        ));
    }
    Ok(())
}
