//! `lua/change_delay.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, Transition};

static SCRIPT: Script =
    lua!("change_delay", uses: ["codes", "found", "events", "gate", "marker", "place"]);

/// Gives a delayed job another due time.
pub(crate) struct ChangeDelay<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// The time from which the delay counts.
    pub(crate) now: Timestamp,
    /// The wait, in whole milliseconds.
    pub(crate) delay: Duration,
}

impl Transition for ChangeDelay<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes())
            .arg(self.now.as_millis())
            .millis(self.delay);
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
