//! How many jobs a worker may have at once.

/// The worker's concurrency, and the part of it that calls on their way hold.
#[derive(Debug)]
pub(super) struct Slots {
    concurrency: usize,
    reserved: usize,
}

impl Slots {
    pub(super) fn new(concurrency: usize) -> Self {
        Self {
            concurrency,
            reserved: 0,
        }
    }

    /// Changes the concurrency; returns whether there are more slots than before.
    pub(super) fn resize(&mut self, concurrency: usize) -> bool {
        let grew = concurrency > self.concurrency;
        self.concurrency = concurrency;
        grew
    }

    /// Holds slots for the results of a call and the jobs that it may start.
    pub(super) fn reserve(&mut self, slots: usize) {
        self.reserved += slots;
    }

    /// Ends the hold of a call.
    pub(super) fn release(&mut self, slots: usize) {
        self.reserved = self.reserved.saturating_sub(slots);
    }

    /// Returns how many jobs may be asked for while handlers and results that wait occupy
    /// `occupied` slots.
    pub(super) fn free(&self, occupied: usize) -> usize {
        self.concurrency.saturating_sub(occupied + self.reserved)
    }

    /// Returns whether a job that is already active has a slot: its call no longer counts.
    pub(super) fn has_room(&self, occupied: usize) -> bool {
        occupied < self.concurrency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_on_their_way_hold_slots() {
        let mut slots = Slots::new(10);
        assert_eq!(slots.free(3), 7);
        slots.reserve(5);
        assert_eq!(slots.free(3), 2);
        slots.release(5);
        assert_eq!(slots.free(3), 7);
    }

    /// Concurrency may be lowered below what runs; the surplus ends by itself.
    #[test]
    fn fewer_slots_than_are_occupied_leave_none_free() {
        let mut slots = Slots::new(10);
        slots.reserve(2);
        assert!(!slots.resize(4));
        assert_eq!(slots.free(6), 0);
        assert!(!slots.has_room(6));
        assert!(slots.has_room(3));
        assert!(slots.resize(5));
    }
}
