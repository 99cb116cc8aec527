//! What the event stream tells, read page by page where a script would hold up the server: what an
//! earlier execution of a call did, and whether an iteration has started.

use std::collections::{HashMap, HashSet};

use redis::Value;

use super::settle::Again;
use super::stream::{RawEvent, event};
use super::{Enqueue, Enqueued, NewRecord, Store, UpsertScheduler, reply};
use crate::client::{CallError, Repeat};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::wire::EventId;

/// How many entries one read brings.
const PAGE: usize = 500;
/// How many of the newest entries are searched for the start of an iteration.
const NEWEST: usize = 5_000;
/// How often a call is made whose reader had not kept up with the events.
const TRIES: usize = 50;

/// What became of the adds of a call, by the events up to one of them.
#[derive(Debug)]
pub(crate) struct Told {
    /// The event up to which was read.
    pub(crate) after: EventId,
    /// What is told of the jobs that were asked for: the first event of each counts.
    pub(crate) stories: HashMap<String, Story>,
}

/// What an event tells of an add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Story {
    /// The job was added.
    Added,
    /// It took the place of another job.
    Replaced {
        other: String,
        deduplication: String,
    },
    /// It was not added: another job owns the deduplication id.
    Owned {
        owner: String,
        deduplication: String,
    },
}

impl Told {
    /// Begins with the events of a time.
    fn since(since: Timestamp) -> Self {
        let before = u64::try_from(since.as_millis())
            .unwrap_or(0)
            .saturating_sub(1);
        Self {
            after: EventId::new(before, u64::MAX),
            stories: HashMap::new(),
        }
    }

    fn take(&mut self, event: &RawEvent, asked: impl Fn(&str) -> bool) {
        let field = |name| event.fields.get(name);
        let mut tell = |id: &str, story: Story| {
            if asked(id) {
                self.stories.entry(id.to_owned()).or_insert(story);
            }
        };
        match (field("event"), field("jobId")) {
            (Some("added"), Some(id)) => tell(id, Story::Added),
            (Some("deduplicated"), Some(kept)) => {
                let (Some(dropped), Some(deduplication)) =
                    (field("deduplicatedJobId"), field("deduplicationId"))
                else {
                    return;
                };
                let deduplication = deduplication.to_owned();
                let replaced = Story::Replaced {
                    other: dropped.to_owned(),
                    deduplication: deduplication.clone(),
                };
                tell(kept, replaced);
                let owned = Story::Owned {
                    owner: kept.to_owned(),
                    deduplication,
                };
                tell(dropped, owned);
            }
            _ => {}
        }
    }
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

    /// Says whether an event up to that one tells that the iteration has started.
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
    let id = event.fields.get("jobId")?;
    (event.fields.get("event") == Some("active") && id.starts_with("repeat:"))
        .then(|| id.to_owned())
}

/// Adds that may have been executed before: all of the jobs have ids of their own.
pub(crate) struct EnqueueAgain<'a> {
    pub(crate) jobs: &'a [NewRecord],
    /// The time of the first try, earlier rather than later.
    pub(crate) since: Timestamp,
}

impl Again for EnqueueAgain<'_> {
    type Reply = Vec<Enqueued>;

    async fn ask(&mut self, store: &Store) -> Result<Vec<Enqueued>, CallError> {
        let jobs = self.jobs;
        let asked: HashSet<&str> = jobs
            .iter()
            .filter_map(|job| job.id.as_ref().map(JobId::as_str))
            .collect();
        let mut told = Told::since(self.since);
        for _ in 0..TRIES {
            let mut after = told.after;
            let take = |event: &RawEvent| told.take(event, |id| asked.contains(id));
            store.read_on(&mut after, take).await?;
            told.after = after;
            let call = Enqueue {
                jobs,
                told: Some(&told),
            };
            if let Some(outcomes) = store.attempt(&call).await? {
                return Ok(outcomes);
            }
        }
        Err(overtaken())
    }
}

/// An upsert that may have been executed before.
pub(crate) struct UpsertAgain<'a, 'b> {
    pub(crate) upsert: &'a mut UpsertScheduler<'b>,
    /// The time of the first try, earlier rather than later.
    pub(crate) since: Timestamp,
}

impl Again for UpsertAgain<'_, '_> {
    type Reply = (JobId, Timestamp);

    async fn ask(&mut self, store: &Store) -> Result<(JobId, Timestamp), CallError> {
        let prefix = format!("repeat:{}:", self.upsert.scheduler);
        let mut after = Told::since(self.since).after;
        let mut first: Option<i64> = None;
        for _ in 0..TRIES {
            let take = |event: &RawEvent| {
                if event.fields.get("event") == Some("added")
                    && let Some(id) = event.fields.get("jobId")
                    && let Some(slot) = id.strip_prefix(&prefix)
                    && let Ok(slot) = slot.parse()
                {
                    first = Some(first.map_or(slot, |first| first.min(slot)));
                }
            };
            store.read_on(&mut after, take).await?;
            self.upsert.told = Some((after, first.map(Timestamp::from_millis)));
            if let Some(made) = store.attempt(&*self.upsert).await? {
                return Ok(made);
            }
        }
        Err(overtaken())
    }
}

impl Store {
    /// Stores and queues jobs.
    pub(crate) async fn enqueue(&self, jobs: &[NewRecord]) -> Result<Vec<Enqueued>, CallError> {
        let outcomes = self.attempt(&Enqueue { jobs, told: None }).await?;
        outcomes.ok_or_else(|| odd("enqueue"))
    }

    /// Writes a scheduler's definition and makes its iteration; returns the iteration and its slot.
    pub(crate) async fn upsert_scheduler(
        &self,
        upsert: &UpsertScheduler<'_>,
    ) -> Result<(JobId, Timestamp), CallError> {
        let made = self.attempt(upsert).await?;
        made.ok_or_else(|| odd("upsert_scheduler"))
    }

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
        let mut cmd = redis::cmd(command);
        cmd.arg(self.keys.key("events"))
            .arg(from)
            .arg(to)
            .arg("COUNT")
            .arg(PAGE);
        let page = self.connection.request(&cmd, Repeat::Safe).await?;
        read_page(page, command).map_err(CallError::Answered)
    }
}

fn read_page(page: Value, command: &str) -> Result<Vec<RawEvent>> {
    reply::items(page, command)?
        .into_iter()
        .map(|entry| event(entry, command))
        .collect()
}

fn odd(script: &str) -> CallError {
    CallError::Answered(reply::unexpected(script))
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

    /// The first event about a job tells what its add did; later ones are of its later life.
    #[test]
    fn first_event_of_a_job_counts() {
        let mut told = Told::since(Timestamp::from_millis(7));
        assert_eq!(told.after, EventId::new(6, u64::MAX));
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
            told.take(&entry(fields), |id| id != "c");
        }
        let (other, owner, deduplication) = ("b".to_owned(), "a".to_owned(), "d".to_owned());
        let replaced = Story::Replaced {
            other,
            deduplication: deduplication.clone(),
        };
        assert_eq!(told.stories.get("a"), Some(&replaced));
        assert_eq!(
            told.stories.get("b"),
            Some(&Story::Owned {
                owner,
                deduplication
            })
        );
        assert_eq!(told.stories.len(), 2);
    }
}
