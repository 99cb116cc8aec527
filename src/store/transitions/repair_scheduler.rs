//! `lua/repair_scheduler.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::transitions::check_schedulers::IterationState;
use crate::store::transitions::next_iteration::PatternOccurrences;
use crate::store::transitions::upsert_scheduler::write_iteration;
use crate::store::{Call, Transition};
use crate::wire::{EventId, Iteration};

static SCRIPT: Script = lua!(
    "repair_scheduler",
    uses: ["events", "gate", "marker", "place", "job", "replay", "scheduler"]
);

/// Adds an iteration for a scheduler whose current one will not run.
pub(crate) struct RepairScheduler<'a> {
    pub(crate) scheduler: &'a str,
    /// The occurrence of the iteration, and what became of it, as they were found.
    pub(crate) occurrence: Timestamp,
    pub(crate) state: IterationState,
    pub(crate) now: Timestamp,
    /// Whether the iteration of that occurrence is added again, instead of a later one.
    pub(crate) same: bool,
    pub(crate) occurrences: PatternOccurrences,
    pub(crate) iteration: &'a Iteration,
    /// The newest event that was read, and whether the events up to it report that the iteration has
    /// started.
    pub(crate) events: Option<(EventId, bool)>,
}

/// What the repair did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// The iteration was added.
    Made(JobId),
    /// Nothing was to be done.
    Nothing,
    /// More events are to be read first.
    Behind,
}

impl Transition for RepairScheduler<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The second execution finds an iteration that will run.
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = Repair;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.scheduler)
            .arg(self.occurrence.as_millis())
            .arg(self.state.as_str())
            .arg(self.now.as_millis())
            .flag(self.same)
            .optional(self.occurrences.latest.map(Timestamp::as_millis))
            .optional(self.occurrences.following.map(Timestamp::as_millis));
        write_iteration(call, self.iteration);
        call.optional(self.events.map(|(after, _)| after.to_string()))
            .flag(self.events.is_some_and(|(_, started)| started));
    }

    fn read(&self, reply: Value) -> Result<Repair> {
        if matches!(&reply, Value::SimpleString(text) if text == "BEHIND") {
            return Ok(Repair::Behind);
        }
        let ids = reply::ids(reply, "repair_scheduler")?;
        let made = ids.into_iter().next();
        Ok(made.map_or(Repair::Nothing, Repair::Made))
    }
}
