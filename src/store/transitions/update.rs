//! `lua/update_data.lua` and `lua/update_progress.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, LockToken, Transition};

static UPDATE_DATA: Script = lua!("update_data", uses: ["codes"]);
static UPDATE_PROGRESS: Script = lua!("update_progress", uses: ["codes", "events", "gate"]);

/// Replaces a job's data.
pub(crate) struct UpdateData<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// The data, as JSON text.
    pub(crate) data: &'a str,
    /// The lock under which a handler asks.
    pub(crate) token: Option<&'a LockToken>,
}

impl Transition for UpdateData<'_> {
    const SCRIPT: &'static Script = &UPDATE_DATA;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        let token = self.token.map_or("", LockToken::as_str);
        call.arg(self.job.as_bytes()).arg(self.data).arg(token);
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}

/// Replaces a job's progress and publishes it.
pub(crate) struct UpdateProgress<'a> {
    /// The job.
    pub(crate) job: &'a JobId,
    /// The progress, as JSON text.
    pub(crate) progress: &'a str,
}

impl Transition for UpdateProgress<'_> {
    const SCRIPT: &'static Script = &UPDATE_PROGRESS;
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = ();

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes()).arg(self.progress);
    }

    fn read(&self, _reply: Value) -> Result<()> {
        Ok(())
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}
