//! Counters, and their text in the format that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use oxbull::{JobCounts, JobState};

use super::intake::Taken;
use crate::jobs::webhook_processing::QUEUE;

/// Upper bounds of the histogram, in microseconds.
const BOUNDS: [u64; 11] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000,
];

/// What the gateway has done since it was started.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    times: Mutex<BTreeMap<&'static str, Times>>,
    refused: AtomicU64,
    enqueued: AtomicU64,
    duplicate: AtomicU64,
    not_json: AtomicU64,
    out_of_time: AtomicU64,
    not_stored: AtomicU64,
}

#[derive(Debug, Default)]
struct Times {
    /// How many were within each bound and in no lower one.
    within: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

/// What is read when it is asked for.
#[derive(Debug)]
pub(super) struct Gauges {
    pub(super) redis_up: bool,
    pub(super) queue: Option<JobCounts>,
    /// Hits, misses and other counts of the response cache.
    pub(super) overviews: Vec<(&'static str, u64)>,
}

impl Metrics {
    /// Counts a request and how long it took.
    pub(super) fn request(&self, route: &'static str, status: StatusCode, took: Duration) {
        let mut requests = lock(&self.requests);
        *requests.entry((route, status.as_u16())).or_default() += 1;
        drop(requests);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mut times = lock(&self.times);
        let times = times.entry(route).or_default();
        let bounds = BOUNDS.iter().zip(&mut times.within);
        if let Some((_, within)) = bounds.into_iter().find(|(bound, _)| micros <= **bound) {
            *within += 1;
        }
        times.count += 1;
        times.sum += took;
    }

    /// Counts a delivery without the right signature.
    pub(super) fn signature_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what became of a signed delivery.
    pub(super) fn delivery(&self, taken: Taken) {
        let counter = match taken {
            Taken::Enqueued => &self.enqueued,
            Taken::Duplicate => &self.duplicate,
            Taken::NotJson => &self.not_json,
            Taken::OutOfTime => &self.out_of_time,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a delivery that was not stored, as far as is known; returns how many there were.
    pub(super) fn not_stored(&self) -> u64 {
        self.not_stored.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// All of it as text.
    pub(super) fn text(&self, gauges: &Gauges) -> String {
        let mut text = Text::default();
        text.family("gateway_requests_total", "counter", "Requests answered.");
        for ((route, status), count) in &*lock(&self.requests) {
            let labels = [("route", *route), ("status", &status.to_string())];
            text.sample("gateway_requests_total", &labels, count);
        }
        self.histogram(&mut text);
        text.family(
            "gateway_signatures_refused_total",
            "counter",
            "Deliveries without the right signature.",
        );
        let refused = self.refused.load(Ordering::Relaxed);
        text.sample("gateway_signatures_refused_total", &[], &refused);
        text.family(
            "gateway_deliveries_total",
            "counter",
            "Signed deliveries by what became of them.",
        );
        for (result, counter) in [
            ("enqueued", &self.enqueued),
            ("duplicate", &self.duplicate),
            ("not_json", &self.not_json),
            ("out_of_time", &self.out_of_time),
            ("not_stored", &self.not_stored),
        ] {
            let count = counter.load(Ordering::Relaxed);
            text.sample("gateway_deliveries_total", &[("result", result)], &count);
        }
        text.family("gateway_cache_total", "counter", "What the cache did.");
        for (result, count) in &gauges.overviews {
            text.sample("gateway_cache_total", &[("result", result)], count);
        }
        text.family("gateway_redis_up", "gauge", "Whether Redis answers.");
        text.sample("gateway_redis_up", &[], &u8::from(gauges.redis_up));
        if let Some(counts) = &gauges.queue {
            text.family("gateway_queue_jobs", "gauge", "Jobs by state.");
            for state in JobState::ALL {
                let labels = [("queue", QUEUE), ("state", state.as_str())];
                text.sample("gateway_queue_jobs", &labels, &counts.of(state));
            }
        }
        text.0
    }

    fn histogram(&self, text: &mut Text) {
        const NAME: &str = "gateway_request_seconds";
        text.family(
            NAME,
            "histogram",
            "Time from a request's head to its answer.",
        );
        for (route, times) in &*lock(&self.times) {
            let mut up_to = 0;
            for (bound, within) in BOUNDS.iter().zip(times.within) {
                up_to += within;
                let bound = Duration::from_micros(*bound).as_secs_f64().to_string();
                let labels = [("route", *route), ("le", &bound)];
                text.sample("gateway_request_seconds_bucket", &labels, &up_to);
            }
            let labels = [("route", *route), ("le", "+Inf")];
            text.sample("gateway_request_seconds_bucket", &labels, &times.count);
            let labels = [("route", *route)];
            let sum = times.sum.as_secs_f64();
            text.sample("gateway_request_seconds_sum", &labels, &sum);
            text.sample("gateway_request_seconds_count", &labels, &times.count);
        }
    }
}

/// A panic elsewhere does not make a count wrong.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The text format, line by line. Writing to a string does not fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &dyn std::fmt::Display) {
        self.0.push_str(name);
        for (index, (label, content)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let content = escape(content);
            write!(self.0, "{open}{label}=\"{content}\"").ok();
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        writeln!(self.0, " {value}").ok();
    }
}

fn escape(content: &str) -> String {
    content
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A label must not end its line or its quotes.
    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("m", &[("a", "x\"y\\z\nw"), ("b", "1")], &2);
        assert_eq!(text.0, "m{a=\"x\\\"y\\\\z\\nw\",b=\"1\"} 2\n");
    }

    /// Buckets count all that is below their bound, the last one everything.
    #[test]
    fn histogram_is_cumulative() {
        let metrics = Metrics::default();
        for millis in [1, 40, 40, 9_000] {
            metrics.request("/r", StatusCode::OK, Duration::from_millis(millis));
        }
        let text = metrics.text(&Gauges {
            redis_up: true,
            queue: None,
            overviews: vec![("hit", 3)],
        });
        for line in [
            "gateway_requests_total{route=\"/r\",status=\"200\"} 4",
            "gateway_request_seconds_bucket{route=\"/r\",le=\"0.001\"} 1",
            "gateway_request_seconds_bucket{route=\"/r\",le=\"0.025\"} 1",
            "gateway_request_seconds_bucket{route=\"/r\",le=\"0.05\"} 3",
            "gateway_request_seconds_bucket{route=\"/r\",le=\"2.5\"} 3",
            "gateway_request_seconds_bucket{route=\"/r\",le=\"+Inf\"} 4",
            "gateway_request_seconds_count{route=\"/r\"} 4",
            "gateway_cache_total{result=\"hit\"} 3",
            "gateway_redis_up 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
