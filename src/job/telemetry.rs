//! Trace context of a job.

/// Trace context that travels with a job (`docs/protocol.md#telemetry`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Telemetry {
    /// Text that the worker's telemetry understands.
    pub metadata: Option<String>,
    /// Whether workers are not to continue the producer's trace.
    pub omit_context: Option<bool>,
}

impl Telemetry {
    /// Carries `metadata`, text that the worker's telemetry understands: for `bullmq-otel` and for ours the text of a JSON
    /// object, such as `{"traceparent":"00-…"}`. It takes the place of the context that the feature `opentelemetry`
    /// would store.
    ///
    /// Some text stops a worker of BullMQ with `bullmq-otel`: give it what an OpenTelemetry propagator writes.
    pub fn new(metadata: impl Into<String>) -> Self {
        Self {
            metadata: Some(metadata.into()),
            omit_context: None,
        }
    }

    /// Asks workers not to continue the producer's trace.
    #[must_use]
    pub fn omit_context(mut self) -> Self {
        self.omit_context = Some(true);
        self
    }
}
