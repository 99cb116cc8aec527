//! `lua/drain.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::resp::Value;
use crate::store::transitions::walk::{Walk, WalkStep, read_step};
use crate::store::{Call, Place, Transition};

static SCRIPT: Script = lua!(
    "drain",
    uses: ["gate", "marker", "job", "parent", "dedup", "removal", "lists", "walk"]
);

/// One bounded step of deleting the jobs of a place that have not started.
pub(crate) struct Drain {
    pub(crate) place: Place,
    pub(crate) walk: Walk,
}

impl Transition for Drain {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        self.walk.write(call, self.place.suffix());
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        read_step(reply, "drain")
    }
}
