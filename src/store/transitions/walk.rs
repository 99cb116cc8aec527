//! What scripts on many jobs have in common: they go through the ids of a place in bounded steps
//! (`lua/lib/walk.lua`).

use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::{Call, reply};

/// The most jobs that a step takes.
pub(crate) const STEP_MAX: u64 = 60;

/// Where a step has ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    behind: Vec<u8>,
    id: Vec<u8>,
    /// How many jobs were deleted that no event has told of.
    pub(crate) unsaid: u64,
}

/// A step to take.
#[derive(Debug, Clone)]
pub(crate) struct Walk {
    /// Whether nothing is changed.
    pub(crate) dry: bool,
    /// How many jobs may be taken; `None`: any number.
    pub(crate) limit: Option<u64>,
    pub(crate) from: Cursor,
}

impl Walk {
    /// Appends what `read_walk` reads.
    pub(crate) fn write(&self, call: &mut Call<'_>, place: &str) {
        call.arg(place).flag(self.dry);
        match self.limit {
            Some(limit) => call.arg(limit),
            None => call.arg("-1"),
        };
        call.arg(self.from.behind.as_slice())
            .arg(self.from.id.as_slice());
    }
}

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct WalkStep {
    /// The jobs that it took; of a dry step those that it would have taken.
    pub(crate) jobs: Vec<JobId>,
    /// How many ids it has looked at.
    pub(crate) looked: u64,
    /// Where the next one begins; `None` at the end of the place.
    pub(crate) next: Option<Cursor>,
}

/// Reads what `walk_reply` makes.
pub(crate) fn read_step(reply: Value, what: &str) -> Result<WalkStep> {
    let unexpected = || reply::unexpected(what);
    let count = |value: &Value| u64::try_from(reply::int(value, what)?).map_err(|_| unexpected());
    let mut parts = reply::items(reply, what)?.into_iter();
    let (Some(jobs), Some(looked), Some(ended), Some(behind), Some(id)) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Err(unexpected());
    };
    let next = Cursor {
        behind: reply::bytes(behind, what)?,
        id: reply::bytes(id, what)?,
        unsaid: parts.next().as_ref().map(count).transpose()?.unwrap_or(0),
    };
    Ok(WalkStep {
        jobs: reply::ids(jobs, what)?,
        looked: count(&looked)?,
        next: (count(&ended)? == 0).then_some(next),
    })
}
