//! `lua/remove_scheduler.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("remove_scheduler", uses: ["events", "job", "scheduler"]);

/// Deletes a scheduler and its delayed iteration.
pub(crate) struct RemoveScheduler<'a> {
    pub(crate) scheduler: &'a str,
}

impl Transition for RemoveScheduler<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    /// Whether there was such a scheduler.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.scheduler);
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "remove_scheduler")? == 1)
    }
}
