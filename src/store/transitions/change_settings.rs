//! `lua/change_settings.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobRateLimit;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("change_settings", uses: ["gate", "marker"]);

/// Changes a setting that bounds what all workers of a queue do together; `None` removes it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChangeSettings {
    /// How many jobs may be active.
    Concurrency(Option<u32>),
    /// How many jobs may start in a window of time.
    RateLimit(Option<JobRateLimit>),
}

impl Transition for ChangeSettings {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// Whether the setting was there before.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        // The script removes a setting whose value is empty.
        match self {
            Self::Concurrency(jobs) => call.arg("concurrency").optional(*jobs),
            Self::RateLimit(limit) => call
                .arg("max")
                .optional(limit.map(|limit| limit.max))
                .arg("duration")
                .optional(limit.map(|limit| limit.window_millis())),
        };
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "change_settings")? > 0)
    }
}
