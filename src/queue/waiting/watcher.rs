//! One reader of a queue's event stream for all who wait for its jobs (`docs/protocol.md#waiting-for-results`).
//!
//! No end is missed: the reader's position in the stream is known before a waiter's job is looked up,
//! and the look-up also returns the newest event of that moment. A stored end is the answer; otherwise
//! the events after that moment are. Where events are missing, jobs are looked up again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};

use super::waiters::{Answer, End, WaiterKey, Waiters};
use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{JobId, JobOutcome};
use crate::store::{EventReader, FindEnds, RawEvent, Store, StreamStart};
use crate::wire::StreamEvent;

/// How long the reader goes on after the last waiter has left.
const LINGER: Duration = Duration::from_secs(5);
/// How many jobs are looked up in one call.
const BATCH: usize = 100;

/// All watchers of a client, by the base of their queue's keys.
#[derive(Debug, Default)]
struct Watchers(Mutex<HashMap<String, Weak<Watcher>>>);

/// Watches the jobs of one queue over one client, for as long as there are waiters.
#[derive(Debug)]
pub(in crate::queue) struct Watcher {
    state: Mutex<State>,
    /// Notified when there are jobs to look up.
    work: Notify,
    /// Whether the reader's place in the stream is known.
    placed: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    /// Whether the task runs.
    running: bool,
    waiters: Waiters,
}

/// The registration of one waiter; dropping it ends the wait.
#[derive(Debug)]
pub(super) struct Subscription {
    watcher: Arc<Watcher>,
    key: WaiterKey,
    done: oneshot::Receiver<Answer>,
}

impl Watcher {
    /// Returns the watcher that a client has for a queue.
    pub(in crate::queue) fn of(client: &Client, store: &Store) -> Arc<Self> {
        let watchers = client.extension(Watchers::default);
        let mut watchers = watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let base = store.keys().base();
        if let Some(watcher) = watchers.get(base).and_then(Weak::upgrade) {
            return watcher;
        }
        watchers.retain(|_, watcher| watcher.strong_count() > 0);
        let watcher = Arc::new(Self {
            state: Mutex::new(State {
                running: false,
                waiters: Waiters::new(),
            }),
            work: Notify::new(),
            placed: watch::Sender::new(false),
        });
        watchers.insert(base.to_owned(), Arc::downgrade(&watcher));
        watcher
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that no task runs, so that the next waiter starts one.
    fn stop(&self, state: &mut State) {
        state.running = false;
        self.placed.send_replace(false);
    }

    /// Registers a waiter and starts the reader if need be. Its job is looked up once
    /// [`Subscription::check`] asks for it.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        client: &Client,
        store: &Store,
        job: &JobId,
    ) -> Subscription {
        let mut state = self.state();
        let (number, done) = state.waiters.add(job);
        let start = !std::mem::replace(&mut state.running, true);
        drop(state);
        if start {
            // Created here: a runtime that is about to end may drop the task before it begins.
            let running = Running {
                watcher: Arc::clone(self),
                ended: false,
            };
            client.spawn(run(running, client.clone(), store.clone()));
        }
        Subscription {
            watcher: Arc::clone(self),
            key: (job.clone(), number),
            done,
        }
    }
}

impl Subscription {
    /// Waits until the reader's place is known: whatever the job does after that is seen. `None`
    /// when the reader vanished with its runtime.
    ///
    /// # Errors
    ///
    /// Why the reader could not be started.
    pub(super) async fn ready(&mut self) -> Option<Result<()>> {
        let mut placed = self.watcher.placed.subscribe();
        tokio::select! {
            biased;
            ended = &mut self.done => ended.ok().map(|end| end.map(drop)),
            // The watcher holds the sender.
            _ = placed.wait_for(|placed| *placed) => Some(Ok(())),
        }
    }

    /// Has the job's stored state looked up.
    pub(super) fn check(&self) {
        self.watcher.state().waiters.request_check(self.key.clone());
        self.watcher.work.notify_one();
    }

    /// Waits for the end; `None` when the reader vanished with its runtime.
    pub(super) async fn end(&mut self) -> Option<Answer> {
        (&mut self.done).await.ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let (job, number) = &self.key;
        // Dropped outside of the lock: an answer that was not taken may be large.
        let _waiter = self.watcher.state().waiters.remove(job, *number);
    }
}

/// Marks the task as ended however it ends; those who still wait start another.
struct Running {
    watcher: Arc<Watcher>,
    /// Whether it ended in order and reported that: another may run already.
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let mut state = self.watcher.state();
            self.watcher.stop(&mut state);
            state.waiters.clear();
        }
    }
}

async fn run(mut running: Running, client: Client, store: Store) {
    let watcher = Arc::clone(&running.watcher);
    let closing = client.closing();
    let error = tokio::select! {
        biased;
        () = closing.cancelled() => Error::Closed,
        error = watch(&watcher, &client, &store) => match error {
            Ok(()) => {
                running.ended = true;
                return;
            }
            Err(error) => error,
        },
    };
    watcher.state().waiters.fail_all(error);
}

/// Reads events and looks up jobs until there has been no waiter for a while.
async fn watch(watcher: &Watcher, client: &Client, store: &Store) -> Result<()> {
    let mut retry = store.connection().retry();
    let mut reader = loop {
        match EventReader::open(client, store, StreamStart::Now).await {
            Ok(reader) => break reader,
            Err(error) if error.is_transient() && retry.pause().await => {}
            Err(error) => return Err(error),
        }
    };
    watcher.state().waiters.advance_to(reader.position());
    watcher.placed.send_replace(true);
    tokio::select! {
        read = read_events(watcher, &mut reader) => read,
        error = look_up(watcher, store) => Err(error),
    }
}

async fn read_events(watcher: &Watcher, reader: &mut EventReader) -> Result<()> {
    loop {
        let batch = reader.read().await?;
        let mut state = watcher.state();
        let waiters = &mut state.waiters;
        if batch.gap.is_some() {
            waiters.recheck_all();
        }
        for event in &batch.events {
            record(waiters, event);
        }
        waiters.advance_to(reader.position());
        let work = waiters.has_unchecked();
        let idle = waiters.idle_since().map(|since| since.elapsed());
        if idle.is_some_and(|idle| idle >= LINGER) {
            watcher.stop(&mut state);
            return Ok(());
        }
        drop(state);
        if work {
            watcher.work.notify_one();
        }
    }
}

/// Records what an event reports about a job with waiters.
fn record(waiters: &mut Waiters, event: &RawEvent) {
    if waiters.is_empty() {
        return;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut ended = |job: &[u8], end: &dyn Fn() -> End| {
        let job = JobId::from_bytes(job);
        // Most jobs have no waiter, and results may be large.
        if waiters.waits_for(&job) {
            waiters.record_event(&job, event.id, &end());
        }
    };
    match StreamEvent::decode(&event.fields) {
        Some(StreamEvent::Completed { job, return_value }) => {
            ended(job, &|| Some(JobOutcome::Completed(text(return_value))));
        }
        Some(StreamEvent::Failed { job, reason }) => ended(job, &|| {
            Some(JobOutcome::Failed {
                reason: text(reason),
            })
        }),
        Some(StreamEvent::Removed { job }) => ended(job, &|| None),
        Some(StreamEvent::Cleaned) => waiters.recheck_all(),
        _ => {}
    }
}

/// Looks up requested jobs, up to a batch in a call. Returns the first error that is not transient.
async fn look_up(watcher: &Watcher, store: &Store) -> Error {
    let mut retry = store.connection().retry();
    loop {
        let batch = watcher.state().waiters.take_unchecked(BATCH);
        if batch.is_empty() {
            watcher.work.notified().await;
            continue;
        }
        let jobs = batch.iter().map(|(job, _)| job).collect();
        match store.run(&FindEnds { jobs }).await {
            Ok((newest, ends)) => {
                retry.reset();
                let states = batch.into_iter().zip(ends);
                watcher.state().waiters.record_states(newest, states);
            }
            Err(error) if error.is_transient() => {
                watcher.state().waiters.request_checks(batch);
                if !retry.pause().await {
                    return error;
                }
            }
            Err(error) => return error,
        }
    }
}
