//! `lua/enqueue.lua`

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::error::{Error, Refusal, Result};
use crate::job::{AddOutcome, Added, JobId};
use crate::resp::Value;
use crate::store::reply;
use crate::store::{AddHistory, Call, NewRecord, PastAdd, Transition};

static SCRIPT: Script = lua!(
    "enqueue",
    uses: ["events"],
    rarely: {
        rest: { ancestry: ["ancestors"] => [new_ascent, waits_for_itself] } [
            "codes", "gate", "marker", "place", "job", "parent", "insert", "dedup", "dedup_add", "replay",
            "adds",
        ] => [add_all, place_counted],
    },
);

/// Stores and queues jobs.
pub(crate) struct Enqueue<'a> {
    pub(crate) jobs: &'a [NewRecord],
    /// Where this very call may have been executed before: what the events report about that.
    pub(crate) history: Option<&'a AddHistory>,
}

impl Transition for Enqueue<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The caller decides: a job with an id of its own may be asked for again.
    const SAFETY: Repeat = Repeat::Once;
    /// What became of each job, now or by an earlier execution of the call, in order; `None` when more
    /// events are to be read first.
    type Reply = Option<Vec<Result<Added>>>;

    fn write(&self, call: &mut Call<'_>) {
        match self.history {
            Some(history) => call.arg(format!("{}:{}", self.jobs.len(), history.read_to)),
            None => call.arg(self.jobs.len()),
        };
        for job in self.jobs {
            job.write_usual(call);
        }
        for (id, add) in self.history.iter().flat_map(|history| &history.adds) {
            match add {
                PastAdd::Added => call.arg(id).arg("added").arg("").arg(""),
                PastAdd::Replaced {
                    other,
                    deduplication,
                } => call.arg(id).arg("replaced").arg(other).arg(deduplication),
                PastAdd::Deduplicated {
                    owner,
                    deduplication,
                } => call.arg(id).arg("owner").arg(owner).arg(deduplication),
            };
        }
    }

    fn read(&self, reply: Value) -> Result<Option<Vec<Result<Added>>>> {
        const WHAT: &str = "enqueue";
        if let ([job], Value::Int(number)) = (self.jobs, &reply) {
            let id = job.id.clone();
            return Ok(Some(vec![Ok(Added {
                id: id.unwrap_or_else(|| JobId::existing(number.to_string())),
                outcome: AddOutcome::Added,
            })]));
        }
        let parts = reply::items(reply, WHAT)?;
        if parts.is_empty() && self.history.is_some() {
            return Ok(None);
        }
        let mut parts = parts.into_iter();
        let mut jobs = Vec::with_capacity(self.jobs.len());
        while let (Some(code), Some(id)) = (parts.next(), parts.next()) {
            let mut other = || {
                let other = parts.next().ok_or_else(|| reply::unexpected(WHAT))?;
                reply::id(other, WHAT)
            };
            let outcome = match reply::int(&code, WHAT)? {
                0 => AddOutcome::Added,
                1 => AddOutcome::Duplicate,
                2 => AddOutcome::Deduplicated,
                3 => AddOutcome::Replaced { job: other()? },
                4 => AddOutcome::KeptLast { next: other()? },
                code => {
                    jobs.push(Err(Error::Refused {
                        job: reply::id(id, WHAT)?,
                        source: Refusal::from_code(code),
                    }));
                    continue;
                }
            };
            let id = reply::id(id, WHAT)?;
            jobs.push(Ok(Added { id, outcome }));
        }
        if jobs.len() == self.jobs.len() {
            Ok(Some(jobs))
        } else {
            Err(reply::unexpected(WHAT))
        }
    }
}
