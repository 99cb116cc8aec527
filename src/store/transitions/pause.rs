//! `lua/pause.lua` and `lua/resume.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static PAUSE: Script = lua!("pause", uses: ["events"]);
static RESUME: Script = lua!("resume", uses: ["events", "marker"]);

/// Stops workers from starting jobs.
pub(crate) struct Pause;

impl Transition for Pause {
    const SCRIPT: &'static Script = &PAUSE;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, _call: &mut Call<'_>) {}

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }
}

/// Lets workers start jobs again.
pub(crate) struct Resume {
    /// Whether this call continues an earlier one.
    pub(crate) continued: bool,
}

impl Transition for Resume {
    const SCRIPT: &'static Script = &RESUME;
    const SAFETY: Repeat = Repeat::Safe;
    /// Whether another call is needed.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.flag(self.continued);
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "resume")? == 1)
    }
}
