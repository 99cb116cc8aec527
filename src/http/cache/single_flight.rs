//! Concurrent requests of one process for one entry: one of them, the leader, makes the response and
//! the others wait for it. When a response cannot be shared, requests for that entry bypass this for a
//! while.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::entry::{Entry, Freshness};

/// How long requests do not wait for each other after a response that could not be shared.
const BYPASS: Duration = Duration::from_secs(10);
/// The most entries for which this is remembered; requests for others wait.
const BYPASS_MAX: usize = 1_024;

/// What the leader gives to those that wait.
#[derive(Clone)]
pub(super) enum FlightResult {
    /// A response for all of them.
    Shared(Arc<Entry>, Freshness),
    /// Its response cannot be shared: each runs the handler.
    NotShared,
}

type Waiter = watch::Receiver<Option<FlightResult>>;

/// The entries that are being made.
#[derive(Default)]
pub(super) struct SingleFlight {
    in_flight: Mutex<HashMap<Arc<str>, Waiter>>,
    /// Entries whose last response could not be shared, and until when that is remembered.
    bypassed: Mutex<HashMap<Box<str>, Instant>>,
}

/// What a request for a missing entry does.
pub(super) enum Joined {
    Leader(Leader),
    /// Another request was the leader.
    Finished(FlightResult),
    /// The leader took longer than the deadline.
    TimedOut,
}

/// Makes an entry for all that wait. Dropped without a result, one of those takes its place.
pub(super) struct Leader {
    single_flight: Arc<SingleFlight>,
    entry: Arc<str>,
    sender: watch::Sender<Option<FlightResult>>,
}

impl SingleFlight {
    /// Becomes the leader, or waits for it until `deadline`.
    pub(super) async fn join(self: &Arc<Self>, entry: &str, deadline: Instant) -> Joined {
        loop {
            let mut waiter = match self.leader_or_waiter(entry) {
                Ok(waiter) => waiter,
                Err(lead) => return Joined::Leader(lead),
            };
            match timeout_at(deadline, waiter.wait_for(Option::is_some)).await {
                Ok(Ok(result)) => {
                    return Joined::Finished(result.clone().unwrap_or(FlightResult::NotShared));
                }
                // Its caller went away: one of those that wait is next.
                Ok(Err(_)) => {}
                Err(_) => return Joined::TimedOut,
            }
        }
    }

    /// Returns whether requests for an entry make their own responses at present.
    pub(super) fn is_bypassed(&self, entry: &str) -> bool {
        let until = lock(&self.bypassed).get(entry).copied();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes whether the response to a request could be shared.
    pub(super) fn set_bypassed(&self, entry: &str, bypassed: bool) {
        let mut entries = lock(&self.bypassed);
        if !bypassed {
            entries.remove(entry);
            return;
        }
        let now = Instant::now();
        if entries.len() >= BYPASS_MAX {
            entries.retain(|_, until| now < *until);
        }
        if entries.len() < BYPASS_MAX {
            entries.insert(entry.into(), now + BYPASS);
        }
    }

    fn leader_or_waiter(self: &Arc<Self>, entry: &str) -> Result<Waiter, Leader> {
        match lock(&self.in_flight).entry(entry.into()) {
            Slot::Occupied(slot) => Ok(slot.get().clone()),
            Slot::Vacant(slot) => {
                let entry = Arc::clone(slot.key());
                let (sender, waiter) = watch::channel(None);
                slot.insert(waiter);
                Err(Leader {
                    single_flight: Arc::clone(self),
                    entry,
                    sender,
                })
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leader {
    /// Gives the result to all that wait.
    pub(super) fn finish(self, result: FlightResult) {
        self.sender.send_replace(Some(result));
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // Before the sender is dropped, so that the waiters that it wakes find the entry free.
        lock(&self.single_flight.in_flight).remove(&self.entry);
    }
}
