//! Numbers that both libraries give to OpenTelemetry.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, SdkMeterProvider};
use oxbull::{
    Backoff, ChildPolicy, Context, Job, JobOptions, JobResult, ManualWorker, Outcome, Worker,
};
use oxbull_testkit::NodePeer;
use serde::Deserialize;
use serde_json::{Map, json};

use super::*;

/// A series: kind, name, description and unit of its metric, and its attributes without the queue's name.
type Series = (String, String, String, String, BTreeMap<String, String>);

/// How many values each series has; of a gauge, its value.
type Recorded = BTreeMap<Series, u64>;

/// What the process has recorded about a queue. All tests of the process share a meter provider.
fn ours(queue: &str) -> TestResult<Recorded> {
    let (provider, exporter) = meters();
    provider.force_flush()?;
    let mut recorded = Recorded::new();
    let newest = exporter.get_finished_metrics()?.pop();
    let newest = newest.ok_or("nothing was exported")?;
    let scopes = newest
        .scope_metrics()
        .filter(|scope| scope.scope().name() == "oxbull");
    for metric in scopes.flat_map(|scope| scope.metrics().collect::<Vec<_>>()) {
        let mut note = |kind: &str, attributes: Vec<KeyValue>, value: u64| {
            let of = attributes
                .iter()
                .any(|a| a.key == Key::new("bullmq.queue.name") && a.value.as_str() == queue);
            if of {
                let attributes = attributes
                    .iter()
                    .filter(|a| a.key.as_str() != "bullmq.queue.name");
                let attributes = attributes.map(|a| (a.key.to_string(), a.value.to_string()));
                let [name, description, unit] =
                    [metric.name(), metric.description(), metric.unit()];
                let [name, description, unit] = [name, description, unit].map(str::to_owned);
                recorded.insert(
                    (
                        kind.to_owned(),
                        name,
                        description,
                        unit,
                        attributes.collect(),
                    ),
                    value,
                );
            }
        };
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                for point in sum.data_points() {
                    note(
                        "counter",
                        point.attributes().cloned().collect(),
                        point.value(),
                    );
                }
            }
            AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                for point in gauge.data_points() {
                    note(
                        "gauge",
                        point.attributes().cloned().collect(),
                        point.value(),
                    );
                }
            }
            AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                for point in histogram.data_points() {
                    assert!((0.0..60_000.0).contains(&point.sum()), "{point:?}");
                    note(
                        "histogram",
                        point.attributes().cloned().collect(),
                        point.count(),
                    );
                }
            }
            other => return Err(format!("{}: {other:?}", metric.name()).into()),
        }
    }
    Ok(recorded)
}

fn meters() -> &'static (SdkMeterProvider, InMemoryMetricExporter) {
    static METERS: OnceLock<(SdkMeterProvider, InMemoryMetricExporter)> = OnceLock::new();
    METERS.get_or_init(|| {
        let exporter = InMemoryMetricExporter::default();
        let provider = SdkMeterProvider::builder()
            .with_periodic_exporter(exporter.clone())
            .build();
        global::set_meter_provider(provider.clone());
        (provider, exporter)
    })
}

/// What the peer has recorded about a queue.
async fn theirs(peer: &NodePeer, queue: &str) -> TestResult<Recorded> {
    #[derive(Debug, Deserialize)]
    struct Record {
        kind: String,
        name: String,
        description: String,
        unit: String,
        value: u64,
        attributes: Map<String, Value>,
    }
    let records = peer.call("recorded", json!({})).await?;
    let records: Vec<Record> = serde_json::from_value(records)?;
    let mut recorded = Recorded::new();
    for mut record in records {
        if record.attributes.remove("bullmq.queue.name") == Some(queue.into()) {
            let attributes = record.attributes.into_iter();
            let attributes =
                attributes.map(|(key, value)| (key, value.as_str().unwrap_or("?").to_owned()));
            let attributes = attributes.collect();
            let is_gauge = record.kind == "gauge";
            let series = (
                record.kind,
                record.name,
                record.description,
                record.unit,
                attributes,
            );
            *recorded.entry(series).or_default() += if is_gauge { record.value } else { 1 };
        }
    }
    Ok(recorded)
}

/// As [`scripted`]; a job may also add a child and wait for it.
async fn work(job: Job<Value>, context: Context) -> JobResult<Value> {
    if job.data()["do"] == "children" && job.attempts_started() == 1 {
        let queue: Queue<Value> = Queue::open(context.client(), "ours").await?;
        let options = JobOptions::new();
        job.add_child(&queue, ChildPolicy::Wait, "part", &json!({}), options)
            .await?;
        return Ok(Outcome::WaitForChildren);
    }
    scripted(job, context).await
}

/// Every way in which an attempt can end counts alike, under equal names, kinds, units and attributes.
#[tokio::test]
async fn ended_attempts_are_counted_as_bullmq_otel_counts_them() -> TestResult {
    meters();
    let fixture = Fixture::start().await?;
    let peer = NodePeer::builder("tracing.mjs")
        .env("REDIS_PORT", fixture.server.port().to_string())
        .start()?;
    let worker = Worker::builder(&fixture.client, "ours").start(work).await?;
    peer.call("work.scripted", json!({ "queue": "theirs" }))
        .await?;
    let options = JobOptions::new;
    let later = options()
        .attempts(2)
        .backoff(Backoff::fixed(Duration::from_millis(10)));
    for name in ["ours", "theirs"] {
        let queue: Queue<Value> = Queue::open(&fixture.client, name).await?;
        for (name, what, options) in [
            ("done", "s3cret", options()),
            ("fail", "fail", options()),
            ("again", "fail once", options().attempts(2)),
            ("later", "fail once", later.clone()),
            ("delay", "delay once", options()),
            ("release", "release once", options()),
            ("limit", "limit once", options()),
            ("parent", "children", options()),
        ] {
            queue
                .add_with(name, &json!({ "do": what }), options)
                .await?;
        }
        eventually(DEADLINE, || async {
            let counts = queue.counts().await.map_err(|error| error.to_string())?;
            let ended = counts.completed == 8 && counts.failed == 1;
            ended.then_some(()).ok_or_else(|| format!("{counts:?}"))
        })
        .await?;
    }
    worker.close().await;
    peer.call("work.end", json!({})).await?;
    let (ours, theirs) = (ours("ours")?, theirs(&peer, "theirs").await?);
    assert!(theirs.len() >= 24, "{theirs:#?}");
    assert_eq!(ours, theirs);
    assert!(!format!("{ours:?}").contains("s3cret"));
    peer.close().await?;
    Ok(())
}

/// So are the ends of jobs that were started by hand, and how many jobs are in each state.
#[tokio::test]
async fn manual_ends_and_states_are_recorded() -> TestResult {
    meters();
    let fixture = Fixture::start().await?;
    let peer = NodePeer::builder("tracing.mjs")
        .env("REDIS_PORT", fixture.server.port().to_string())
        .start()?;
    for name in ["manual", "node"] {
        let queue: Queue<Value> = Queue::open(&fixture.client, name).await?;
        for priority in [0, 0, 7] {
            queue
                .add_with("n", &json!({}), JobOptions::new().priority(priority))
                .await?;
        }
        if name == "manual" {
            let worker = ManualWorker::new(&fixture.client, name)?;
            let done = worker.fetch("t").await?.ok_or("no job")?;
            let failing = worker
                .finish_and_fetch(&done, "t", Ok(Outcome::Done(1)))
                .await?;
            let failed = Err::<Outcome<()>, _>(oxbull::JobError::fatal("by hand"));
            worker
                .finish(&failing.ok_or("no job")?, "t", failed)
                .await?;
            assert_eq!(queue.record_counts().await?.prioritized, 1);
        } else {
            peer.call("manual", json!({ "queue": name })).await?;
            peer.call("manual", json!({ "queue": name, "fail": true }))
                .await?;
            peer.call("record.counts", json!({ "queue": name })).await?;
        }
    }
    let theirs = theirs(&peer, "node").await?;
    assert_eq!(theirs.len(), 7 + 4, "{theirs:#?}");
    assert_eq!(ours("manual")?, theirs);
    peer.close().await?;
    Ok(())
}
