//! `lua/next_repeatable.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobId;
use crate::resp::Value;
use crate::store::reply;
use crate::store::transitions::next_iteration::NextOutcome;
use crate::store::transitions::upsert_scheduler::write_iteration;
use crate::store::{Call, Transition};
use crate::wire::Iteration;

static SCRIPT: Script = lua!(
    "next_repeatable",
    uses: ["events", "gate", "marker", "place", "scheduler"]
);

/// The next job of a repeatable job.
pub(crate) struct NextJob {
    pub(crate) id: JobId,
    pub(crate) occurrence: Timestamp,
    pub(crate) due: Timestamp,
    pub(crate) iteration: Iteration,
}

/// Makes the job that follows one just activated of a repeatable job of BullMQ 4.
pub(crate) struct NextRepeatable<'a> {
    pub(crate) key: &'a str,
    pub(crate) activated: &'a JobId,
    /// The occurrence of the activated job.
    pub(crate) occurrence: Timestamp,
    pub(crate) now: Timestamp,
    /// The job; `None` where the schedule is over or unreadable.
    pub(crate) next: Option<&'a NextJob>,
}

impl Transition for NextRepeatable<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The second execution finds a later occurrence.
    const SAFETY: Repeat = Repeat::Safe;
    type Reply = NextOutcome;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.key)
            .arg(self.activated.as_bytes())
            .arg(self.occurrence.as_millis())
            .arg(self.now.as_millis());
        if let Some(next) = self.next {
            call.arg(next.id.as_bytes())
                .arg(next.occurrence.as_millis())
                .arg(next.due.as_millis());
            write_iteration(call, &next.iteration);
        } else {
            call.arg("").arg(0).arg(0);
            call.arg("").arg(0).flag(false).arg("");
        }
    }

    fn read(&self, reply: Value) -> Result<NextOutcome> {
        const WHAT: &str = "next_repeatable";
        let parts = reply::ids(reply, WHAT)?;
        let [outcome, id] = parts.as_slice() else {
            return Err(reply::unexpected(WHAT));
        };
        NextOutcome::read(outcome, id).ok_or_else(|| reply::unexpected(WHAT))
    }
}
