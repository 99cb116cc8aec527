//! `lua/enqueue_one.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::Result;
use crate::job::{AddOutcome, Added, JobId};
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, NewRecord, Transition};

static SCRIPT: Script = lua!(
    "enqueue_one",
    uses: ["events"],
    rarely: {
        places: ["marker", "place"] => [announce_due, place_delayed, place_prioritized],
    },
);

/// Stores and queues one job that [is plain](NewRecord::is_plain).
pub(crate) struct EnqueueOne<'a> {
    pub(crate) job: &'a NewRecord,
}

impl Transition for EnqueueOne<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // As for `Enqueue`, which is what asks again.
    const SAFETY: Repeat = Repeat::Once;
    type Reply = Added;

    fn write(&self, call: &mut Call<'_>) {
        self.job.write_plain(call, true);
    }

    fn read(&self, reply: Value) -> Result<Added> {
        const WHAT: &str = "enqueue_one";
        let number = reply::int(&reply, WHAT)?;
        let (id, outcome) = match &self.job.id {
            None => (JobId::existing(number.to_string()), AddOutcome::Added),
            Some(id) if number == 0 => (id.clone(), AddOutcome::Added),
            Some(id) => (id.clone(), AddOutcome::Duplicate),
        };
        Ok(Added { id, outcome })
    }
}
