//! What the gateway counts.

use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_histogram, histogram};

use super::intake::DeliveryOutcome;
use crate::app::MetricsRegistry;

const REQUESTS: &str = "gateway_requests_total";
const SECONDS: &str = "gateway_request_seconds";
const REFUSED: &str = "gateway_signatures_refused_total";
const DELIVERIES: &str = "gateway_deliveries_total";
const UNREAD: &str = "gateway_bodies_refused_total";
const CACHE: &str = "gateway_cache_total";

/// What the gateway has done since it was started.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: MetricsRegistry,
}

impl From<MetricsRegistry> for Metrics {
    fn from(registry: MetricsRegistry) -> Self {
        registry.record(|| {
            describe_counter!(REQUESTS, "Requests answered.");
            describe_histogram!(SECONDS, "Time from a request's head to its answer.");
            describe_counter!(REFUSED, "Deliveries without the right signature.");
            describe_counter!(DELIVERIES, "Signed deliveries by what became of them.");
            describe_counter!(UNREAD, "Bodies that were not read, signed or not.");
            describe_counter!(CACHE, "What the cache did.");
            // What has not happened yet is 0, not absent.
            counter!(REFUSED).increment(0);
            for reason in ["too_large", "no_room"] {
                counter!(UNREAD, "reason" => reason).increment(0);
            }
            for result in [
                "enqueued",
                "duplicate",
                "not_json",
                "out_of_time",
                "not_stored",
            ] {
                counter!(DELIVERIES, "result" => result).increment(0);
            }
        });
        Self { registry }
    }
}

impl Metrics {
    /// Where the numbers are.
    pub(super) fn registry(&self) -> &MetricsRegistry {
        &self.registry
    }

    /// Counts a request and how long it took.
    pub(super) fn request(&self, route: &'static str, status: StatusCode, took: Duration) {
        let status = status.as_str().to_owned();
        self.registry.record(|| {
            counter!(REQUESTS, "route" => route, "status" => status).increment(1);
            histogram!(SECONDS, "route" => route).record(took);
        });
    }

    /// Counts a delivery without the right signature.
    pub(super) fn signature_refused(&self) {
        self.registry.record(|| counter!(REFUSED).increment(1));
    }

    /// Counts a body that is longer than any may be.
    pub(super) fn too_large(&self) {
        self.unread("too_large");
    }

    /// Counts a body for which there was no memory.
    pub(super) fn no_room(&self) {
        self.unread("no_room");
    }

    fn unread(&self, reason: &'static str) {
        self.registry
            .record(|| counter!(UNREAD, "reason" => reason).increment(1));
    }

    /// Counts what became of a signed delivery.
    pub(super) fn delivery(&self, taken: DeliveryOutcome) {
        self.count(match taken {
            DeliveryOutcome::Enqueued => "enqueued",
            DeliveryOutcome::Duplicate => "duplicate",
            DeliveryOutcome::NotJson => "not_json",
            DeliveryOutcome::OutOfTime => "out_of_time",
        });
    }

    /// Counts a delivery that was not stored, as far as is known.
    pub(super) fn not_stored(&self) {
        self.count("not_stored");
    }

    fn count(&self, result: &'static str) {
        let count = || counter!(DELIVERIES, "result" => result).increment(1);
        self.registry.record(count);
    }

    /// Takes over what the cache has counted by itself.
    pub(super) fn cache(&self, stats: &[(&'static str, u64)]) {
        self.registry.record(|| {
            for (result, count) in stats {
                counter!(CACHE, "result" => *result).absolute(*count);
            }
        });
    }
}
