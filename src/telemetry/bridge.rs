//! What makes OpenTelemetry's spans of ours, for a process with the layer of `tracing-opentelemetry`.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use opentelemetry::trace::{Status, TraceContextExt};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value, global};
use serde_json::{Map, Value as Json};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::End;
use crate::job::{JobOptions, JobRecord, Telemetry};

/// The longest metadata that is read, in bytes: contexts have a few hundred, and W3C bounds them at some ten thousand.
const METADATA_MAX: usize = 64 * 1024;

/// How many characters of a failure's text are in a span.
const REASON_MAX: usize = 4096;

/// A span that somebody is interested in, as `bullmq-otel` would describe it.
#[derive(Debug)]
pub(super) struct Described<'a> {
    span: &'a Span,
    operation: &'static str,
}

impl<'a> Described<'a> {
    /// Gives the span its kind, operation and queue; `None` when nobody is interested.
    pub(super) fn new(
        span: &'a Span,
        kind: &'static str,
        operation: &'static str,
        queue: &str,
    ) -> Option<Self> {
        if span.is_disabled() {
            return None;
        }
        span.record("otel.kind", kind);
        let described = Self { span, operation };
        described.attribute("bullmq.queue.name", queue.to_owned());
        described.attribute("bullmq.queue.operation", operation);
        Some(described)
    }

    /// Names the span by its operation and what that is about.
    pub(super) fn named(&self, destination: fmt::Arguments<'_>) {
        let operation = self.operation;
        let name = format!("{operation} {destination}");
        self.span.record("otel.name", name.trim_end());
    }

    pub(super) fn attribute(&self, key: &'static str, value: impl Into<Value>) {
        self.span.set_attribute(key, value);
    }

    pub(super) fn texts<'t>(&self, key: &'static str, texts: impl Iterator<Item = &'t str>) {
        let texts = texts.map(|text| StringValue::from(text.to_owned()));
        self.attribute(key, Value::Array(Array::String(texts.collect())));
    }
}

/// A count as an attribute.
pub(super) fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Sets an attribute that is known at the end only.
pub(super) fn attribute(span: &Span, key: &'static str, value: &dyn fmt::Display) {
    if !span.is_disabled() {
        span.set_attribute(key, value.to_string());
    }
}

/// Sets an attribute that is no text.
pub(super) fn value(span: &Span, key: &'static str, value: impl Into<Value>) {
    if !span.is_disabled() {
        span.set_attribute(key, value);
    }
}

/// Records an error, and that the span has failed by it.
pub(super) fn failed(span: &Span, error: &dyn fmt::Display) {
    if !span.is_disabled() {
        exception(span, cut(error.to_string()));
    }
}

/// Cuts a text to what a span should hold.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(REASON_MAX) {
        text.truncate(end);
    }
    text
}

fn exception(span: &Span, message: String) {
    span.add_event(
        "exception",
        vec![KeyValue::new("exception.message", message.clone())],
    );
    span.set_status(Status::error(message));
}

/// Stores the context of a producer's span with the job, as JSON text that `bullmq-otel` reads.
pub(super) fn carry(span: &Span, options: &mut JobOptions) {
    let given = options.telemetry.as_ref();
    let omitted = given.is_some_and(|given| given.omit_context == Some(true));
    if omitted || given.is_some_and(|given| given.metadata.is_some()) {
        return;
    }
    if let Some(metadata) = metadata(&context(span)) {
        let telemetry = options.telemetry.get_or_insert_with(Telemetry::default);
        telemetry.metadata = Some(metadata);
    }
}

/// The context of a producer's span; where that is filtered out, the one it would be in.
fn context(span: &Span) -> Context {
    let candidates = [
        |span: &Span| span.context(),
        |_: &Span| Span::current().context(),
    ];
    let mut found = candidates.iter().map(|context| context(span));
    found
        .find(|context| context.span().span_context().is_valid())
        .unwrap_or_else(Context::current)
}

/// Writes a context in the form that the process's propagator gives it; `None` for one that is empty.
fn metadata(context: &Context) -> Option<String> {
    let mut fields = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(context, &mut fields));
    let fields: Map<String, Json> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name, value.into()))
        .collect();
    (!fields.is_empty()).then(|| Json::Object(fields).to_string())
}

/// Makes a consumer's span a child of the producer's, where the job names that in a form that can be read.
pub(super) fn adopt(span: &Span, job: &JobRecord) {
    let telemetry = job.options.telemetry.as_ref();
    if let Some(metadata) = telemetry.and_then(|telemetry| telemetry.metadata.as_ref())
        && let Some(parent) = parent(metadata)
    {
        // Without the layer there is nothing that could have a parent.
        drop(span.set_parent(parent));
    }
}

/// Reads a context; what is no text in it is another writer's.
fn parent(metadata: &str) -> Option<Context> {
    if metadata.len() > METADATA_MAX {
        return None;
    }
    let fields: Map<String, Json> = serde_json::from_str(metadata).ok()?;
    let fields: HashMap<String, String> = fields
        .into_iter()
        .filter_map(|(name, value)| match value {
            Json::String(value) => Some((name.to_lowercase(), value)),
            _ => None,
        })
        .collect();
    Some(global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&Context::new(), &fields)
    }))
}

/// Adds what is known of an attempt at its end.
pub(super) fn processed(span: &Span, job: &JobRecord, end: End<'_>, took: Duration) {
    if span.is_disabled() {
        return;
    }
    let made = job.attempts_made.saturating_add(1);
    span.set_attribute("bullmq.job.attempts.made", i64::from(made));
    if let Some(started) = job.processed_on {
        let finished = (started + took).as_millis();
        span.set_attribute("bullmq.job.attempt_finished_timestamp", finished);
    }
    match end {
        // Without the result: it may be secret.
        End::Completed => span.add_event("job completed", Vec::new()),
        End::Failed { reason, causes } => {
            let attribute = KeyValue::new("bullmq.job.failed.reason", cut(reason.to_owned()));
            span.add_event("job failed", vec![attribute]);
            let causes = causes.map(|causes| format!("{reason}: {causes}"));
            exception(span, cut(causes.unwrap_or_else(|| reason.to_owned())));
        }
    }
}
