//! Requests of one process for one entry: one of them makes the response, the others wait. Where
//! the response turns out to be for one request alone, the next ones do not wait for a while.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::entry::{Entry, Freshness};

/// How long no request waits for another's response after one that could not be shared.
const APART: Duration = Duration::from_secs(10);
/// Most entries that this is remembered of; requests for others wait.
const APART_MAX: usize = 1_024;

/// What the leading request leaves to those that wait.
#[derive(Clone)]
pub(super) enum Landing {
    /// A response for all of them.
    Response(Arc<Entry>, Freshness),
    /// Its response is its own: each runs the handler.
    Nothing,
}

type Seat = watch::Receiver<Option<Landing>>;

/// The entries that are being made.
#[derive(Default)]
pub(super) struct Flights {
    seats: Mutex<HashMap<Arc<str>, Seat>>,
    /// Entries whose last response was its request's own, and until when that is remembered.
    apart: Mutex<HashMap<Box<str>, Instant>>,
}

/// What a request does about an entry that is missing.
pub(super) enum Turn {
    Lead(Lead),
    /// The landing of another one that led.
    Landed(Landing),
    /// It took too long.
    Late,
}

/// The duty to make an entry. Dropped without a landing, it passes to one of those that wait.
pub(super) struct Lead {
    flights: Arc<Flights>,
    entry: Arc<str>,
    sender: watch::Sender<Option<Landing>>,
}

impl Flights {
    /// Leads, or waits until `deadline` for the one that does.
    pub(super) async fn join(self: &Arc<Self>, entry: &str, deadline: Instant) -> Turn {
        loop {
            let mut seat = match self.seat(entry) {
                Ok(seat) => seat,
                Err(lead) => return Turn::Lead(lead),
            };
            match timeout_at(deadline, seat.wait_for(Option::is_some)).await {
                Ok(Ok(landing)) => {
                    return Turn::Landed(landing.clone().unwrap_or(Landing::Nothing));
                }
                // Its caller went away: one of those that wait is next.
                Ok(Err(_)) => {}
                Err(_) => return Turn::Late,
            }
        }
    }

    /// Says whether each request for an entry makes its own response at present.
    pub(super) fn are_apart(&self, entry: &str) -> bool {
        let until = lock(&self.apart).get(entry).copied();
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes whether the response to a request could be shared.
    pub(super) fn set_apart(&self, entry: &str, apart: bool) {
        let mut entries = lock(&self.apart);
        if !apart {
            entries.remove(entry);
            return;
        }
        let now = Instant::now();
        if entries.len() >= APART_MAX {
            entries.retain(|_, until| now < *until);
        }
        if entries.len() < APART_MAX {
            entries.insert(entry.into(), now + APART);
        }
    }

    fn seat(self: &Arc<Self>, entry: &str) -> Result<Seat, Lead> {
        match lock(&self.seats).entry(entry.into()) {
            Slot::Occupied(slot) => Ok(slot.get().clone()),
            Slot::Vacant(slot) => {
                let entry = Arc::clone(slot.key());
                let (sender, seat) = watch::channel(None);
                slot.insert(seat);
                Err(Lead {
                    flights: Arc::clone(self),
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

impl Lead {
    /// Ends the flight.
    pub(super) fn land(self, landing: Landing) {
        self.sender.send_replace(Some(landing));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Before the sender goes, so that whoever it wakes finds the place free.
        lock(&self.flights.seats).remove(&self.entry);
    }
}
