//! The signs of a worker's health: when Redis last served it, and what keeps it from working.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::after;

/// How long after the last handler that Redis could not serve handlers count as served again without
/// evidence. Longer than such a job waits for its next attempt.
pub(super) const OUTAGE_ENDS: Duration = Duration::from_secs(10);

/// Signs of a worker's work, noted by its tasks and read by its handle.
#[derive(Debug, Default)]
pub(super) struct HealthMonitor {
    signs: Mutex<Signs>,
}

/// The signs at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Signs {
    /// When Redis last answered a call of the pump.
    pub(super) last_answer: Option<Instant>,
    /// When Redis last answered a fetch.
    pub(super) last_fetch: Option<Instant>,
    /// When locks were last renewed.
    pub(super) last_renewal: Option<Instant>,
    /// Since when the pump cannot work, and why.
    pub(super) trouble: Option<(Instant, Arc<str>)>,
    /// Since when Redis does not serve handlers, and why; and when it last failed one.
    outage: Option<(Instant, Arc<str>)>,
    outage_seen: Option<Instant>,
    /// Since when locks cannot be renewed, and why.
    pub(super) unrenewed: Option<(Instant, Arc<str>)>,
}

impl HealthMonitor {
    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Signs {
        let mut signs = self.signs().clone();
        if signs.has_outage() && signs.trouble.is_none() {
            signs.trouble = signs.outage.take();
        }
        signs
    }

    /// Redis has answered a call; `fetch`: one that asked for jobs.
    pub(super) fn answered(&self, fetch: bool) {
        let now = Instant::now();
        let mut signs = self.signs();
        signs.last_answer = Some(now);
        signs.trouble = None;
        if fetch {
            signs.last_fetch = Some(now);
        }
    }

    /// The worker cannot work, for this reason.
    pub(super) fn troubled(&self, reason: String) {
        note(&mut self.signs().trouble, reason);
    }

    /// Redis could not serve a handler, for this reason.
    pub(super) fn handler_failed(&self, reason: String) {
        let mut signs = self.signs();
        if !signs.has_outage() {
            signs.outage = None;
        }
        signs.outage_seen = Some(Instant::now());
        note(&mut signs.outage, reason);
    }

    /// Redis has served a handler.
    pub(super) fn served(&self) {
        self.signs().outage_seen = None;
    }

    /// Locks were renewed.
    pub(super) fn renewed(&self) {
        let mut signs = self.signs();
        signs.last_renewal = Some(Instant::now());
        signs.unrenewed = None;
    }

    /// There are no locks to renew.
    pub(super) fn nothing_to_renew(&self) {
        self.signs().unrenewed = None;
    }

    /// Locks could not be renewed, for this reason.
    pub(super) fn not_renewed(&self, reason: String) {
        note(&mut self.signs().unrenewed, reason);
    }
}

impl Signs {
    fn has_outage(&self) -> bool {
        self.outage_seen
            .is_some_and(|seen| Instant::now() < after(seen, OUTAGE_ENDS))
    }
}

/// Notes the newest reason, and keeps the time of the first.
fn note(trouble: &mut Option<(Instant, Arc<str>)>, reason: String) {
    let since = trouble
        .as_ref()
        .map_or_else(Instant::now, |(since, _)| *since);
    *trouble = Some((since, reason.into()));
}
