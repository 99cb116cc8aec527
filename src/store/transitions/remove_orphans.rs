//! `lua/remove_orphans.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::transitions::walk::WalkStep;
use crate::store::{Call, Transition, reply};

static SCRIPT: Script = lua!(
    "remove_orphans",
    uses: [
        "events", "gate", "marker", "job", "parent", "dedup", "removal", "lists", "flow"
    ]
);

/// Deletes what is left of jobs that no state has: as many of the ids given as one step may.
pub(crate) struct RemoveOrphans<'a> {
    /// Whether nothing is changed.
    pub(crate) dry: bool,
    /// How many may be deleted.
    pub(crate) limit: u64,
    pub(crate) now: Timestamp,
    /// Ids that have keys; at most as many as a script takes.
    pub(crate) ids: &'a [JobId],
}

impl Transition for RemoveOrphans<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    /// Without a place to go on from: that is how many ids were looked at.
    type Reply = WalkStep;

    fn write(&self, call: &mut Call<'_>) {
        call.flag(self.dry)
            .arg(self.limit)
            .arg(self.now.as_millis());
        for id in self.ids {
            call.arg(id.as_bytes());
        }
    }

    fn read(&self, reply: Value) -> Result<WalkStep> {
        const WHAT: &str = "remove_orphans";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let (Some(jobs), Some(looked)) = (parts.next(), parts.next()) else {
            return Err(reply::unexpected(WHAT));
        };
        let looked = u64::try_from(reply::int(&looked, WHAT)?);
        Ok(WalkStep {
            jobs: reply::ids(jobs, WHAT)?,
            looked: looked.map_err(|_| reply::unexpected(WHAT))?,
            next: None,
        })
    }
}
