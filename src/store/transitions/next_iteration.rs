//! `lua/next_iteration.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::transitions::upsert_scheduler::write_iteration;
use crate::store::{Call, Transition, millis};
use crate::wire::Iteration;

static SCRIPT: Script = lua!(
    "next_iteration",
    uses: ["events", "gate", "marker", "place", "scheduler"]
);

/// Occurrences of a pattern, one of which the script takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PatternOccurrences {
    /// The next one to come.
    pub(crate) latest: Option<Timestamp>,
    /// The one after the current occurrence, even if it is past.
    pub(crate) following: Option<Timestamp>,
}

/// The iteration to add.
pub(crate) struct Successor {
    pub(crate) occurrences: PatternOccurrences,
    /// The interval, if the definition has none.
    pub(crate) every: Option<Duration>,
    pub(crate) offset: Duration,
    pub(crate) end: Option<Timestamp>,
    pub(crate) iteration: Iteration,
}

/// Adds the iteration that follows one just activated.
pub(crate) struct NextIteration<'a> {
    pub(crate) scheduler: &'a [u8],
    pub(crate) activated: &'a JobId,
    pub(crate) now: Timestamp,
    /// The iteration; `None` where the schedule is over or unreadable.
    pub(crate) successor: Option<&'a Successor>,
}

/// What became of the next iteration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextOutcome {
    /// It is there.
    Made(JobId),
    /// The activated job is not the current iteration of a scheduler.
    NotCurrent,
    /// There is no further occurrence, or none was to be added.
    Over,
    /// A job of that id exists; the scheduler has no next iteration now.
    Duplicate(JobId),
    /// The queue does not have the scheduler, or its iterations have other ids.
    Unknown,
    /// It belongs to a repeatable job of BullMQ 4: see [`NextRepeatable`](crate::store::NextRepeatable).
    Repeatable,
}

impl NextOutcome {
    pub(super) fn read(outcome: &JobId, id: &JobId) -> Option<Self> {
        Some(match outcome.as_str() {
            "made" => Self::Made(id.clone()),
            "none" => Self::NotCurrent,
            "ended" => Self::Over,
            "duplicate" => Self::Duplicate(id.clone()),
            "unknown" => Self::Unknown,
            "repeatable" => Self::Repeatable,
            _ => return None,
        })
    }
}

/// What the activation of an iteration led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activated {
    pub(crate) next: NextOutcome,
    /// An earlier iteration that runs, where none may overlap.
    pub(crate) running: Option<JobId>,
}

impl Transition for NextIteration<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The second execution finds that the activated job is not the current iteration any more.
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = Activated;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.scheduler)
            .arg(self.activated.as_bytes())
            .arg(self.now.as_millis());
        if let Some(successor) = self.successor {
            call.optional(successor.occurrences.latest.map(Timestamp::as_millis))
                .optional(successor.occurrences.following.map(Timestamp::as_millis))
                .optional(successor.every.map(millis))
                .millis(successor.offset)
                .optional(successor.end.map(Timestamp::as_millis));
            write_iteration(call, &successor.iteration);
        } else {
            call.arg("").arg("").arg("").arg(0).arg("");
            call.arg("").arg(0).flag(false).arg("");
        }
    }

    fn read(&self, reply: Value) -> Result<Activated> {
        const WHAT: &str = "next_iteration";
        let parts = reply::ids(reply, WHAT)?;
        let [outcome, id, running] = parts.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        Ok(Activated {
            next: NextOutcome::read(outcome, id).ok_or_else(|| reply::unexpected(WHAT))?,
            running: Some(running.clone()).filter(|id| !id.as_bytes().is_empty()),
        })
    }
}
