//! `lua/release_deduplication.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Transition};

static SCRIPT: Script = lua!("release_deduplication", uses: []);

/// Frees a deduplication id.
pub(crate) struct ReleaseDeduplication<'a> {
    pub(crate) id: &'a [u8],
    /// Only if this job owns it.
    pub(crate) owner: Option<&'a JobId>,
}

impl Transition for ReleaseDeduplication<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // Repeated, it may free the id of a job that was added in between.
    const SAFETY: Repeat = Repeat::Once;
    /// Whether it was taken.
    type Reply = bool;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.id)
            .arg(self.owner.map_or(b"".as_slice(), JobId::as_bytes));
    }

    fn read(&self, reply: Value) -> Result<bool> {
        Ok(reply::int(&reply, "release_deduplication")? == 1)
    }
}
