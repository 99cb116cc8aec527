//! Numbers of ended attempts, as `bullmq-otel` gives them to OpenTelemetry (`docs/protocol.md#telemetry`).
//!
//! They go to the meter provider that the process has installed when a worker is made. Without the feature
//! `opentelemetry` there are none.

use std::sync::Arc;
use std::time::Duration;

use crate::job::JobRecord;

#[cfg(feature = "opentelemetry")]
use opentelemetry::metrics::{Counter, Histogram};
#[cfg(feature = "opentelemetry")]
use opentelemetry::{KeyValue, global};

/// Where an attempt left its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    Completed,
    Failed,
    /// It runs again at once, after a failure.
    Retried,
    /// It runs again later.
    Delayed,
    /// It runs again at once, as its handler asked.
    Waiting,
    WaitingChildren,
}

#[cfg(feature = "opentelemetry")]
impl JobEnd {
    /// The ends, as their attribute names them.
    const ALL: [(Self, &'static str); 6] = [
        (Self::Completed, "completed"),
        (Self::Failed, "failed"),
        (Self::Retried, "retried"),
        (Self::Delayed, "delayed"),
        (Self::Waiting, "waiting"),
        (Self::WaitingChildren, "waiting-children"),
    ];
}

/// Counts the attempts of a queue that end in this process.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    #[cfg(feature = "opentelemetry")]
    queue: Arc<str>,
    #[cfg(feature = "opentelemetry")]
    ends: Vec<Counter<u64>>,
    #[cfg(feature = "opentelemetry")]
    duration: Histogram<f64>,
}

impl Meter {
    pub(crate) fn new(queue: Arc<str>) -> Self {
        #[cfg(feature = "opentelemetry")]
        {
            let meter = global::meter("oxbull");
            let ends = JobEnd::ALL.iter().map(|(_, state)| {
                let metric = format!("bullmq.jobs.{}", state.replace('-', "_"));
                let counter = meter.u64_counter(metric).with_unit("1");
                let description = format!("Number of jobs {state}");
                counter.with_description(description).build()
            });
            let duration = meter.f64_histogram("bullmq.job.duration");
            let duration = duration
                .with_description("Job processing duration")
                .with_unit("ms");
            Self {
                queue,
                ends: ends.collect(),
                duration: duration.build(),
            }
        }
        #[cfg(not(feature = "opentelemetry"))]
        {
            drop(queue);
            Self {}
        }
    }

    /// Counts an attempt whose end is stored, and how long it took if that is known.
    pub(crate) fn ended(&self, job: &JobRecord, end: JobEnd, took: Duration) {
        #[cfg(feature = "opentelemetry")]
        {
            let all = JobEnd::ALL.iter().zip(&self.ends);
            let Some(((_, state), counter)) = all.into_iter().find(|(of, _)| of.0 == end) else {
                return;
            };
            let attributes = [
                KeyValue::new("bullmq.queue.name", Arc::clone(&self.queue)),
                KeyValue::new("bullmq.job.name", job.name.clone()),
                KeyValue::new("bullmq.job.state", *state),
            ];
            counter.add(1, &attributes);
            if job.processed_on.is_some() {
                self.duration
                    .record(took.as_secs_f64() * 1000.0, &attributes);
            }
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (self, job, end, took);
    }
}

/// Records how many jobs of a queue are in each state.
#[cfg(feature = "opentelemetry")]
pub(crate) fn record_counts<'a>(queue: &str, counts: impl IntoIterator<Item = (&'a str, u64)>) {
    let meter = global::meter("oxbull");
    let gauge = meter.u64_gauge("bullmq.queue.jobs");
    let gauge = gauge.with_description("Number of jobs in the queue by state");
    let gauge = gauge.with_unit("{jobs}").build();
    for (state, count) in counts {
        let attributes = [
            KeyValue::new("bullmq.queue.name", queue.to_owned()),
            KeyValue::new("bullmq.queue.jobs.state", state.to_owned()),
        ];
        gauge.record(count, &attributes);
    }
}
