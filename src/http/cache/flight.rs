//! Requests of one process for one entry: one of them makes the response, the others wait.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::entry::{Entry, Freshness};

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

    fn seat(self: &Arc<Self>, entry: &str) -> Result<Seat, Lead> {
        match self.lock().entry(entry.into()) {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        self.flights.lock().remove(&self.entry);
    }
}
