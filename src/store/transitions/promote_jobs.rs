//! `lua/promote_jobs.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::Value;
use crate::store::transitions::walk::{Walk, WalkStep, read_step};
use crate::store::{Call, Place, Transition};

static SCRIPT: Script = lua!(
    "promote_jobs",
    uses: ["events", "gate", "marker", "place", "job", "promote", "lists", "walk"]
);

/// One bounded step of letting delayed jobs run now.
pub(crate) struct PromoteJobs {
    pub(crate) walk: Walk,
    /// When the operation began.
    pub(crate) begun: Timestamp,
}

impl Transition for PromoteJobs {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        self.walk.write(call, Place::Delayed.suffix());
        call.arg(self.begun.as_millis());
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        read_step(reply, "promote_jobs")
    }
}
