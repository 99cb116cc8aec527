//! `lua/remove_job.lua`

use redis::Value;

use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::store::reply;
use crate::store::script::lua;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!(
    "remove_job",
    uses: ["codes", "events", "gate", "marker", "place", "job", "parent", "dedup", "removal"]
);

/// Deletes a job.
pub(crate) struct RemoveJob<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// Whether its children are deleted too.
    pub(crate) children: bool,
}

impl Transition for RemoveJob<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    /// Whether there was such a job.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_str()).flag(self.children);
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "remove_job")? == 1)
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
