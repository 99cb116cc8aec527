//! Calls whose answer was lost, made again in the form that recognises their earlier execution: the event
//! stream says what that did.

use std::collections::HashSet;

use super::history::{AddHistory, before, text};
use super::settle::Replay;
use super::stream::RawEvent;
use super::{Enqueue, NewRecord, Store, UpsertScheduler};
use crate::client::CallError;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{Added, JobId};
use crate::wire::StreamEvent;

/// How often a call is made while the events come faster than they are read.
pub(super) const TRIES: usize = 50;

/// Adds that may have been executed before: all of the jobs have ids of their own.
pub(crate) struct EnqueueReplay<'a> {
    pub(crate) jobs: &'a [NewRecord],
    /// The time of the first try, earlier rather than later.
    pub(crate) since: Timestamp,
}

impl Replay for EnqueueReplay<'_> {
    type Reply = Vec<Result<Added>>;

    async fn call(&mut self, store: &Store) -> Result<Vec<Result<Added>>, CallError> {
        let jobs = self.jobs;
        let asked: HashSet<&str> = jobs
            .iter()
            .filter_map(|job| job.id.as_ref().map(JobId::as_str))
            .collect();
        let mut history = AddHistory::since(self.since);
        for _ in 0..TRIES {
            let mut read_to = history.read_to;
            let record = |event: &RawEvent| history.record(event, |id| asked.contains(id));
            store.read_on(&mut read_to, record).await?;
            history.read_to = read_to;
            let call = Enqueue {
                jobs,
                history: Some(&history),
            };
            if let Some(outcomes) = store.attempt(&call).await? {
                return Ok(outcomes);
            }
        }
        Err(overtaken())
    }
}

/// An upsert that may have been executed before.
pub(crate) struct UpsertReplay<'a, 'b> {
    pub(crate) upsert: &'a mut UpsertScheduler<'b>,
    /// The time of the first try, earlier rather than later.
    pub(crate) since: Timestamp,
}

impl Replay for UpsertReplay<'_, '_> {
    type Reply = (JobId, Timestamp);

    async fn call(&mut self, store: &Store) -> Result<(JobId, Timestamp), CallError> {
        let prefix = format!("repeat:{}:", self.upsert.scheduler);
        let mut read_to = before(self.since);
        let mut first: Option<i64> = None;
        for _ in 0..TRIES {
            let record = |event: &RawEvent| {
                if let Some(StreamEvent::Added { job }) = StreamEvent::decode(&event.fields)
                    && let Some(occurrence) = text(job).and_then(|id| id.strip_prefix(&prefix))
                    && let Ok(occurrence) = occurrence.parse()
                {
                    first = Some(first.map_or(occurrence, |first| first.min(occurrence)));
                }
            };
            store.read_on(&mut read_to, record).await?;
            self.upsert.history = Some((read_to, first.map(Timestamp::from_millis)));
            if let Some(made) = store.attempt(&*self.upsert).await? {
                return Ok(made);
            }
        }
        Err(overtaken())
    }
}

/// The error for events that came faster than they could be read; the caller may repeat the call.
pub(super) fn overtaken() -> CallError {
    CallError::NotExecuted(Error::Overloaded(
        "the queue's events came faster than they could be read".into(),
    ))
}
