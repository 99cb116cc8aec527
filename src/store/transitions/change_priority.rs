//! `lua/change_priority.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("change_priority", uses: ["codes", "gate", "marker", "place"]);

/// Gives a job another priority.
pub(crate) struct ChangePriority<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// The priority; 0: none.
    pub(crate) priority: u32,
    /// Whether it runs before its equals.
    pub(crate) lifo: bool,
}

impl Transition for ChangePriority<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes())
            .arg(self.priority)
            .flag(self.lifo);
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
