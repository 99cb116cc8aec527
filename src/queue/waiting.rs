//! Waiting for the ends of jobs: one reader of the queue's event stream for all who wait
//! (`docs/protocol.md#waiting-for-results`).
//!
//! Nobody misses an end: the reader's place in the stream is known before anybody is registered,
//! and whoever is registered has the job's stored state looked up once, together with the newest
//! event of that moment. A state that is an end is the answer; otherwise the events after that
//! moment are. Where events are missing, states are looked up again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result, SharedError};
use crate::job::JobId;
use crate::store::{EventReader, FindEnds, RawEvent, Store, StoredEnd, StreamStart};
use crate::wire::EventId;

/// How long the reader goes on after the last waiter has left.
const LINGER: Duration = Duration::from_secs(5);
/// How many jobs are looked up in one call.
const BATCH: usize = 100;

/// How a job ended, as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// With a result, as JSON text.
    Completed(String),
    /// For good, with this reason.
    Failed(String),
    /// Removed before it ended.
    Removed,
}

/// All hubs of a client, by the base of their queue's keys.
#[derive(Debug, Default)]
struct Hubs(Mutex<HashMap<String, Weak<Hub>>>);

/// Those who wait for jobs of one queue over one client.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// Told when there are states to look up.
    work: Notify,
    /// Whether the reader's place is known.
    placed: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    /// Whether the task runs.
    running: bool,
    /// What the reader has seen.
    position: EventId,
    waiters: HashMap<JobId, Vec<Waiter>>,
    /// How many waiters there are.
    count: usize,
    /// When the last one left.
    idle_since: Instant,
    next_key: u64,
    /// Whose states are to be looked up.
    unchecked: VecDeque<(JobId, u64)>,
    /// Whose jobs were missing when looked up.
    missing: Vec<(JobId, u64)>,
}

#[derive(Debug)]
struct Waiter {
    key: u64,
    stage: Stage,
    /// Whether the job was there when it was looked up.
    found: bool,
    done: oneshot::Sender<Result<End>>,
}

#[derive(Debug)]
enum Stage {
    /// The state is not known yet; the last end that the stream told meanwhile.
    Unchecked(Option<(EventId, End)>),
    /// The job had not ended at this event: a later one tells.
    Open(EventId),
    /// There was no such job at this event: one up to it tells, if any.
    Missing(EventId, Option<End>),
}

/// A place among those who wait; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Ticket {
    hub: Arc<Hub>,
    job: JobId,
    key: u64,
    done: oneshot::Receiver<Result<End>>,
}

impl Hub {
    /// Returns the hub that a client has for a queue.
    pub(super) fn of(client: &Client, store: &Store) -> Arc<Self> {
        let hubs = client.extension(Hubs::default);
        let mut hubs = hubs.0.lock().unwrap_or_else(PoisonError::into_inner);
        let base = store.keys().base();
        if let Some(hub) = hubs.get(base).and_then(Weak::upgrade) {
            return hub;
        }
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let hub = Arc::new(Self {
            state: Mutex::new(State {
                running: false,
                position: EventId::START,
                waiters: HashMap::new(),
                count: 0,
                idle_since: Instant::now(),
                next_key: 0,
                unchecked: VecDeque::new(),
                missing: Vec::new(),
            }),
            work: Notify::new(),
            placed: watch::Sender::new(false),
        });
        hubs.insert(base.to_owned(), Arc::downgrade(&hub));
        hub
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that no task runs, so that the next waiter starts one.
    fn stop(&self, state: &mut State) {
        state.running = false;
        self.placed.send_replace(false);
    }

    /// Registers a waiter and starts the reader if need be. Its job's state is looked up when
    /// [`Ticket::check`] asks for it.
    pub(super) fn register(
        self: &Arc<Self>,
        client: &Client,
        store: &Store,
        job: &JobId,
    ) -> Ticket {
        let (done, ended) = oneshot::channel();
        let mut state = self.state();
        let key = state.next_key;
        state.next_key += 1;
        state.count += 1;
        state.waiters.entry(job.clone()).or_default().push(Waiter {
            key,
            stage: Stage::Unchecked(None),
            found: false,
            done,
        });
        let start = !std::mem::replace(&mut state.running, true);
        drop(state);
        if start {
            // Made here: a runtime that is about to end may drop the task before it begins.
            let running = Running {
                hub: Arc::clone(self),
                ended: false,
            };
            client.spawn(run(running, client.clone(), store.clone()));
        }
        Ticket {
            hub: Arc::clone(self),
            job: job.clone(),
            key,
            done: ended,
        }
    }
}

impl Ticket {
    /// Waits until the reader's place is known: whatever the job does after that is seen. `None`
    /// when the reader vanished with its runtime.
    ///
    /// # Errors
    ///
    /// Why there is no reader.
    pub(super) async fn ready(&mut self) -> Option<Result<()>> {
        let mut placed = self.hub.placed.subscribe();
        tokio::select! {
            biased;
            ended = &mut self.done => ended.ok().map(|end| end.map(drop)),
            // The hub holds the sender.
            _ = placed.wait_for(|placed| *placed) => Some(Ok(())),
        }
    }

    /// Has the job's stored state looked up.
    pub(super) fn check(&self) {
        let entry = (self.job.clone(), self.key);
        self.hub.state().unchecked.push_back(entry);
        self.hub.work.notify_one();
    }

    /// Waits for the end; `None` when the reader vanished with its runtime.
    pub(super) async fn end(&mut self) -> Option<Result<End>> {
        (&mut self.done).await.ok()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Dropped outside the lock: what is in it may be large.
        let _waiter = self.hub.state().take(&self.job, self.key);
    }
}

impl State {
    fn waiter(&mut self, job: &JobId, key: u64) -> Option<&mut Waiter> {
        let waiters = self.waiters.get_mut(job)?;
        waiters.iter_mut().find(|waiter| waiter.key == key)
    }

    fn take(&mut self, job: &JobId, key: u64) -> Option<Waiter> {
        let waiters = self.waiters.get_mut(job)?;
        let at = waiters.iter().position(|waiter| waiter.key == key)?;
        let waiter = waiters.swap_remove(at);
        if waiters.is_empty() {
            self.waiters.remove(job);
        }
        self.count = self.count.saturating_sub(1);
        if self.count == 0 {
            self.idle_since = Instant::now();
        }
        Some(waiter)
    }

    /// Ends one wait; whoever has stopped waiting does not mind.
    fn finish(&mut self, job: &JobId, key: u64, end: Result<End>) {
        if let Some(waiter) = self.take(job, key) {
            waiter.done.send(end).ok();
        }
    }

    /// Ends all waits.
    fn fail(&mut self, error: Error) {
        let error = SharedError::new(error);
        for waiter in self.waiters.drain().flat_map(|(_, waiters)| waiters) {
            waiter.done.send(Err(error.copy())).ok();
        }
        self.reset();
    }

    /// Forgets all waiters, whose waits end by that.
    fn reset(&mut self) {
        self.waiters.clear();
        self.unchecked.clear();
        self.missing.clear();
        self.count = 0;
        self.idle_since = Instant::now();
    }

    /// Has the states of all jobs looked up again, after something that no event tells of.
    fn doubt(&mut self) {
        let Self {
            waiters, unchecked, ..
        } = self;
        for (job, waiters) in waiters {
            for waiter in waiters {
                match waiter.stage {
                    // Already under way, or not asked for yet.
                    Stage::Unchecked(_) => {}
                    Stage::Open(_) | Stage::Missing(..) => {
                        waiter.stage = Stage::Unchecked(None);
                        unchecked.push_back((job.clone(), waiter.key));
                    }
                }
            }
        }
    }

    /// Takes in what an event tells about a job.
    fn tell(&mut self, job: &JobId, at: EventId, end: &End) {
        let Some(waiters) = self.waiters.get_mut(job) else {
            return;
        };
        let mut ended = Vec::new();
        for waiter in waiters {
            match &mut waiter.stage {
                Stage::Unchecked(seen) => *seen = Some((at, end.clone())),
                Stage::Open(since) if at > *since => ended.push(waiter.key),
                Stage::Missing(until, seen) if at <= *until => *seen = Some(end.clone()),
                Stage::Open(_) | Stage::Missing(..) => {}
            }
        }
        for key in ended {
            self.finish(job, key, Ok(end.clone()));
        }
    }

    /// Takes in what is stored about a job, as of the event `now`.
    fn look(&mut self, job: &JobId, key: u64, now: EventId, stored: StoredEnd) {
        let Some(waiter) = self.waiter(job, key) else {
            return;
        };
        let Stage::Unchecked(seen) = &mut waiter.stage else {
            return;
        };
        let seen = seen.take();
        let end = match stored {
            StoredEnd::Completed(value) => Some(End::Completed(value)),
            StoredEnd::Failed(reason) => Some(End::Failed(reason)),
            StoredEnd::Open => {
                waiter.found = true;
                waiter.stage = Stage::Open(now);
                // Older ends are undone: the job was run again.
                seen.filter(|(at, _)| *at > now).map(|(_, end)| end)
            }
            StoredEnd::Missing => {
                waiter.stage = Stage::Missing(now, seen.map(|(_, end)| end));
                self.missing.push((job.clone(), key));
                None
            }
        };
        if let Some(end) = end {
            self.finish(job, key, Ok(end));
        }
    }

    /// Ends the waits for missing jobs, once the reader has seen all that may tell why.
    fn settle_missing(&mut self) {
        let position = self.position;
        let mut left = std::mem::take(&mut self.missing);
        left.retain(|(job, key)| {
            let Some(waiter) = self.waiter(job, *key) else {
                return false;
            };
            let found = waiter.found;
            let seen = match &mut waiter.stage {
                Stage::Missing(until, _) if *until > position => return true,
                Stage::Missing(_, seen) => seen.take(),
                // Looked up anew.
                Stage::Unchecked(_) | Stage::Open(_) => return false,
            };
            let end = match seen {
                Some(end) => Ok(end),
                None if found => Ok(End::Removed),
                None => Err(Error::JobMissing(job.clone())),
            };
            self.finish(job, *key, end);
            false
        });
        // `finish` adds none.
        self.missing = left;
    }
}

/// Marks the task as ended however it ends; those who still wait start another.
struct Running {
    hub: Arc<Hub>,
    /// Whether it ended in order, and has said so: another may run already.
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.hub.state();
            self.hub.stop(&mut state);
            state.reset();
        }
    }
}

async fn run(mut running: Running, client: Client, store: Store) {
    let hub = Arc::clone(&running.hub);
    let closing = client.closing();
    let error = tokio::select! {
        biased;
        () = closing.cancelled() => Error::Closed,
        error = follow(&hub, &client, &store) => match error {
            Ok(()) => {
                running.ended = true;
                return;
            }
            Err(error) => error,
        },
    };
    hub.state().fail(error);
}

/// Reads events and looks up states until nobody has waited for a while.
async fn follow(hub: &Hub, client: &Client, store: &Store) -> Result<()> {
    let mut retry = store.connection().retry();
    let mut reader = loop {
        match EventReader::open(client, store, StreamStart::Now).await {
            Ok(reader) => break reader,
            Err(error) if error.is_transient() && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    };
    hub.state().position = reader.position();
    hub.placed.send_replace(true);
    tokio::select! {
        read = read(hub, &mut reader) => read,
        error = look_up(hub, store) => Err(error),
    }
}

async fn read(hub: &Hub, reader: &mut EventReader) -> Result<()> {
    loop {
        let batch = reader.read().await?;
        let mut state = hub.state();
        if batch.hole.is_some() {
            state.doubt();
        }
        for event in &batch.events {
            take_in(&mut state, event);
        }
        state.position = reader.position();
        state.settle_missing();
        let work = !state.unchecked.is_empty();
        if state.count == 0 && state.idle_since.elapsed() >= LINGER {
            hub.stop(&mut state);
            return Ok(());
        }
        drop(state);
        if work {
            hub.work.notify_one();
        }
    }
}

fn take_in(state: &mut State, event: &RawEvent) {
    if state.waiters.is_empty() {
        return;
    }
    let fields = &event.fields;
    let end = match fields.get("event") {
        Some("completed") => "returnvalue",
        Some("failed") => "failedReason",
        Some("removed") => "",
        // It does not say which jobs.
        Some("cleaned") => return state.doubt(),
        _ => return,
    };
    let Some(job) = fields.bytes("jobId").map(JobId::from_bytes) else {
        return;
    };
    if !state.waiters.contains_key(&job) {
        return;
    }
    let text = || String::from_utf8_lossy(fields.bytes(end).unwrap_or_default()).into_owned();
    let end = match end {
        "returnvalue" => End::Completed(text()),
        "failedReason" => End::Failed(text()),
        _ => End::Removed,
    };
    state.tell(&job, event.id, &end);
}

/// Looks up what is asked for, as many jobs a call as there are. Ends with what waiting does not
/// mend.
async fn look_up(hub: &Hub, store: &Store) -> Error {
    let mut retry = store.connection().retry();
    loop {
        let batch: Vec<(JobId, u64)> = {
            let mut state = hub.state();
            let many = state.unchecked.len().min(BATCH);
            state.unchecked.drain(..many).collect()
        };
        if batch.is_empty() {
            hub.work.notified().await;
            continue;
        }
        let jobs = batch.iter().map(|(job, _)| job).collect();
        match store.run(&FindEnds { jobs }).await {
            Ok((now, ends)) => {
                retry.reset();
                let mut state = hub.state();
                for ((job, key), end) in batch.iter().zip(ends) {
                    state.look(job, *key, now, end);
                }
                state.settle_missing();
            }
            Err(error) if error.is_transient() => {
                hub.state().unchecked.extend(batch);
                if !retry.pause().await {
                    return error;
                }
            }
            Err(error) => return error,
        }
    }
}
