//! Adding a flow: its jobs and their children, over any number of queues.
//!
//! A small flow is one call of one script. A large one takes four steps, each of which is made again as
//! often as its answer is lost:
//!
//! 1. *check*: nothing changes; what cannot be added is refused;
//! 2. *store*: parents before their children. Parents go to `waiting-children`; jobs without children are held, so
//!    that no worker starts one, and no parent is released, before the whole flow is there;
//! 3. *join*: jobs that existed already join their parents, which are released if nothing keeps them waiting;
//! 4. *place*: the held jobs are queued.

use std::collections::{HashMap, HashSet, VecDeque};

use super::history::AddHistory;
use super::settle::{Replay, earliest_event};
use super::transitions::add_flow::{AddFlow, FlowEntry, FlowReply, FlowStep};
use super::{BATCH_BYTES, BATCH_JOBS, FlowRecord, Store, cut, replay, reply};
use crate::client::CallError;
use crate::clock::Timestamp;
use crate::error::{Error, Refusal, Result};
use crate::job::{AddOutcome, JobId};
use crate::policy::Placement;

/// How many jobs a flow may have that is added in one call, all or none: twice a step of a larger one.
const WHOLE_JOBS: usize = 200;

/// A flow to be added. Parents come before their children.
#[derive(Debug)]
pub(crate) struct Flow<'a> {
    /// The queues of its jobs; at least one.
    pub(crate) queues: &'a [Store],
    pub(crate) jobs: &'a [FlowRecord],
    pub(crate) now: Timestamp,
}

impl Flow<'_> {
    /// Adds all jobs, or none. Returns what became of each.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names the first job that cannot be added; connection errors;
    /// [`Error::Indeterminate`] when the outcome could not be settled; [`Error::Incomplete`] when a large flow was
    /// stored in part, or one of its jobs could not join its parent any more.
    pub(crate) async fn add(&self) -> Result<Vec<AddOutcome>> {
        let bytes: usize = self.jobs.iter().map(|record| record.job.size()).sum();
        if self.jobs.len() <= WHOLE_JOBS && bytes <= BATCH_BYTES {
            self.add_whole().await
        } else {
            self.add_in_steps().await
        }
    }

    async fn add_whole(&self) -> Result<Vec<AddOutcome>> {
        let mut call = self.call(FlowStep::Whole, self.jobs.iter().map(new).collect());
        call.release = parents_of(self.jobs.iter());
        match self.ask(call).await? {
            FlowReply::Refused(place, refusal) => Err(refused(self.jobs.get(place), refusal)),
            FlowReply::Done(outcomes) => outcomes
                .into_iter()
                .zip(self.jobs)
                .map(|(outcome, job)| outcome.map_err(|refusal| refused(Some(job), refusal)))
                .collect(),
            FlowReply::Behind => Err(reply::unexpected("add_flow")),
        }
    }

    async fn add_in_steps(&self) -> Result<Vec<AddOutcome>> {
        self.check().await?;
        let total = self.jobs.len();
        let mut outcomes = Vec::with_capacity(total);
        if let Err(error) = self.store(&mut outcomes).await {
            let stored = outcomes.len();
            return Err(match stored {
                0 => error,
                _ => error
                    .after(|| format!("{stored} of {total} jobs of the flow are stored and held")),
            });
        }
        match self.finish(&outcomes).await {
            Ok(None) => Ok(outcomes),
            Ok(Some(error)) => Err(error.after(|| "the flow was added".to_owned())),
            Err(error) => Err(error.after(|| "the flow is stored, but jobs are held".to_owned())),
        }
    }

    /// Joins existing jobs to their parents and places those that are held. Returns the first refusal.
    async fn finish(&self, outcomes: &[AddOutcome]) -> Result<Option<Error>> {
        let (stored, existing): (Vec<_>, Vec<_>) = self
            .jobs
            .iter()
            .zip(outcomes)
            .partition(|(_, outcome)| **outcome == AddOutcome::Added);
        let existing = || existing.iter().map(|(record, _)| *record);
        let held = stored
            .into_iter()
            .map(|(record, _)| FlowEntry { record, held: true })
            .filter(|entry| entry.record.job.placement != Placement::Children);
        let refused = self.place(existing().map(new)).await?;
        self.release(parents_of(existing())).await?;
        self.place(held).await?;
        Ok(refused)
    }

    async fn check(&self) -> Result<()> {
        for jobs in self.jobs.chunks(BATCH_JOBS) {
            let call = self.call(FlowStep::Check, jobs.iter().map(new).collect());
            if let FlowReply::Refused(place, refusal) = self.ask(call).await? {
                return Err(refused(jobs.get(place), refusal));
            }
        }
        Ok(())
    }

    /// Stores the jobs that do not exist. `outcomes` has those that are stored, also after an error.
    async fn store(&self, outcomes: &mut Vec<AddOutcome>) -> Result<()> {
        let mut waiting: VecDeque<_> = self.jobs.iter().collect();
        while !waiting.is_empty() {
            let jobs = cut(&mut waiting, |record| record.job.size());
            let call = self.call(FlowStep::Store, jobs.iter().copied().map(new).collect());
            for (outcome, &job) in done(self.ask_patiently(call).await?)?
                .into_iter()
                .zip(&jobs)
            {
                outcomes.push(outcome.map_err(|refusal| refused(Some(job), refusal))?);
            }
        }
        Ok(())
    }

    /// Queues held jobs and lets existing ones join their parents. Returns the first refusal.
    async fn place<'a>(
        &self,
        entries: impl Iterator<Item = FlowEntry<'a>>,
    ) -> Result<Option<Error>> {
        let mut first = None;
        let mut waiting: VecDeque<_> = entries.collect();
        while !waiting.is_empty() {
            let jobs = cut(&mut waiting, |entry| {
                if entry.held {
                    0
                } else {
                    entry.record.job.size()
                }
            });
            let call = self.call(FlowStep::Place, jobs.clone());
            for (outcome, entry) in done(self.ask_patiently(call).await?)?.into_iter().zip(jobs) {
                if let Err(refusal) = outcome {
                    first.get_or_insert(refused(Some(entry.record), refusal));
                }
            }
        }
        Ok(first)
    }

    async fn release(&self, children: Vec<&FlowRecord>) -> Result<()> {
        for children in children.chunks(BATCH_JOBS) {
            let mut call = self.call(FlowStep::Place, Vec::new());
            call.release = children.to_vec();
            self.ask_patiently(call).await?;
        }
        Ok(())
    }

    fn call<'a>(&'a self, step: FlowStep, jobs: Vec<FlowEntry<'a>>) -> AddFlow<'a> {
        AddFlow {
            step,
            again: false,
            now: self.now,
            queues: self.queues,
            jobs,
            release: Vec::new(),
            history: HashMap::new(),
        }
    }

    /// Makes a call before which nothing has changed; after a lost answer, until it is answered.
    async fn ask(&self, call: AddFlow<'_>) -> Result<FlowReply> {
        let queue = self.first()?;
        match queue.attempt(&call).await {
            Ok(reply) => Ok(reply),
            Err(CallError::Unknown(_)) => queue.settle(FlowReplay::new(call)).await,
            Err(error) => Err(error.into()),
        }
    }

    /// As above, in the middle of a flow: also while Redis is away or refuses writes.
    async fn ask_patiently(&self, call: AddFlow<'_>) -> Result<FlowReply> {
        let queue = self.first()?;
        match queue.attempt(&call).await {
            Ok(reply) => Ok(reply),
            Err(error) if error.may_pass() => queue.settle(FlowReplay::new(call)).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The queue whose base is the key of every call.
    fn first(&self) -> Result<&Store> {
        self.queues
            .first()
            .ok_or_else(|| Error::invalid("flow", "must have a queue"))
    }
}

/// Returns a child of each parent that the jobs name, in order.
fn parents_of<'a>(jobs: impl Iterator<Item = &'a FlowRecord>) -> Vec<&'a FlowRecord> {
    let mut seen = HashSet::new();
    jobs.filter(|record| {
        let parent = record.job.parent.as_ref();
        parent.is_some_and(|(key, _)| seen.insert(key.as_slice()))
    })
    .collect()
}

fn refused(job: Option<&FlowRecord>, source: Refusal) -> Error {
    let job = job.map_or_else(|| JobId::existing(""), |record| record.id.clone());
    Error::Refused { job, source }
}

/// A job that no step has stored.
fn new(record: &FlowRecord) -> FlowEntry<'_> {
    FlowEntry {
        record,
        held: false,
    }
}

fn done(reply: FlowReply) -> Result<Vec<Result<AddOutcome, Refusal>>> {
    match reply {
        FlowReply::Done(outcomes) => Ok(outcomes),
        FlowReply::Behind | FlowReply::Refused(..) => Err(reply::unexpected("add_flow")),
    }
}

/// A call that may have been executed before.
struct FlowReplay<'a> {
    call: AddFlow<'a>,
    /// The time of the first try, earlier rather than later.
    since: Timestamp,
}

impl<'a> FlowReplay<'a> {
    fn new(mut call: AddFlow<'a>) -> Self {
        call.again = true;
        let since = earliest_event(call.now);
        Self { call, since }
    }

    /// Reads what the events report about the jobs whose adds tell whether the call was executed.
    async fn read_history(&mut self) -> Result<(), CallError> {
        for queue in self.call.used_queues() {
            let Some(store) = self.call.queues.get(queue) else {
                continue;
            };
            let asked: HashSet<&str> = self
                .call
                .jobs
                .iter()
                .map(|entry| entry.record)
                .filter(|record| record.queue == queue && (record.root || record.unique))
                .map(|record| record.id.as_str())
                .collect();
            let since = self.since;
            let history = self.call.history.entry(queue);
            let history = history.or_insert_with(|| AddHistory::since(since));
            let mut read_to = history.read_to;
            store
                .read_on(&mut read_to, |event| {
                    history.record(event, |id| asked.contains(id));
                })
                .await?;
            history.read_to = read_to;
        }
        Ok(())
    }
}

impl Replay for FlowReplay<'_> {
    type Reply = FlowReply;

    async fn call(&mut self, store: &Store) -> Result<FlowReply, CallError> {
        if self.call.step != FlowStep::Whole {
            return store.attempt(&self.call).await;
        }
        for _ in 0..replay::TRIES {
            self.read_history().await?;
            match store.attempt(&self.call).await? {
                FlowReply::Behind => {}
                reply => return Ok(reply),
            }
        }
        Err(replay::overtaken())
    }
}
