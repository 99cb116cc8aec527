//! What the event stream reports about earlier calls: what a call whose answer was lost has done, and
//! whether an iteration has started. It is read page by page by the client, because a script that reads
//! so much would hold up the server.

use std::collections::{HashMap, HashSet};

use super::settle::Replay;
use super::stream::{RawEvent, event};
use super::{Enqueue, NewRecord, Store, UpsertScheduler, reply};
use crate::client::{CallError, Repeat};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{Added, JobId};
use crate::resp::{Command, Value};
use crate::wire::{EventId, StreamEvent};

/// How many entries one read returns.
const PAGE: usize = 500;
/// How many of the newest entries are searched for the start of an iteration.
const NEWEST: usize = 5_000;
/// How often a call is made whose reader had not kept up with the events.
const TRIES: usize = 50;

/// What became of the adds of an earlier call, by the events up to one of them.
#[derive(Debug)]
pub(crate) struct AddHistory {
    /// The event up to which the stream was read.
    pub(crate) read_to: EventId,
    /// The earlier add of each job that was asked for: the first event about it counts.
    pub(crate) adds: HashMap<String, PastAdd>,
}

/// What an event reports about an add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PastAdd {
    /// The job was added.
    Added,
    /// It replaced another job.
    Replaced {
        other: String,
        deduplication: String,
    },
    /// It was not added: another job owns the deduplication id.
    Deduplicated {
        owner: String,
        deduplication: String,
    },
}

impl AddHistory {
    /// Begins with the events of a time.
    fn since(since: Timestamp) -> Self {
        Self {
            read_to: before(since),
            adds: HashMap::new(),
        }
    }

    /// Records what an event reports about the jobs that were `asked` for.
    fn record(&mut self, event: &RawEvent, asked: impl Fn(&str) -> bool) {
        let mut record = |id: &str, add: PastAdd| {
            if asked(id) {
                self.adds.entry(id.to_owned()).or_insert(add);
            }
        };
        match StreamEvent::decode(&event.fields) {
            Some(StreamEvent::Added { job }) => {
                if let Some(id) = text(job) {
                    record(id, PastAdd::Added);
                }
            }
            Some(StreamEvent::Deduplicated {
                kept,
                dropped,
                deduplication_id,
            }) => {
                let (Some(kept), Some(dropped), Some(deduplication)) =
                    (text(kept), text(dropped), text(deduplication_id))
                else {
                    return;
                };
                let deduplication = deduplication.to_owned();
                let replaced = PastAdd::Replaced {
                    other: dropped.to_owned(),
                    deduplication: deduplication.clone(),
                };
                record(kept, replaced);
                let owner = kept.to_owned();
                record(
                    dropped,
                    PastAdd::Deduplicated {
                        owner,
                        deduplication,
                    },
                );
            }
            _ => {}
        }
    }
}

/// The place in the stream before the first event of a time.
fn before(time: Timestamp) -> EventId {
    let millis = u64::try_from(time.as_millis()).unwrap_or(0);
    EventId::new(millis.saturating_sub(1), u64::MAX)
}

/// Ids that we make are text; others are none of a call that is repeated.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Which iterations of schedulers have started, by the newest events.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    /// The event up to which was read; `None` before the first read.
    after: Option<EventId>,
    started: HashSet<String>,
}

impl Starts {
    /// Returns the event up to which was read.
    pub(crate) fn after(&self) -> Option<EventId> {
        self.after
    }

    /// Whether an event up to that one reports that the iteration has started.
    pub(crate) fn has(&self, iteration: &str) -> bool {
        self.started.contains(iteration)
    }

    /// Reads on: what is new, and at first the newest entries.
    pub(crate) async fn read(&mut self, store: &Store) -> Result<()> {
        if let Some(after) = &mut self.after {
            let started = &mut self.started;
            let take = |event: &RawEvent| started.extend(started_iteration(event));
            return Ok(store.read_on(after, take).await?);
        }
        let (mut left, mut end, mut newest) = (NEWEST, "+".to_owned(), EventId::START);
        while left > 0 {
            let page = store.events("XREVRANGE", &end, "-").await?;
            let Some(last) = page.last() else { break };
            end = format!("({}", last.id);
            newest = newest.max(page.first().map_or(newest, |first| first.id));
            self.started
                .extend(page.iter().filter_map(started_iteration));
            left = left.saturating_sub(page.len());
            if page.len() < PAGE {
                break;
            }
        }
        self.after = Some(newest);
        Ok(())
    }
}

fn started_iteration(event: &RawEvent) -> Option<String> {
    let Some(StreamEvent::Active { job }) = StreamEvent::decode(&event.fields) else {
        return None;
    };
    let id = text(job)?;
    id.starts_with("repeat:").then(|| id.to_owned())
}

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

impl Store {
    /// Reads the entries after one, to the end.
    async fn read_on(
        &self,
        after: &mut EventId,
        mut take: impl FnMut(&RawEvent),
    ) -> Result<(), CallError> {
        loop {
            let page = self.events("XRANGE", &format!("({after}"), "+").await?;
            page.iter().for_each(&mut take);
            if let Some(last) = page.last() {
                *after = last.id;
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    /// Reads a page of the stream.
    async fn events(
        &self,
        command: &str,
        from: &str,
        to: &str,
    ) -> Result<Vec<RawEvent>, CallError> {
        let read = Command::new(command)
            .arg(self.keys.key("events"))
            .arg(from)
            .arg(to)
            .arg("COUNT")
            .arg(PAGE);
        let page = self.connection.request(read, Repeat::Safe).await?;
        read_page(page, command).map_err(CallError::Answered)
    }
}

fn read_page(page: Value, command: &str) -> Result<Vec<RawEvent>> {
    reply::items(page, command)?
        .into_iter()
        .map(|entry| event(entry, command))
        .collect()
}

/// The events came faster than they could be read; the caller may ask again.
fn overtaken() -> CallError {
    CallError::NotExecuted(Error::Overloaded(
        "the queue's events came faster than they could be read".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EventFields;

    fn entry(fields: &[&str]) -> RawEvent {
        let pairs = fields.chunks(2).map(|pair| {
            let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
            (bytes(pair[0]), bytes(pair[1]))
        });
        RawEvent {
            id: EventId::new(7, 0),
            fields: EventFields::new(pairs.collect()),
        }
    }

    /// The first event about a job reports what its add did; later ones are about something else.
    #[test]
    fn first_event_of_a_job_counts() {
        let mut history = AddHistory::since(Timestamp::from_millis(7));
        assert_eq!(history.read_to, EventId::new(6, u64::MAX));
        let dedup = [
            "event",
            "deduplicated",
            "jobId",
            "a",
            "deduplicationId",
            "d",
            "deduplicatedJobId",
            "b",
        ];
        for fields in [
            &dedup[..],
            &["event", "added", "jobId", "a"],
            &["event", "added", "jobId", "c"],
        ] {
            history.record(&entry(fields), |id| id != "c");
        }
        let (other, owner, deduplication) = ("b".to_owned(), "a".to_owned(), "d".to_owned());
        let replaced = PastAdd::Replaced {
            other,
            deduplication: deduplication.clone(),
        };
        assert_eq!(history.adds.get("a"), Some(&replaced));
        assert_eq!(
            history.adds.get("b"),
            Some(&PastAdd::Deduplicated {
                owner,
                deduplication
            })
        );
        assert_eq!(history.adds.len(), 2);
    }
}
