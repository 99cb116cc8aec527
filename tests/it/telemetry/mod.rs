//! Spans of adds and attempts, collected in memory, and traces shared with `bullmq-otel`.

mod hostile;
mod meters;
mod node;
mod operations;
mod spans;

use std::sync::Once;

use opentelemetry::propagation::TextMapCompositePropagator;
use opentelemetry::trace::{SpanKind, Status, TracerProvider};
use opentelemetry::{Value as Attribute, global};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::{
    InMemorySpanExporter, InMemorySpanExporterBuilder, Sampler, SdkTracerProvider, SpanData,
};
use oxbull::{JobId, Queue, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::Value;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

/// Collects the spans of this test's thread while it lives.
struct Collector {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
    _guard: DefaultGuard,
    /// As for `Logs`: with one dispatcher only, a thread without one would turn spans off for all.
    _second: Dispatch,
}

impl Collector {
    fn start() -> Self {
        Self::with(&Targets::new().with_default(LevelFilter::TRACE))
    }

    fn with(filter: &Targets) -> Self {
        Self::sampled(filter, Sampler::AlwaysOn)
    }

    fn sampled(filter: &Targets, sampler: Sampler) -> Self {
        static PROPAGATOR: Once = Once::new();
        PROPAGATOR.call_once(|| {
            global::set_text_map_propagator(TextMapCompositePropagator::new(vec![
                Box::new(TraceContextPropagator::new()),
                Box::new(BaggagePropagator::new()),
            ]));
        });
        let exporter = InMemorySpanExporterBuilder::new().build();
        let provider = SdkTracerProvider::builder()
            .with_simple_exporter(exporter.clone())
            .with_sampler(sampler)
            .build();
        let subscriber = || {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("oxbull"));
            Registry::default().with(layer.with_filter(filter.clone()))
        };
        let second = Dispatch::new(subscriber());
        let guard = tracing::subscriber::set_default(subscriber());
        Self {
            exporter,
            _provider: provider,
            _guard: guard,
            _second: second,
        }
    }

    /// The ended spans of a name, the oldest first.
    fn all(&self, name: &str) -> TestResult<Vec<Span>> {
        let spans = self.exporter.get_finished_spans()?.into_iter();
        Ok(spans.filter(|span| span.name == name).map(Span).collect())
    }

    /// Waits until so many spans of a name have ended.
    async fn wait<const N: usize>(&self, name: &str) -> TestResult<[Span; N]> {
        let spans = eventually(DEADLINE, || async {
            let spans = self.all(name).map_err(|error| format!("{error:?}"))?;
            let seen = self.exporter.get_finished_spans();
            <[Span; N]>::try_from(spans).map_err(|spans| {
                let names = seen.into_iter().flatten().map(|span| span.name);
                let names: Vec<_> = names.collect();
                format!("{} of {name}: {names:?}", spans.len())
            })
        });
        Ok(spans.await?)
    }

    async fn one(&self, name: &str) -> TestResult<Span> {
        let [span] = self.wait(name).await?;
        Ok(span)
    }
}

/// Stores a job as another writer might, with this text for its options.
async fn store(fixture: &Fixture, id: &str, options: &str) -> TestResult {
    let key = fixture.key(id);
    let hash = [
        "HSET",
        &key,
        "name",
        "done",
        "data",
        "{}",
        "opts",
        options,
        "timestamp",
        "1",
    ];
    fixture.server.cli(&hash).await?;
    let wait = fixture.key("wait");
    fixture.server.cli(&["LPUSH", &wait, id]).await?;
    Ok(())
}

#[derive(Debug)]
struct Span(SpanData);

impl Span {
    fn id(&self) -> String {
        self.0.span_context.span_id().to_string()
    }

    fn trace(&self) -> String {
        self.0.span_context.trace_id().to_string()
    }

    /// The parent's id; only zeros for none.
    fn parent(&self) -> String {
        self.0.parent_span_id.to_string()
    }

    fn kind(&self) -> &SpanKind {
        &self.0.span_kind
    }

    fn status(&self) -> &Status {
        &self.0.status
    }

    fn attribute(&self, key: &str) -> Option<&Attribute> {
        let mut attributes = self.0.attributes.iter();
        let found = attributes.find(|attribute| attribute.key.as_str() == key);
        found.map(|attribute| &attribute.value)
    }

    fn text(&self, key: &str) -> String {
        self.attribute(key)
            .map_or_else(String::new, |value| value.as_str().into_owned())
    }

    /// The names of the attributes that `bullmq-otel` has too, each once.
    fn shared_attributes(&self) -> Vec<String> {
        let keys = self.0.attributes.iter().map(|a| a.key.as_str().to_owned());
        let mut keys: Vec<_> = keys.filter(|key| key.starts_with("bullmq.")).collect();
        keys.sort();
        keys
    }

    /// Events and the texts of their attributes.
    fn events(&self) -> Vec<(String, Vec<(String, String)>)> {
        let events = self.0.events.iter().map(|event| {
            let attributes = event.attributes.iter();
            let attributes = attributes.map(|attribute| {
                let text = attribute.value.as_str().into_owned();
                (attribute.key.as_str().to_owned(), text)
            });
            (event.name.to_string(), attributes.collect())
        });
        events.collect()
    }

    /// What names this span as a parent, in the form of W3C.
    fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace(), self.id())
    }

    fn is_root(&self) -> bool {
        self.parent().bytes().all(|digit| digit == b'0')
    }
}

/// The context that a job carries.
async fn carried(queue: &Queue<Value>, id: &JobId) -> TestResult<Option<String>> {
    let job = queue.job(id).await?.ok_or("the job is gone")?;
    Ok(job.options.telemetry.and_then(|given| given.metadata))
}

/// Starts a worker whose jobs say what it does.
async fn scripted_worker(fixture: &Fixture) -> TestResult<Worker> {
    let builder = Worker::builder(&fixture.client, "q").name("rust");
    Ok(builder.start(scripted).await?)
}
