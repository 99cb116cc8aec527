//! Metrics of a program, in the text format of Prometheus.

use std::sync::Arc;

use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use oxbull::{Backlog, JobState, Queue, WorkerHealth};

/// The media type of the text.
pub(crate) const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// Upper bounds of durations, in seconds: from a quick answer to a long wait for the API.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
    3600.0,
];

/// Upper bounds of what travels in one request to Redis.
const BATCHES: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

const JOBS: &str = "oxbull_queue_jobs";
const OLDEST_WAIT: &str = "oxbull_queue_oldest_wait_seconds";
const LAG: &str = "oxbull_queue_schedule_lag_seconds";
const RUNNING: &str = "oxbull_worker_running_jobs";
const HEALTHY: &str = "oxbull_worker_healthy";
const REDIS_UP: &str = "oxbull_redis_up";

/// The metrics of a program; clones share them.
#[derive(Debug, Clone)]
pub struct MetricsRegistry {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Default for MetricsRegistry {
    /// None so far.
    fn default() -> Self {
        // No bounds are refused but an empty list of them.
        let recorder = builder().unwrap_or_default().build_recorder();
        let handle = recorder.handle();
        let metrics = Self {
            recorder: Arc::new(recorder),
            handle,
        };
        metrics.record(|| {
            describe_gauge!(JOBS, "Jobs of the queue by state.");
            describe_gauge!(OLDEST_WAIT, "How long the next waiting job has been due.");
            describe_gauge!(LAG, "How overdue the earliest delayed job is.");
            describe_gauge!(RUNNING, "Jobs whose handler runs in this process.");
            describe_gauge!(HEALTHY, "Whether the worker works.");
            describe_gauge!(REDIS_UP, "Whether the queues' Redis answers.");
        });
        metrics
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_size".to_owned()), &BATCHES)
}

impl MetricsRegistry {
    /// Collects the library's metrics too. Only the first registry of a process does.
    pub fn install(&self) {
        if metrics::set_global_recorder(Arc::clone(&self.recorder)).is_err() {
            tracing::warn!("another metrics recorder is installed");
        }
        oxbull::describe_metrics();
    }

    /// Runs a closure that records metrics here.
    pub(crate) fn record<T>(&self, count: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&*self.recorder, count)
    }

    /// Records a queue's backlog.
    pub(crate) fn backlog<D>(&self, queue: &Queue<D>, backlog: &Backlog) {
        let name = queue.name().as_str().to_owned();
        self.record(|| {
            for state in JobState::ALL {
                let jobs = gauge!(JOBS, "queue" => name.clone(), "state" => state.as_str());
                #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 jobs")]
                jobs.set(backlog.counts.of(state) as f64);
            }
            for (gauge, time) in [
                (
                    gauge!(OLDEST_WAIT, "queue" => name.clone()),
                    backlog.oldest_wait,
                ),
                (gauge!(LAG, "queue" => name.clone()), backlog.schedule_lag),
            ] {
                gauge.set(time.unwrap_or_default().as_secs_f64());
            }
        });
    }

    /// Records a worker's health.
    pub(crate) fn worker<D>(&self, queue: &Queue<D>, health: &WorkerHealth) {
        let name = queue.name().as_str().to_owned();
        self.record(|| {
            #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52 jobs")]
            gauge!(RUNNING, "queue" => name.clone()).set(health.running as f64);
            let healthy = f64::from(u8::from(health.is_healthy()));
            gauge!(HEALTHY, "queue" => name).set(healthy);
        });
    }

    /// Records whether Redis answers.
    pub(crate) fn redis_up(&self, is_up: bool) {
        let up = f64::from(u8::from(is_up));
        self.record(|| gauge!(REDIS_UP).set(up));
    }

    /// Drains histograms, so that memory stays bounded without scrapes; to be called every few seconds.
    pub(crate) fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// All metrics as text.
    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }
}
