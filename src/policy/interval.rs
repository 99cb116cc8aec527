//! The slots of a fixed interval (spec: schedulers §3).
//!
//! `lua/` decides them in Redis, where the last slot is; this is the model that its answer is
//! tested against, and what previews are made of.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::CatchUp;

/// An interval of at least 1 ms and its offset from the multiples of it since the epoch, 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    every: i64,
    offset: i64,
}

impl Interval {
    /// Both in milliseconds. A producer passes the offset that its schedule names; a worker the
    /// stored one where the schedule names none.
    pub(crate) fn new(every: i64, offset: i64) -> Self {
        Self {
            every: every.max(1),
            offset: offset.max(0),
        }
    }

    /// The slot of a scheduler that has none yet, or whose interval changed.
    pub(crate) fn first(self, start: Option<Timestamp>, now: Timestamp) -> Timestamp {
        match start {
            Some(start) => start.max(now),
            None if self.offset > 0 => self.on_grid_after(now),
            None => now,
        }
    }

    /// The slot after `last`.
    pub(crate) fn after(self, last: Timestamp, now: Timestamp, catch_up: CatchUp) -> Timestamp {
        let next = Timestamp::from_millis(last.as_millis().saturating_add(self.every));
        match catch_up {
            CatchUp::Latest if next < now => self.on_grid_after(now),
            CatchUp::Latest | CatchUp::All => next,
        }
    }

    /// The offset to store with a slot when the schedule names none: later catch-ups return to it.
    pub(crate) fn offset_of(self, slot: Timestamp) -> Duration {
        let offset = slot.as_millis().rem_euclid(self.every);
        Duration::from_millis(offset.unsigned_abs())
    }

    /// The first of the shifted multiples after `now`, counting from the multiple before it.
    fn on_grid_after(self, now: Timestamp) -> Timestamp {
        let now = now.as_millis();
        let slot = (now - now.rem_euclid(self.every)).saturating_add(self.offset);
        Timestamp::from_millis(if slot > now {
            slot
        } else {
            slot.saturating_add(self.every)
        })
    }
}
