//! `lua/reclaim.lua`

use redis::Value;

use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::store::script::lua;
use crate::store::transitions::advance::{Started, read_started};
use crate::store::{Call, LockToken, Transition};

static SCRIPT: Script = lua!("reclaim", uses: []);

/// How many of the newest active jobs are searched: more than a queue's fleet runs at once.
const DEPTH: u32 = 20_000;

/// Finds the jobs that a call started although its answer was lost.
pub(crate) struct Reclaim<'a> {
    /// The lock token of that call.
    pub(crate) token: &'a LockToken,
}

impl Transition for Reclaim<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Safe;
    /// The jobs, as they are now: already counted as started.
    type Reply = Vec<Started>;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.token.as_str()).arg(DEPTH);
    }

    fn read(&self, reply: Value) -> Result<Vec<Started>> {
        read_started(reply, "reclaim")
    }
}
