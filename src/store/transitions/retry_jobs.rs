//! `lua/retry_jobs.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::resp::Value;
use crate::store::transitions::walk::{Walk, WalkStep, read_step};
use crate::store::{Call, Place, Transition};

static SCRIPT: Script = lua!(
    "retry_jobs",
    uses: [
        "events", "gate", "marker", "place", "job", "parent", "retry", "lists", "walk"
    ]
);

/// One bounded step of running finished jobs again.
pub(crate) struct RetryJobs {
    /// Whether these are the completed jobs; else the failed ones.
    pub(crate) completed: bool,
    pub(crate) walk: Walk,
    /// Jobs that ended later stay.
    pub(crate) until: Timestamp,
    /// Whether the attempts made are forgotten.
    pub(crate) reset_made: bool,
    /// Whether the attempts started are forgotten.
    pub(crate) reset_started: bool,
}

impl Transition for RetryJobs {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        let place = if self.completed {
            Place::Completed
        } else {
            Place::Failed
        };
        self.walk.write(call, place.suffix());
        call.arg(self.until.as_millis())
            .flag(self.reset_made)
            .flag(self.reset_started);
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        read_step(reply, "retry_jobs")
    }
}
