//! `lua/remove_unprocessed_children.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, Store, Transition};

const WHAT: &str = "remove_unprocessed_children";

static SCRIPT: Script = lua!(
    "remove_unprocessed_children",
    uses: [
        "codes", "events", "gate", "marker", "job", "parent", "dedup", "removal", "lists",
        "flow"
    ]
);

/// Deletes pending children of a job: one bounded step.
struct RemoveUnprocessedChildren<'a> {
    /// The parent.
    job: &'a JobId,
    /// Where an earlier step has ended; empty at first.
    from: &'a [Vec<u8>],
}

/// What a step did.
struct Removal {
    /// How many jobs it deleted.
    removed: u64,
    /// Where the next step begins; empty at the end.
    next: Vec<Vec<u8>>,
}

impl Transition for RemoveUnprocessedChildren<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    const SAFETY: Repeat = Repeat::Once;
    type Reply = Removal;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.job.as_bytes());
        for part in self.from {
            call.arg(part.as_slice());
        }
    }

    fn read(&self, reply: Value) -> Result<Removal> {
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let removed = parts.next().ok_or_else(|| reply::unexpected(WHAT))?;
        Ok(Removal {
            removed: u64::try_from(reply::int(&removed, WHAT)?).unwrap_or(0),
            next: parts
                .map(|part| reply::bytes(part, WHAT))
                .collect::<Result<_>>()?,
        })
    }

    fn job(&self) -> Option<&JobId> {
        Some(self.job)
    }
}

impl Store {
    /// Deletes the pending children of a job that nobody holds and that have not failed, in bounded
    /// steps. Returns how many jobs were deleted.
    pub(crate) async fn remove_unprocessed_children(&self, job: &JobId) -> Result<u64> {
        let (mut from, mut removed) = (Vec::new(), 0);
        loop {
            let step = RemoveUnprocessedChildren { job, from: &from };
            let step = self.run(&step).await.map_err(|error| match removed {
                0 => error,
                _ => error.after(|| format!("{removed} children of job {job} were deleted")),
            })?;
            removed += step.removed;
            if step.next.is_empty() {
                return Ok(removed);
            }
            from = step.next;
        }
    }
}
