//! The waiters for ends of jobs, and what is known about each job so far. No I/O: the watcher passes
//! in events and stored states.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::{Error, Result, SharedError};
use crate::job::{JobId, JobOutcome};
use crate::store::StoredEnd;
use crate::wire::EventId;

/// How a job ended, with its result as JSON text; `None`: it was removed before.
pub(super) type End = Option<JobOutcome<String>>;

/// What a waiter gets.
pub(super) type Answer = Result<JobOutcome<String>>;

/// A waiter: its job, and its number among all waiters.
pub(super) type WaiterKey = (JobId, u64);

/// All waiters of one queue.
#[derive(Debug)]
pub(super) struct Waiters {
    by_job: HashMap<JobId, Vec<Waiter>>,
    count: usize,
    next_number: u64,
    /// When the last one left.
    idle_since: Instant,
    /// Up to which event the stream has been read.
    position: EventId,
    /// Whose jobs are to be looked up.
    unchecked: VecDeque<WaiterKey>,
    /// Whose jobs did not exist when they were looked up.
    missing: Vec<WaiterKey>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    knowledge: Knowledge,
    /// Whether the job existed when it was looked up.
    found: bool,
    done: oneshot::Sender<Answer>,
}

/// What is known about a waiter's job.
#[derive(Debug)]
enum Knowledge {
    /// Its state has not been looked up; the last end that an event reported meanwhile.
    Unchecked(Option<(EventId, End)>),
    /// It had not ended as of this event: only later events count.
    Open(EventId),
    /// It did not exist as of this event: an event up to it may say why.
    Missing(EventId, Option<End>),
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self {
            by_job: HashMap::new(),
            count: 0,
            next_number: 0,
            idle_since: Instant::now(),
            position: EventId::START,
            unchecked: VecDeque::new(),
            missing: Vec::new(),
        }
    }

    /// Registers a waiter. Its job is looked up once [`request_check`](Self::request_check) asks for it.
    pub(super) fn add(&mut self, job: &JobId) -> (u64, oneshot::Receiver<Answer>) {
        let (done, ended) = oneshot::channel();
        let number = self.next_number;
        self.next_number += 1;
        self.count += 1;
        self.by_job.entry(job.clone()).or_default().push(Waiter {
            number,
            knowledge: Knowledge::Unchecked(None),
            found: false,
            done,
        });
        (number, ended)
    }

    /// Unregisters a waiter. What is returned may be large: drop it outside of a lock.
    pub(super) fn remove(&mut self, job: &JobId, number: u64) -> Option<Waiter> {
        self.take(job, number)
    }

    /// Has the job of a waiter looked up.
    pub(super) fn request_check(&mut self, key: WaiterKey) {
        self.unchecked.push_back(key);
    }

    /// Has these looked up again, after a look-up that failed.
    pub(super) fn request_checks(&mut self, keys: Vec<WaiterKey>) {
        self.unchecked.extend(keys);
    }

    /// Takes up to `many` waiters whose jobs are to be looked up.
    pub(super) fn take_unchecked(&mut self, many: usize) -> Vec<WaiterKey> {
        let many = self.unchecked.len().min(many);
        self.unchecked.drain(..many).collect()
    }

    pub(super) fn has_unchecked(&self) -> bool {
        !self.unchecked.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// When the last waiter left; `None` while there is one.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.count == 0).then_some(self.idle_since)
    }

    pub(super) fn waits_for(&self, job: &JobId) -> bool {
        self.by_job.contains_key(job)
    }

    /// Records up to which event the stream has been read, and ends the waits that this decides.
    pub(super) fn advance_to(&mut self, position: EventId) {
        self.position = position;
        self.resolve_missing();
    }

    /// Has all jobs looked up again, after something that no event reports.
    pub(super) fn recheck_all(&mut self) {
        let Self {
            by_job, unchecked, ..
        } = self;
        for (job, waiters) in by_job {
            for waiter in waiters {
                match waiter.knowledge {
                    // Already requested, or not to be requested yet.
                    Knowledge::Unchecked(_) => {}
                    Knowledge::Open(_) | Knowledge::Missing(..) => {
                        waiter.knowledge = Knowledge::Unchecked(None);
                        unchecked.push_back((job.clone(), waiter.number));
                    }
                }
            }
        }
    }

    /// Records the end of a job that an event reports.
    pub(super) fn record_event(&mut self, job: &JobId, at: EventId, end: &End) {
        let Some(waiters) = self.by_job.get_mut(job) else {
            return;
        };
        let mut ended = Vec::new();
        for waiter in waiters {
            match &mut waiter.knowledge {
                Knowledge::Unchecked(seen) => *seen = Some((at, end.clone())),
                Knowledge::Open(since) if at > *since => ended.push(waiter.number),
                Knowledge::Missing(until, seen) if at <= *until => *seen = Some(end.clone()),
                Knowledge::Open(_) | Knowledge::Missing(..) => {}
            }
        }
        for number in ended {
            self.finish(job, number, Ok(end.clone()));
        }
    }

    /// Records what was stored about jobs when `newest` was the newest event.
    pub(super) fn record_states(
        &mut self,
        newest: EventId,
        states: impl IntoIterator<Item = (WaiterKey, StoredEnd)>,
    ) {
        for ((job, number), stored) in states {
            self.record_state(&job, number, newest, stored);
        }
        self.resolve_missing();
    }

    fn record_state(&mut self, job: &JobId, number: u64, newest: EventId, stored: StoredEnd) {
        let Some(waiter) = self.waiter(job, number) else {
            return;
        };
        let Knowledge::Unchecked(seen) = &mut waiter.knowledge else {
            return;
        };
        let seen = seen.take();
        let end = match stored {
            StoredEnd::Ended(end) => Some(Some(end)),
            StoredEnd::Open => {
                waiter.found = true;
                waiter.knowledge = Knowledge::Open(newest);
                // An older end no longer holds: the job was run again.
                seen.filter(|(at, _)| *at > newest).map(|(_, end)| end)
            }
            StoredEnd::Missing => {
                waiter.knowledge = Knowledge::Missing(newest, seen.map(|(_, end)| end));
                self.missing.push((job.clone(), number));
                None
            }
        };
        if let Some(end) = end {
            self.finish(job, number, Ok(end));
        }
    }

    /// Ends the waits for missing jobs, once all events that may say why have been read.
    fn resolve_missing(&mut self) {
        let position = self.position;
        let mut left = std::mem::take(&mut self.missing);
        left.retain(|(job, number)| {
            let Some(waiter) = self.waiter(job, *number) else {
                return false;
            };
            let found = waiter.found;
            let seen = match &mut waiter.knowledge {
                Knowledge::Missing(until, _) if *until > position => return true,
                Knowledge::Missing(_, seen) => seen.take(),
                // Being looked up again.
                Knowledge::Unchecked(_) | Knowledge::Open(_) => return false,
            };
            let end = match seen {
                Some(end) => Ok(end),
                None if found => Ok(None),
                None => Err(Error::JobMissing(job.clone())),
            };
            self.finish(job, *number, end);
            false
        });
        // `finish` adds none.
        self.missing = left;
    }

    /// Ends all waits with an error.
    pub(super) fn fail_all(&mut self, error: Error) {
        let error = SharedError::new(error);
        for waiter in self.by_job.drain().flat_map(|(_, waiters)| waiters) {
            waiter.done.send(Err(error.copy())).ok();
        }
        self.clear();
    }

    /// Drops all waiters; their waits end without an answer.
    pub(super) fn clear(&mut self) {
        self.by_job.clear();
        self.unchecked.clear();
        self.missing.clear();
        self.count = 0;
        self.idle_since = Instant::now();
    }

    fn waiter(&mut self, job: &JobId, number: u64) -> Option<&mut Waiter> {
        let waiters = self.by_job.get_mut(job)?;
        waiters.iter_mut().find(|waiter| waiter.number == number)
    }

    fn take(&mut self, job: &JobId, number: u64) -> Option<Waiter> {
        let waiters = self.by_job.get_mut(job)?;
        let at = waiters.iter().position(|waiter| waiter.number == number)?;
        let waiter = waiters.swap_remove(at);
        if waiters.is_empty() {
            self.by_job.remove(job);
        }
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.idle_since = Instant::now();
        }
        Some(waiter)
    }

    /// Ends one wait. The waiter may have stopped waiting.
    fn finish(&mut self, job: &JobId, number: u64, end: Result<End>) {
        if let Some(waiter) = self.take(job, number) {
            let answer = end.and_then(|end| end.ok_or_else(|| Error::JobRemoved(job.clone())));
            waiter.done.send(answer).ok();
        }
    }
}

#[cfg(test)]
mod tests;
