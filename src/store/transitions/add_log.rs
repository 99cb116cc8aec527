//! `lua/add_log.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("add_log", uses: ["codes"]);

/// Appends a row to a job's log.
pub(crate) struct AddLog<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// The row.
    pub(crate) row: &'a str,
    /// How many of the newest rows to keep; 0: all.
    pub(crate) keep: u32,
}

impl Transition for AddLog<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    /// How many rows the log has now.
    type Reply = u64;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes()).arg(self.row).arg(self.keep);
    }

    fn read(&self, reply: Value) -> Result<u64> {
        let rows = reply::int(&reply, "add_log")?;
        u64::try_from(rows).map_err(|_| reply::unexpected("add_log"))
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
