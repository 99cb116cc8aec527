//! `lua/extend_locks.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, LockToken, Transition};

static SCRIPT: Script = lua!("extend_locks", uses: []);

/// Renews the locks of active jobs.
pub(crate) struct ExtendLocks<'a> {
    pub(crate) duration: Duration,
    pub(crate) locks: &'a [(JobId, LockToken)],
}

impl ExtendLocks<'_> {
    /// How many locks one call renews at most: about half a millisecond of the server's time.
    pub(crate) const MAX: usize = 500;
}

impl Transition for ExtendLocks<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// The jobs whose lock is gone.
    type Reply = Vec<JobId>;

    fn write(&self, call: &mut Call<'_>) {
        call.millis(self.duration);
        for (id, token) in self.locks {
            call.arg(id.as_bytes()).arg(token.as_str());
        }
    }

    fn read(&self, reply: Value) -> Result<Vec<JobId>> {
        reply::ids(reply, "extend_locks")
    }
}
