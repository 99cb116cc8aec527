//! `lua/promote_job.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, Transition};

static SCRIPT: Script =
    lua!("promote_job", uses: ["codes", "found", "events", "gate", "marker", "place", "job"]);

/// Lets a delayed job run now.
pub(crate) struct PromoteJob<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
}

impl Transition for PromoteJob<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes());
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
