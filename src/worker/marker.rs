//! Waiting for work: blocking reads of the `marker` keys of the queues that a client's workers wait
//! for, each of a few queues (`docs/protocol.md#wake-up-markers`).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::client::{BlockingConnection, Client};
use crate::clock::Timestamp;
use crate::store::{Store, Wake};

/// The longest blocking read; it bounds how long a connection that died silently goes unnoticed.
/// With the grace for its answer and the proof that the other connections then have to give, a
/// silent peer is given up within 8 s.
const READ_MAX: Duration = Duration::from_secs(3);
/// How often an interruption of a read is tried again, in case it came before the read did.
const INTERRUPT_RETRY: Duration = Duration::from_millis(5);
/// How often an interruption is tried before the connection is thrown away instead.
const INTERRUPT_TRIES: u32 = 20;

/// The most queues that share a read. Redis takes note of each key of a read, and strikes it out at its end.
const QUEUES_MAX: usize = 16;
/// How long the next read is held back for a worker that was woken and will wait again: a read
/// without its queue would have to be interrupted at once.
const RETURN_MAX: Duration = Duration::from_millis(1);

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wakeup {
    /// Work may be ready.
    Now,
    /// Nothing is ready before this time (ms since the epoch).
    Due(f64),
}

/// All reads of a client; on a cluster none is of queues in several slots.
#[derive(Debug, Default)]
struct Hubs(Mutex<Vec<Arc<Markers>>>);

/// A blocking read that the workers of one client share.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Whose keys these are on a cluster, where no read may name keys of several slots.
    slot: Option<u16>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Whether the task runs.
    running: bool,
    /// How many workers wait for each key; the connection closes with the last one.
    members: HashMap<String, usize>,
    waiters: VecDeque<Waiter>,
    /// The keys of the read in progress.
    reading: Vec<(String, Store)>,
    /// Whether the read in progress must end: its keys are not what is waited for.
    interrupt: bool,
}

#[derive(Debug)]
struct Waiter {
    key: String,
    store: Store,
    /// Whether the worker will wait again as soon as it has looked.
    returns: bool,
    wake: oneshot::Sender<Wakeup>,
}

/// A worker's place in the hub.
#[derive(Debug)]
pub(super) struct Member {
    hub: Arc<Markers>,
    client: Client,
    store: Store,
    key: String,
}

impl Wakeup {
    /// Returns how long nothing is ready yet, for a day at most.
    pub(super) fn wait(self, now: Timestamp) -> Duration {
        let Self::Due(due) = self else {
            return Duration::ZERO;
        };
        #[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 ms")]
        let left = (due - now.as_millis() as f64) / 1000.0;
        if left > 0.0 {
            Duration::from_secs_f64(left.min(86_400.0))
        } else {
            Duration::ZERO
        }
    }
}

impl Markers {
    /// Joins a read of a client: that of its queue, one with room, or a new one.
    pub(super) fn join(client: &Client, store: &Store) -> Member {
        let (key, slot) = (store.keys().key("marker"), store.slot());
        let hubs = client.extension(Hubs::default);
        let mut hubs = hubs.0.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.retain(|hub| !hub.state().members.is_empty());
        let has_room =
            |hub: &&Arc<Self>| hub.slot == slot && hub.state().members.len() < QUEUES_MAX;
        let found = hubs
            .iter()
            .find(|hub| hub.state().members.contains_key(&key))
            .or_else(|| hubs.iter().find(has_room));
        let hub = if let Some(hub) = found {
            Arc::clone(hub)
        } else {
            let hub = Arc::new(Self {
                slot,
                ..Self::default()
            });
            hubs.push(Arc::clone(&hub));
            hub
        };
        *hub.state().members.entry(key.clone()).or_default() += 1;
        Member {
            hub,
            client: client.clone(),
            store: store.clone(),
            key,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a worker waits for the key.
    async fn waited_for(&self, key: &str) {
        while !self.state().waiters.iter().any(|waiter| waiter.key == key) {
            self.changed.notified().await;
        }
    }
}

impl Member {
    /// Asks to be woken when the queue's marker says so; `returns`: a worker that has looked then will
    /// most likely wait again. Dropping the answer ends the wait.
    pub(super) fn wait(&self, returns: bool) -> oneshot::Receiver<Wakeup> {
        let (wake, woken) = oneshot::channel();
        let mut state = self.hub.state();
        state.interrupt |= !state.reading.iter().any(|(key, _)| *key == self.key);
        state.waiters.push_back(Waiter {
            key: self.key.clone(),
            store: self.store.clone(),
            returns,
            wake,
        });
        if !state.running {
            state.running = true;
            tokio::spawn(run(Arc::clone(&self.hub), self.client.clone()));
        }
        drop(state);
        self.hub.changed.notify_one();
        woken
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.hub.state();
        if let Some(members) = state.members.get_mut(&self.key) {
            *members -= 1;
            if *members == 0 {
                state.members.remove(&self.key);
            }
        }
        // What this worker waited for must not be taken from the other workers any longer.
        state.interrupt |= state.reading.iter().any(|(key, _)| *key == self.key);
        drop(state);
        self.hub.changed.notify_one();
    }
}

/// Marks the task as ended however it ends, so that the next wait starts another.
struct Running(Arc<Markers>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running = false;
        state.reading.clear();
        // Their workers look for themselves and wait again.
        state.waiters.clear();
    }
}

async fn run(hub: Arc<Markers>, client: Client) {
    let _running = Running(Arc::clone(&hub));
    let mut connection = client.blocking(None, hub.slot);
    loop {
        let keys = {
            let mut state = hub.state();
            if state.members.is_empty() {
                return;
            }
            state.waiters.retain(|waiter| !waiter.wake.is_closed());
            let mut keys: Vec<(String, Store)> = Vec::new();
            for waiter in &state.waiters {
                if !keys.iter().any(|(key, _)| *key == waiter.key) {
                    keys.push((waiter.key.clone(), waiter.store.clone()));
                }
            }
            state.interrupt = false;
            state.reading.clone_from(&keys);
            keys
        };
        if keys.is_empty() {
            hub.changed.notified().await;
            continue;
        }
        let names: Vec<&str> = keys.iter().map(|(key, _)| key.as_str()).collect();
        let answer = Box::pin(read(&hub, &client, &mut connection, &names)).await;
        hub.state().reading.clear();
        match answer {
            Answer::Popped(key, score) => {
                let wakeup = if score <= 0.0 {
                    Wakeup::Now
                } else {
                    Wakeup::Due(score)
                };
                match deliver(&hub, &key, wakeup) {
                    Delivered::Returns => {
                        timeout(RETURN_MAX, hub.waited_for(&key)).await.ok();
                    }
                    Delivered::Stays => {}
                    // Whoever waited has enough to do: the wake-up is for another worker.
                    Delivered::Nobody => {
                        if let Some((_, store)) = keys.iter().find(|(name, _)| *name == key)
                            && let Err(error) = store.run(&Wake).await
                        {
                            tracing::debug!(key, %error, "wake-up was not returned");
                        }
                    }
                }
            }
            Answer::Nothing => {}
            // What the read may have popped is unknown: everybody looks.
            Answer::Lost => {
                let waiters = std::mem::take(&mut hub.state().waiters);
                for waiter in waiters {
                    waiter.wake.send(Wakeup::Now).ok();
                }
            }
        }
    }
}

/// Who got a wake-up.
enum Delivered {
    /// A worker that will wait again.
    Returns,
    /// A worker that will not.
    Stays,
    Nobody,
}

/// Hands a wake-up to one waiter of the key.
fn deliver(hub: &Markers, key: &str, wakeup: Wakeup) -> Delivered {
    let mut state = hub.state();
    while let Some(place) = state.waiters.iter().position(|waiter| waiter.key == key) {
        if let Some(waiter) = state.waiters.remove(place)
            && waiter.wake.send(wakeup).is_ok()
        {
            return if waiter.returns {
                Delivered::Returns
            } else {
                Delivered::Stays
            };
        }
    }
    Delivered::Nobody
}

enum Answer {
    Popped(String, f64),
    Nothing,
    Lost,
}

/// Reads until something is popped, the time is over, or the keys change.
async fn read(
    hub: &Markers,
    client: &Client,
    connection: &mut BlockingConnection,
    keys: &[&str],
) -> Answer {
    let id = connection.id();
    let answer = {
        let reading = connection.bzpopmin(keys, READ_MAX);
        tokio::pin!(reading);
        let mut interrupting: Option<(Instant, u32)> = None;
        loop {
            tokio::select! {
                biased;
                answer = &mut reading => break Some(answer),
                () = hub.changed.notified() => {
                    if hub.state().interrupt && interrupting.is_none() {
                        interrupting = Some((Instant::now(), 0));
                    }
                }
                () = tokio::time::sleep_until(interrupting.map_or_else(far, |(at, _)| at)),
                    if interrupting.is_some() =>
                {
                    let tries = interrupting.map_or(0, |(_, tries)| tries) + 1;
                    let unblocked = client.unblock(&id).await;
                    if unblocked.is_err() || tries >= INTERRUPT_TRIES {
                        break None;
                    }
                    interrupting = Some((Instant::now() + INTERRUPT_RETRY, tries));
                }
            }
        }
    };
    match answer {
        Some(Ok(Some((key, _, score)))) => Answer::Popped(key, score),
        Some(Ok(None)) => Answer::Nothing,
        Some(Err(error)) => {
            tracing::debug!(%error, "waiting for work was interrupted");
            // A refused command comes back at once; do not spin on it.
            tokio::time::sleep(Duration::from_millis(100)).await;
            Answer::Lost
        }
        None => {
            connection.close();
            Answer::Lost
        }
    }
}

/// A time that does not come; the branch that names it is switched off.
fn far() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}
