//! What a worker's health is told from: when Redis last served it, and what keeps it from working.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Signs of a worker's work, noted by its tasks and read by its handle.
#[derive(Debug, Default)]
pub(super) struct Vitals {
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
    /// Since when locks cannot be renewed, and why.
    pub(super) unrenewed: Option<(Instant, Arc<str>)>,
}

impl Vitals {
    fn signs(&self) -> MutexGuard<'_, Signs> {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> Signs {
        self.signs().clone()
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

/// Notes the newest reason, and keeps the time of the first.
fn note(trouble: &mut Option<(Instant, Arc<str>)>, reason: String) {
    let since = trouble
        .as_ref()
        .map_or_else(Instant::now, |(since, _)| *since);
    *trouble = Some((since, reason.into()));
}
