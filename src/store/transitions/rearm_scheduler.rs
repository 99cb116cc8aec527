//! `lua/rearm_scheduler.lua`

use redis::Value;

use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::store::reply;
use crate::store::script::lua;
use crate::store::transitions::check_schedulers::IterationState;
use crate::store::transitions::next_iteration::PatternSlots;
use crate::store::transitions::upsert_scheduler::{optional, write_iteration};
use crate::store::{Call, Transition};
use crate::wire::Iteration;

static SCRIPT: Script = lua!(
    "rearm_scheduler",
    uses: ["events", "gate", "marker", "place", "job", "scheduler"]
);

/// Makes an iteration for a scheduler whose current one will not run.
pub(crate) struct RearmScheduler<'a> {
    pub(crate) scheduler: &'a str,
    /// The slot of the iteration, and what became of it, as they were found.
    pub(crate) slot: Timestamp,
    pub(crate) state: IterationState,
    pub(crate) now: Timestamp,
    /// Whether the iteration of that slot is made again, instead of a later one.
    pub(crate) same: bool,
    pub(crate) slots: PatternSlots,
    pub(crate) iteration: &'a Iteration,
}

impl Transition for RearmScheduler<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The second execution finds an iteration that will run.
    const SAFETY: Repeat = Repeat::Safe;
    /// The iteration; `None` when nothing was to be done.
    type Reply = Option<JobId>;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.scheduler)
            .arg(self.slot.as_millis())
            .arg(self.state.as_str())
            .arg(self.now.as_millis())
            .flag(self.same)
            .arg(optional(self.slots.latest))
            .arg(optional(self.slots.following));
        write_iteration(call, self.iteration);
    }

    fn read(&self, reply: Value) -> Result<Option<JobId>> {
        let ids = reply::texts(reply, "rearm_scheduler")?;
        Ok(ids.into_iter().next().map(JobId::existing))
    }
}
