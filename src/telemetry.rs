//! Spans of jobs: one of the producer around each add, one of the consumer around each attempt, and those of
//! operations on queues (`docs/protocol.md#telemetry`).
//!
//! They are plain `tracing` spans. With the feature `opentelemetry` they get the names, kinds and attributes of
//! `bullmq-otel`, and a job's options carry the trace context from the one to the other. Nothing of a payload
//! is in them. Where nobody is interested in a span, it is disabled and nothing is computed for it.

#[cfg(feature = "opentelemetry")]
mod bridge;
mod meter;
mod operation;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::error::{Chain, Result};
use crate::job::{Added, JobOptions, JobRecord};

#[cfg(feature = "opentelemetry")]
use bridge::Described;
#[cfg(feature = "opentelemetry")]
pub(crate) use meter::record_counts;
pub(crate) use meter::{JobEnd, Meter};
pub(crate) use operation::Operation;

/// What an attempt came to, once Redis has it.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(feature = "opentelemetry"),
    expect(dead_code, reason = "only spans of OpenTelemetry say it")
)]
pub(crate) enum End<'a> {
    Completed,
    /// It failed for this reason, which has further causes maybe.
    Failed {
        reason: &'a str,
        causes: Option<&'a str>,
    },
}

/// The span around the add of one job.
pub(crate) fn add(queue: &str, name: &str) -> Span {
    let span = info_span!(
        "add",
        %queue,
        %name,
        id = Empty,
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(described) = Described::new(&span, "producer", "add", queue) {
        described.named(format_args!("{queue}.{name}"));
        described.attribute("bullmq.job.name", name.to_owned());
    }
    span
}

/// The span around the add of many jobs.
pub(crate) fn add_bulk<'a>(queue: &str, names: impl ExactSizeIterator<Item = &'a str>) -> Span {
    let span = info_span!(
        "add_bulk",
        %queue,
        jobs = names.len(),
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(described) = Described::new(&span, "producer", "addBulk", queue) {
        described.named(format_args!("{queue}"));
        described.attribute("bullmq.job.bulk.count", bridge::integer(names.len()));
        described.texts("bullmq.job.bulk.names", names);
    }
    #[cfg(not(feature = "opentelemetry"))]
    drop(names);
    span
}

/// The span around the add of a flow whose root has this name; around all flows of a call, where there are several.
pub(crate) fn add_flows<'a>(queue: &str, names: impl ExactSizeIterator<Item = &'a str>) -> Span {
    let flows = names.len();
    let span = info_span!(
        "add_flows",
        %queue,
        flows,
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    {
        let several = flows > 1;
        let (operation, queue) = if several {
            ("addBulkFlows", "")
        } else {
            ("addFlow", queue)
        };
        if let Some(described) = Described::new(&span, "producer", operation, queue) {
            described.named(format_args!("{queue}"));
            let names: Vec<_> = names.collect();
            if several {
                described.attribute("bullmq.job.bulk.count", bridge::integer(flows));
                described.attribute("bullmq.job.bulk.names", names.join(","));
            } else {
                described.attribute("bullmq.flow.name", names.join(","));
            }
        }
    }
    #[cfg(not(feature = "opentelemetry"))]
    drop(names);
    span
}

/// The span of a job within the add of its flow, a child of the one of its parent in the flow, or of the flow's.
pub(crate) fn add_node(parent: &Span, queue: &str, name: &str, id: &dyn fmt::Display) -> Span {
    let span = info_span!(
        parent: parent,
        "add_node",
        %queue,
        %name,
        id = display(id),
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(described) = Described::new(&span, "producer", "addNode", queue) {
        described.named(format_args!("{queue}"));
        described.attribute("bullmq.job.name", name.to_owned());
        described.attribute("bullmq.job.id", id.to_string());
    }
    span
}

/// The span around a job scheduler's making of an iteration named `name`: an upsert, or the start of the
/// iteration before.
pub(crate) fn add_iteration(queue: &str, scheduler: &str, name: &str) -> Span {
    let span = info_span!(
        "add_iteration",
        %queue,
        %scheduler,
        %name,
        id = Empty,
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(described) = Described::new(&span, "producer", "add", queue) {
        described.named(format_args!("{queue}.{name}"));
        described.attribute("bullmq.job.scheduler.id", scheduler.to_owned());
    }
    span
}

/// Notes what became of an add.
pub(crate) fn added(span: &Span, result: &Result<Added>) {
    match result {
        Ok(added) => made(span, &added.id),
        Err(error) => failed(span, &Chain(error)),
    }
}

/// Notes the job that an add has made, or found in its place.
pub(crate) fn made(span: &Span, id: &dyn fmt::Display) {
    span.record("id", display(id));
    #[cfg(feature = "opentelemetry")]
    bridge::attribute(span, "bullmq.job.id", id);
}

/// Notes an error by which a span ends.
pub(crate) fn failed(span: &Span, error: &dyn fmt::Display) {
    #[cfg(feature = "opentelemetry")]
    bridge::failed(span, error);
    #[cfg(not(feature = "opentelemetry"))]
    let _ = (span, error);
}

/// Lets a job carry the trace context of the span around its add, unless its options have or omit one.
pub(crate) fn carry(span: &Span, options: &mut JobOptions) {
    #[cfg(feature = "opentelemetry")]
    bridge::carry(span, options);
    #[cfg(not(feature = "opentelemetry"))]
    let _ = (span, options);
}

/// Who processes a job.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(feature = "opentelemetry"),
    expect(dead_code, reason = "only spans of OpenTelemetry say it")
)]
pub(crate) struct Processor {
    pub(crate) queue: Arc<str>,
    /// The worker's own id.
    pub(crate) id: Arc<str>,
    /// The name that the user gave the worker.
    pub(crate) name: Option<Arc<str>>,
}

/// The span around an attempt at a job, a child of the span around its add.
pub(crate) fn process(processor: &Processor, job: &JobRecord) -> Span {
    let queue = &*processor.queue;
    let span = info_span!(
        parent: None,
        "job",
        %queue,
        id = %job.id,
        name = %job.name,
        attempt = job.attempts_started,
        otel.name = Empty,
        otel.kind = Empty
    );
    #[cfg(feature = "opentelemetry")]
    if let Some(described) = Described::new(&span, "consumer", "process", queue) {
        bridge::adopt(&span, job);
        described.named(format_args!("{queue}"));
        described.attribute("bullmq.worker.id", processor.id.to_string());
        if let Some(name) = &processor.name {
            described.attribute("bullmq.worker.name", name.to_string());
        }
        described.attribute("bullmq.job.id", job.id.to_string());
        described.attribute("bullmq.job.name", job.name.clone());
        if let Some(started) = job.processed_on {
            described.attribute("bullmq.job.processed.timestamp", started.as_millis());
        }
    }
    span
}

/// Notes what an attempt came to that took so long, once Redis has it.
pub(crate) fn processed(span: &Span, job: &JobRecord, end: End<'_>, took: Duration) {
    #[cfg(feature = "opentelemetry")]
    bridge::processed(span, job, end, took);
    #[cfg(not(feature = "opentelemetry"))]
    let _ = (span, job, end, took);
}
