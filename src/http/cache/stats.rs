//! What a cache has done.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::client::Throttle;
use crate::error::{Chain, Error};

/// What a cache layer has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Requests answered from the cache, or with the response of a request at the same time.
    pub hits: u64,
    /// Requests that ran the handler.
    pub misses: u64,
    /// Requests answered with an old response, as the handler failed.
    pub stale: u64,
    /// Requests that the cache is not for.
    pub bypassed: u64,
    /// Responses stored.
    pub stores: u64,
    /// Questions that Redis did not answer, or not in time.
    pub errors: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) stale: AtomicU64,
    pub(super) bypassed: AtomicU64,
    pub(super) stores: AtomicU64,
    errors: AtomicU64,
    log: Throttle,
}

impl Counters {
    pub(super) fn read(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            stale: read(&self.stale),
            bypassed: read(&self.bypassed),
            stores: read(&self.stores),
            errors: read(&self.errors),
        }
    }

    /// Counts a question without an answer, which is no error of the request.
    pub(super) fn failed(&self, what: &'static str, error: &Error) {
        count(&self.errors);
        if let Some(suppressed) = self.log.admit() {
            let error = Chain(error);
            tracing::warn!(what, %error, suppressed, "the response cache goes on without redis");
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
