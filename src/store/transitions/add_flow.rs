//! `lua/add_flow.lua`

use std::collections::HashMap;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Refusal, Result};
use crate::job::{AddOutcome, JobId};
use crate::resp::Value;
use crate::store::reply;
use crate::store::{AddHistory, Call, NewRecord, PastAdd, Store, Transition};

static SCRIPT: Script = lua!(
    "add_flow",
    uses: [
        "codes", "events", "gate", "marker", "place", "job", "parent", "insert", "replay"
    ],
    rarely: { ancestry: ["ancestors"] => [new_ascent, waits_for_itself] },
);

/// A job of a flow as it is sent to be stored.
#[derive(Debug)]
pub(crate) struct FlowRecord {
    /// Its queue, by its place among those of the flow.
    pub(crate) queue: usize,
    /// Its id.
    pub(crate) id: JobId,
    /// Whether no other job of the flow is its parent.
    pub(crate) root: bool,
    /// Whether its id was made for this flow.
    pub(crate) unique: bool,
    /// The id of its parent, whose key and link the record has.
    pub(crate) parent: Option<JobId>,
    /// What is stored; with the id in any case.
    pub(crate) job: NewRecord,
}

impl FlowRecord {
    /// Returns the base and the id of the parent.
    fn parent(&self) -> Option<(&[u8], &JobId)> {
        let id = self.parent.as_ref()?;
        let (key, _) = self.job.parent.as_ref()?;
        Some((key.strip_suffix(id.as_bytes())?, id))
    }
}

/// How far a call goes; see the script's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlowStep {
    Whole,
    Check,
    Store,
    Place,
}

/// A job in a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlowEntry<'a> {
    pub(crate) record: &'a FlowRecord,
    /// Whether a step before this one has stored it and holds it.
    pub(crate) held: bool,
}

/// Adds jobs of a flow, in one step of several or all at once.
#[derive(Debug)]
pub(crate) struct AddFlow<'a> {
    pub(crate) step: FlowStep,
    /// Whether this very call may have been executed before.
    pub(crate) again: bool,
    pub(crate) now: Timestamp,
    /// The queues of the flow.
    pub(crate) queues: &'a [Store],
    pub(crate) jobs: Vec<FlowEntry<'a>>,
    /// Jobs whose parents are released if nothing keeps them waiting.
    pub(crate) release: Vec<&'a FlowRecord>,
    /// What the events of each queue report about an earlier execution of the whole.
    pub(crate) history: HashMap<usize, AddHistory>,
}

/// What became of the jobs of a call.
#[derive(Debug)]
pub(crate) enum FlowReply {
    /// More events are to be read first; nothing has changed.
    Behind,
    /// A job, by its place in the call, was refused and nothing was changed.
    Refused(usize, Refusal),
    /// What became of each; of none for a check.
    Done(Vec<Result<AddOutcome, Refusal>>),
}

impl AddFlow<'_> {
    /// Returns the queues of the jobs, in the order in which they first come.
    pub(crate) fn used_queues(&self) -> Vec<usize> {
        let mut used = Vec::new();
        let mut seen = vec![false; self.queues.len()];
        for entry in &self.jobs {
            if let Some(seen) = seen.get_mut(entry.record.queue)
                && !std::mem::replace(seen, true)
            {
                used.push(entry.record.queue);
            }
        }
        used
    }
}

impl Transition for AddFlow<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // The caller says so when it asks again.
    const SAFETY: Repeat = Repeat::Once;
    type Reply = FlowReply;

    fn write(&self, call: &mut Call<'_>) {
        let step = match self.step {
            FlowStep::Whole => "whole",
            FlowStep::Check => "check",
            FlowStep::Store => "store",
            FlowStep::Place => "place",
        };
        let used = self.used_queues();
        call.arg(step)
            .flag(self.again)
            .arg(self.now.as_millis())
            .arg(used.len());
        let mut numbers = vec![0_usize; self.queues.len()];
        for (number, &queue) in used.iter().enumerate() {
            let base = self.queues.get(queue).map(|queue| queue.keys().base());
            let history = self.history.get(&queue);
            call.optional(base)
                .optional(history.map(|history| history.read_to.to_string()));
            if let Some(place) = numbers.get_mut(queue) {
                *place = number + 1;
            }
        }
        call.arg(self.jobs.len());
        for entry in &self.jobs {
            let record = entry.record;
            let marks = [
                (record.root, "root"),
                (record.unique, "unique"),
                (entry.held, "held"),
            ];
            let marks: Vec<_> = marks
                .iter()
                .filter(|mark| mark.0)
                .map(|mark| mark.1)
                .collect();
            call.arg(numbers.get(record.queue).copied().unwrap_or_default())
                .arg(marks.join(" "));
            let stores = self.step != FlowStep::Check && !entry.held;
            record.job.write(call, stores);
        }
        let parents: Vec<_> = self
            .release
            .iter()
            .filter_map(|record| record.parent())
            .collect();
        call.arg(parents.len());
        for (base, id) in parents {
            call.arg(base).arg(id.as_bytes());
        }
        for (&queue, history) in &self.history {
            let Some(store) = self.queues.get(queue) else {
                continue;
            };
            for (id, add) in &history.adds {
                if *add == PastAdd::Added {
                    call.arg(store.keys().key(id));
                }
            }
        }
    }

    fn read(&self, reply: Value) -> Result<FlowReply> {
        const WHAT: &str = "add_flow";
        let codes = reply::items(reply, WHAT)?
            .iter()
            .map(|code| reply::int(code, WHAT))
            .collect::<Result<Vec<_>>>()?;
        let at_once = matches!(self.step, FlowStep::Whole | FlowStep::Check);
        match *codes {
            [] if self.step == FlowStep::Whole && self.again => return Ok(FlowReply::Behind),
            [] if self.step == FlowStep::Check => return Ok(FlowReply::Done(Vec::new())),
            [code, job] if at_once && code < 0 => {
                let place = usize::try_from(job - 1).map_err(|_| reply::unexpected(WHAT))?;
                return Ok(FlowReply::Refused(place, Refusal::from_code(code)));
            }
            _ => {}
        }
        if codes.len() != self.jobs.len() {
            return Err(reply::unexpected(WHAT));
        }
        let outcomes = codes.into_iter().map(|code| match code {
            0 => Ok(AddOutcome::Added),
            1 => Ok(AddOutcome::Duplicate),
            code => Err(Refusal::from_code(code)),
        });
        Ok(FlowReply::Done(outcomes.collect()))
    }
}
