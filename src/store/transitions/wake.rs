//! `lua/wake.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::resp::Value;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("wake", uses: ["gate", "marker"]);

/// Passes a wake-up on to another worker.
pub(crate) struct Wake;

impl Transition for Wake {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, _call: &mut Call<'_>) {}

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }
}
