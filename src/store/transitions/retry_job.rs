//! `lua/retry_job.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("retry_job", uses: ["codes", "found", "events", "gate", "marker", "place", "job", "parent", "retry"]);

/// Runs a finished job again.
pub(crate) struct RetryJob<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// Whether the job is in completed; else in failed.
    pub(crate) completed: bool,
    /// Whether the attempts made are forgotten.
    pub(crate) reset_made: bool,
    /// Whether the attempts started are forgotten.
    pub(crate) reset_started: bool,
}

impl Transition for RetryJob<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes())
            .arg(if self.completed {
                "completed"
            } else {
                "failed"
            })
            .flag(self.reset_made)
            .flag(self.reset_started);
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
