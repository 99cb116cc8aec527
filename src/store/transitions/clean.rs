//! `lua/clean.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::Value;
use crate::store::transitions::walk::{Walk, WalkStep, read_step};
use crate::store::{Call, Place, Transition};

static SCRIPT: Script = lua!(
    "clean",
    uses: [
        "events", "gate", "marker", "job", "parent", "dedup", "removal", "lists", "walk"
    ]
);

/// One bounded step of deleting the old jobs of a place. A step that may take none writes the event
/// of those before.
pub(crate) struct Clean {
    pub(crate) place: Place,
    pub(crate) walk: Walk,
    /// The newest time that is deleted.
    pub(crate) newest: Timestamp,
}

impl Transition for Clean {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        self.walk.write(call, self.place.suffix());
        call.arg(self.newest.as_millis()).arg(self.walk.from.unsaid);
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        read_step(reply, "clean")
    }
}
