//! `lua/clear_logs.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, Transition, reply};

static SCRIPT: Script = lua!("clear_logs", uses: []);

/// Deletes the oldest rows of a job's log: one bounded step.
pub(crate) struct ClearLogs<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// How many of the newest rows to keep.
    pub(crate) keep: u32,
}

impl Transition for ClearLogs<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// Whether more rows are to be deleted.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes()).arg(self.keep);
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "clear_logs")? == 1)
    }
}
