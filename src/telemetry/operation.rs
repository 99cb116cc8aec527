//! Spans of what is done to a queue or to its jobs by hand.

use std::fmt;

use tracing::field::Empty;
use tracing::{Instrument, Span, info_span};

use crate::error::{Chain, Result};
use crate::job::JobRecord;

#[cfg(feature = "opentelemetry")]
use super::bridge::{self, Described};

/// A span around an operation, inside of the caller's.
#[derive(Debug)]
pub(crate) struct Operation(Span);

impl Operation {
    /// Describes an operation, by the name that `bullmq-otel` gives it.
    pub(crate) fn new(queue: &str, name: &'static str) -> Self {
        Self::of_kind("internal", queue, name)
    }

    /// As [`new`](Self::new), for one that makes jobs run.
    pub(crate) fn producer(queue: &str, name: &'static str) -> Self {
        Self::of_kind("producer", queue, name)
    }

    fn of_kind(kind: &'static str, queue: &str, name: &'static str) -> Self {
        let span = info_span!(
            "operation",
            %queue,
            operation = name,
            otel.name = Empty,
            otel.kind = Empty
        );
        #[cfg(feature = "opentelemetry")]
        if let Some(described) = Described::new(&span, kind, name, queue) {
            described.named(format_args!("{queue}"));
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = kind;
        Self(span)
    }

    /// Adds text.
    pub(crate) fn text(self, key: &'static str, value: impl fmt::Display) -> Self {
        #[cfg(feature = "opentelemetry")]
        bridge::attribute(&self.0, key, &value);
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (key, &value);
        self
    }

    /// Adds a number.
    pub(crate) fn number(self, key: &'static str, value: impl TryInto<i64>) -> Self {
        self.note(key, value);
        self
    }

    /// Adds a yes or no.
    pub(crate) fn flag(self, key: &'static str, value: bool) -> Self {
        #[cfg(feature = "opentelemetry")]
        bridge::value(&self.0, key, value);
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (key, value);
        self
    }

    /// Adds a number that is known at the end.
    pub(crate) fn note(&self, key: &'static str, value: impl TryInto<i64>) {
        #[cfg(feature = "opentelemetry")]
        bridge::value(&self.0, key, value.try_into().unwrap_or(i64::MAX));
        #[cfg(not(feature = "opentelemetry"))]
        drop((self, key, value));
    }

    /// Names the job that was fetched, and makes the span a part of its trace.
    pub(crate) fn fetched(&self, job: &JobRecord) {
        #[cfg(feature = "opentelemetry")]
        if !self.0.is_disabled() {
            bridge::adopt(&self.0, job);
            bridge::attribute(&self.0, "bullmq.job.id", &job.id);
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (self, job);
    }

    /// Names the job that ends, and makes the span a part of its trace unless it is in one of the caller's.
    pub(crate) fn ends(&self, job: &JobRecord) {
        #[cfg(feature = "opentelemetry")]
        if !self.0.is_disabled() {
            if Span::current().is_disabled() {
                bridge::adopt(&self.0, job);
            }
            bridge::value(&self.0, "bullmq.job.name", job.name.clone());
            bridge::attribute(&self.0, "bullmq.job.id", &job.id);
        }
        #[cfg(not(feature = "opentelemetry"))]
        let _ = (self, job);
    }

    /// Runs the operation, and notes the error by which it ends.
    pub(crate) async fn around<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let result = work.instrument(self.0.clone()).await;
        if let Err(error) = &result {
            self.failed(&Chain(error));
        }
        result
    }

    /// Notes an error.
    pub(crate) fn failed(&self, error: &dyn fmt::Display) {
        super::failed(&self.0, error);
    }
}
