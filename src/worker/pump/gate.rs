//! When a worker asks for jobs: after wake-ups and results, not while a rate limit holds or Redis cannot
//! serve it, and in any case once in a while. Nothing here does I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::Waits;
use crate::clock::after;
use crate::worker::health::OUTAGE_ENDS;

/// What is left of a rate limit when it is no longer slept through.
const LAST_MOMENT: Duration = Duration::from_millis(1);

/// What a fetch has answered about the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There may be more.
    More,
    /// The rate limit is reached for this long, counted from when the fetch was sent.
    Limited { sent: Instant, wait: Duration },
    /// Nothing is ready for this long.
    NothingFor(Duration),
    /// Nothing is ready, or nothing may start.
    Nothing,
}

/// Decides when the worker fetches.
#[derive(Debug)]
pub(super) struct FetchGate {
    drain_delay: Duration,
    max_limit_wait: Duration,
    /// Whether the queue may have a job for us.
    wanted: bool,
    /// When to fetch although nothing woke us.
    next: Instant,
    /// No fetch before this time: rate limit, failed fetches, or Redis cannot serve handlers.
    held_until: Option<Instant>,
    /// Failures in a row.
    waits: Waits,
    /// How many calls had been made when a handler last limited the queue. Until a later call has
    /// found the limit over, it is respected, although the worker may know no other.
    limited_at: Option<u64>,
    /// When Redis last could not serve a handler, until it has served one.
    outage: Option<Instant>,
    drained: bool,
}

impl FetchGate {
    pub(super) fn new(drain_delay: Duration, max_limit_wait: Duration, now: Instant) -> Self {
        Self {
            drain_delay,
            max_limit_wait,
            wanted: true,
            next: now,
            held_until: None,
            waits: Waits::new(),
            limited_at: None,
            outage: None,
            drained: false,
        }
    }

    /// Returns whether a fetch may be made.
    pub(super) fn is_open(&self) -> bool {
        self.held_until.is_none()
    }

    /// Returns whether there is a reason for a fetch of its own.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// How many jobs the next fetch may ask for: after a failure one, to learn whether Redis serves
    /// the worker again.
    pub(super) fn bounded(&self, slots: usize) -> usize {
        if self.waits.is_fresh() {
            slots
        } else {
            slots.min(1)
        }
    }

    /// Whether a limit that a handler imposed is to be respected, and since which call.
    pub(super) fn limited_at(&self) -> Option<u64> {
        self.limited_at
    }

    /// A fetch leaves.
    pub(super) fn fetching(&mut self, now: Instant) {
        self.wanted = false;
        self.next = after(now, self.drain_delay);
    }

    /// Something says that there may be a job.
    pub(super) fn wake(&mut self) {
        self.wanted = true;
    }

    /// A job is due after this wait.
    pub(super) fn wake_in(&mut self, wait: Duration, now: Instant) {
        self.next = self.next.min(after(now, wait));
    }

    /// A fetch was answered, having started this many jobs. Returns whether the queue has become
    /// drained: nothing was found, for the first time or after there had been work.
    pub(super) fn answered(&mut self, found: Found, started: usize, now: Instant) -> bool {
        match self.outage {
            // That a fetch is answered does not say that handlers are served: the few that are
            // tried tell.
            Some(last) if now < after(last, OUTAGE_ENDS) => {
                if started > 0 {
                    self.failed(now);
                }
            }
            _ => self.served(),
        }
        match found {
            Found::More => self.wanted = true,
            // Redis counted the wait after the call was sent, and rounded it up by less than a
            // millisecond. Asking too late costs starts; asking too early costs calls, but only in
            // the last millisecond, which is too short for a timer.
            Found::Limited { sent, wait } => match wait.checked_sub(LAST_MOMENT) {
                Some(rest) if !rest.is_zero() => self.limit(sent, rest),
                _ => self.wanted = true,
            },
            Found::NothingFor(wait) => self.wake_in(wait, now),
            Found::Nothing => {}
        }
        let drained = started == 0 && found != Found::More && !self.drained;
        self.drained = (self.drained || drained) && started == 0;
        drained
    }

    /// A handler could not work because of Redis.
    pub(super) fn handler_failed(&mut self, now: Instant) {
        self.outage = Some(now);
        self.failed(now);
    }

    /// A call failed: waits, longer each time.
    pub(super) fn failed(&mut self, now: Instant) {
        let until = now + self.waits.next();
        self.held_until = Some(self.held_until.map_or(until, |held| held.max(until)));
    }

    /// Redis serves the worker and its handlers.
    pub(super) fn served(&mut self) {
        self.outage = None;
        self.waits.reset();
    }

    /// Starts no job for this long, or as much of it as one wait may take.
    pub(super) fn limit(&mut self, since: Instant, wait: Duration) {
        self.held_until = Some(after(since, wait.min(self.max_limit_wait)));
    }

    /// A handler limits the queue, after this many calls.
    pub(super) fn limit_by_handler(&mut self, calls: u64, wait: Duration, now: Instant) {
        self.limited_at = Some(calls);
        self.limit(now, wait);
    }

    /// A fetch that respected the limit of `limited_at` has found it over.
    pub(super) fn limit_is_over(&mut self, limited_at: Option<u64>) {
        if self.limited_at == limited_at {
            self.limited_at = None;
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
            self.wanted = true;
        }
        if self.next <= now {
            self.wanted = true;
            self.next = after(now, self.drain_delay);
        }
    }

    /// When to act although nothing happens; `idle`: slots are free and nothing is on its way.
    pub(super) fn deadline(&self, idle: bool) -> Option<Instant> {
        let next = idle.then_some(self.next);
        [next, self.held_until].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn gate(now: Instant) -> FetchGate {
        FetchGate::new(5 * SECOND, SECOND, now)
    }

    /// `drained` is emitted once at the start, and once after work.
    #[test]
    fn drained_is_told_at_the_start_and_after_work() {
        let now = Instant::now();
        let mut gate = gate(now);
        assert!(gate.answered(Found::Nothing, 0, now));
        assert!(!gate.answered(Found::Nothing, 0, now));
        assert!(!gate.answered(Found::Nothing, 3, now));
        assert!(gate.answered(Found::NothingFor(SECOND), 0, now));
        assert!(!gate.answered(Found::Nothing, 0, now));
    }

    /// While Redis fails the worker asks for one job at a time, ever more rarely; the first success
    /// opens the gate.
    #[test]
    fn failures_hold_fetches_back_until_one_succeeds() {
        let mut now = Instant::now();
        let mut gate = gate(now);
        for _ in 0..20 {
            gate.failed(now);
            assert!(!gate.is_open());
            assert_eq!(gate.bounded(100), 1);
            let until = gate.deadline(false).unwrap();
            assert!(until > now && until <= now + Duration::from_secs(2));
            now = until;
            gate.tick(now);
            assert!(gate.is_open() && gate.is_wanted());
        }
        gate.answered(Found::More, 1, now);
        assert_eq!(gate.bounded(100), 100);
    }

    /// While Redis does not serve handlers, fetches are few although they are answered.
    #[test]
    fn handlers_that_are_not_served_hold_fetches_back() {
        let mut now = Instant::now();
        let mut gate = gate(now);
        gate.handler_failed(now);
        for _ in 0..5 {
            now = gate.deadline(false).unwrap();
            gate.tick(now);
            assert_eq!(gate.bounded(100), 1);
            gate.answered(Found::More, 1, now);
            assert!(!gate.is_open());
            gate.handler_failed(now);
        }
        gate.served();
        assert_eq!(gate.bounded(100), 100);
        gate.handler_failed(now);
        gate.answered(Found::Nothing, 0, now + OUTAGE_ENDS);
        assert_eq!(gate.bounded(100), 100);
    }

    /// A limit is slept through up to the longest wait, and a due job wakes the worker in time.
    #[test]
    fn limits_and_due_jobs_set_the_next_fetch() {
        let now = Instant::now();
        let mut gate = gate(now);
        gate.fetching(now);
        assert_eq!(gate.deadline(true), Some(now + 5 * SECOND));
        gate.answered(Found::NothingFor(2 * SECOND), 0, now);
        assert_eq!(gate.deadline(true), Some(now + 2 * SECOND));
        let limited = Found::Limited {
            sent: now,
            wait: 9 * SECOND,
        };
        gate.answered(limited, 0, now);
        assert!(!gate.is_open());
        assert_eq!(gate.deadline(false), Some(now + SECOND));
        gate.tick(now + SECOND);
        assert!(gate.is_open() && gate.is_wanted());
    }

    /// A limit by a handler is respected until a later call has found it over.
    #[test]
    fn handlers_limit_is_respected_until_it_is_over() {
        let now = Instant::now();
        let mut gate = gate(now);
        gate.limit_by_handler(7, SECOND, now);
        gate.limit_by_handler(9, SECOND, now);
        gate.limit_is_over(Some(7));
        assert_eq!(gate.limited_at(), Some(9));
        gate.limit_is_over(Some(9));
        assert_eq!(gate.limited_at(), None);
    }
}
