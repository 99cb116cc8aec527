//! What spans say, and what jobs carry of them.

use std::time::Duration;

use opentelemetry::baggage::BaggageExt;
use opentelemetry::{Context as OtelContext, KeyValue};
use oxbull::{ChildPolicy, Error, FlowJob, FlowProducer, JobOptions, NewJob, Schedule, Telemetry};
use serde_json::json;
use tracing::Instrument;
use tracing::level_filters::LevelFilter;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::*;

/// Another writer's context.
const GIVEN: &str = r#"{"traceparent":"00-11111111111111111111111111111111-2222222222222222-01"}"#;

/// One span around the add, inside the caller's; its context is stored as `bullmq-otel` stores it.
#[tokio::test]
async fn add_stores_the_context_of_its_span() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let outer = tracing::info_span!("outer");
    let baggage = OtelContext::new().with_baggage([KeyValue::new("tenant", "a b")]);
    outer.set_parent(baggage)?;
    let id = fixture
        .add("done", JobOptions::new())
        .instrument(outer.clone())
        .await?;
    drop(outer);

    let outer = collector.one("outer").await?;
    let add = collector.one("add q.done").await?;
    assert_eq!(add.parent(), outer.id());
    assert_eq!(*add.kind(), SpanKind::Producer);
    assert_eq!(add.text("bullmq.job.id"), id.as_str());
    assert_eq!(add.text("bullmq.queue.operation"), "add");
    let stored: Value =
        serde_json::from_str(&fixture.field(&id, "opts").await?.ok_or("no options")?)?;
    let context = stored["tm"].as_str().ok_or("no context")?;
    assert_eq!(
        serde_json::from_str::<Value>(context)?,
        json!({ "traceparent": add.traceparent(), "baggage": "tenant=a%20b" })
    );
    Ok(())
}

/// What the caller says about telemetry holds, also in the queue's default options.
#[tokio::test]
async fn given_and_omitted_contexts_stay_as_they_are() -> TestResult {
    let fixture = Fixture::start().await?;
    let _collector = Collector::start();
    let omit = JobOptions::new().telemetry(Telemetry::default().omit_context());
    let id = fixture.add("done", omit.clone()).await?;
    assert_eq!(
        fixture.field(&id, "opts").await?.as_deref(),
        Some(r#"{"attempts":0,"omc":true}"#)
    );
    let given = JobOptions::new().telemetry(Telemetry::new(GIVEN));
    let id = fixture.add("done", given).await?;
    assert_eq!(carried(&fixture.queue, &id).await?.as_deref(), Some(GIVEN));

    let builder = Queue::<Value>::builder(&fixture.client, "q");
    let quiet = builder.default_options(omit).open().await?;
    let id = quiet.add("done", &json!({})).await?.id;
    assert_eq!(carried(&quiet, &id).await?, None);
    Ok(())
}

/// Where our spans are filtered out, the caller's takes their place.
#[tokio::test]
async fn jobs_carry_the_callers_span_where_ours_are_off() -> TestResult {
    let fixture = Fixture::start().await?;
    let filter = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target("oxbull::telemetry", LevelFilter::OFF);
    let collector = Collector::with(&filter);
    let outer = tracing::info_span!("outer");
    let add = fixture.add("done", JobOptions::new());
    let id = add.instrument(outer.clone()).await?;
    drop(outer);
    let outer = collector.one("outer").await?;
    let context = carried(&fixture.queue, &id).await?.unwrap_or_default();
    assert!(context.contains(&outer.traceparent()), "{context}");
    assert_eq!(collector.exporter.get_finished_spans()?.len(), 1);
    Ok(())
}

/// Without a collector a job carries nothing, although the feature is there.
#[tokio::test]
async fn jobs_carry_nothing_where_nobody_listens() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("done", JobOptions::new()).await?;
    let options = fixture.field(&id, "opts").await?;
    assert_eq!(options.as_deref(), Some(r#"{"attempts":0}"#));
    Ok(())
}

/// One span for all jobs of a bulk add; each carries it unless it has its own.
#[tokio::test]
async fn bulk_add_has_one_span() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let given = JobOptions::new().telemetry(Telemetry::new(GIVEN));
    let jobs = vec![
        NewJob::new("a", json!({})),
        NewJob::new("b", json!({})).options(given),
    ];
    let added = fixture.queue.add_bulk(jobs).await?.into_result()?;
    let bulk = collector.one("addBulk q").await?;
    assert_eq!(*bulk.kind(), SpanKind::Producer);
    assert_eq!(bulk.text("bullmq.job.bulk.names"), r#"["a","b"]"#);
    assert_eq!(bulk.attribute("bullmq.job.bulk.count"), Some(&2.into()));
    let mut contexts = Vec::new();
    for added in &added {
        contexts.push(
            carried(&fixture.queue, &added.id)
                .await?
                .unwrap_or_default(),
        );
    }
    assert!(contexts[0].contains(&bulk.traceparent()), "{contexts:?}");
    assert_eq!(contexts[1], GIVEN);
    Ok(())
}

#[tokio::test]
async fn failed_add_is_recorded() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let options = JobOptions::new().size_limit(3);
    let data = json!({ "a": 1 });
    let refused = fixture.queue.add_with("big", &data, options).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    let add = collector.one("add q.big").await?;
    assert!(matches!(add.status(), Status::Error { .. }), "{add:?}");
    let events = add.events();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, "exception");
    Ok(())
}

/// Each attempt is a child of the add, whatever became of the one before, and what the job carries stays.
#[tokio::test]
async fn attempts_say_how_they_ended() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let id = fixture
        .add("fail once", JobOptions::new().attempts(2))
        .await?;
    let before = carried(&fixture.queue, &id).await?;
    let worker = scripted_worker(&fixture).await?;
    let [first, second] = collector.wait("process q").await?;
    let add = collector.one("add q.fail once").await?;
    for attempt in [&first, &second] {
        assert_eq!((attempt.trace(), attempt.parent()), (add.trace(), add.id()));
        assert_eq!(*attempt.kind(), SpanKind::Consumer);
        assert_eq!(attempt.text("bullmq.worker.name"), "rust");
    }
    assert_eq!(first.attribute("bullmq.job.attempts.made"), Some(&1.into()));
    let text = |key: &str| vec![(key.to_owned(), "it failed once".to_owned())];
    assert_eq!(
        first.events(),
        [
            ("job failed".to_owned(), text("bullmq.job.failed.reason")),
            ("exception".to_owned(), text("exception.message")),
        ]
    );
    assert_eq!(*first.status(), Status::error("it failed once"));
    assert_eq!(
        second.attribute("bullmq.job.attempts.made"),
        Some(&2.into())
    );
    assert_eq!(second.events(), [("job completed".to_owned(), Vec::new())]);
    assert_eq!(*second.status(), Status::Unset);
    assert_eq!(carried(&fixture.queue, &id).await?, before);
    worker.close().await;
    Ok(())
}

/// Neither data nor results are in spans.
#[tokio::test]
async fn payloads_are_not_in_spans() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let data = json!({ "do": "s3cret", "more": "s3cret" });
    fixture.queue.add("n", &data).await?;
    fixture
        .queue
        .add_bulk([NewJob::new("n", data)])
        .await?
        .into_result()?;
    let worker = scripted_worker(&fixture).await?;
    let _: [Span; 2] = collector.wait("process q").await?;
    let all = collector.exporter.get_finished_spans()?;
    assert!(all.len() >= 4, "{all:?}");
    let shown = format!("{all:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    worker.close().await;
    Ok(())
}

/// A context of any other kind is none; the job runs, in a trace of its own.
#[tokio::test]
async fn contexts_that_cannot_be_read_are_none() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let contexts = [
        json!(r#"{"traceparent":"00-0-1-01"}"#),
        json!(r#"{"traceparent":7,"baggage":[]}"#),
        json!(r#"{"traceparent":"00-00000000000000000000000000000000-2222222222222222-01"}"#),
        json!("[]"),
        json!(false),
        json!(7),
        json!({ "traceparent": "no text" }),
    ];
    let count = contexts.len();
    for (n, context) in contexts.iter().enumerate() {
        let options = json!({ "attempts": 0, "tm": context }).to_string();
        store(&fixture, &format!("j{n}"), &options).await?;
    }
    let worker = scripted_worker(&fixture).await?;
    fixture.ended(u64::try_from(count)?).await?;
    worker.close().await;
    let attempts = collector.all("process q")?;
    assert_eq!(attempts.len(), count);
    for attempt in &attempts {
        assert!(attempt.is_root(), "{attempt:?}");
        assert_eq!(attempt.events(), [("job completed".to_owned(), Vec::new())]);
    }
    Ok(())
}

/// Every iteration is a child of the upsert; that a worker made it is a span in the iteration before. The
/// definition keeps no context.
#[tokio::test]
async fn iterations_carry_the_context_of_their_upsert() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let schedule = Schedule::every(Duration::from_millis(50)).limit(2);
    let template = NewJob::new("tick", json!({}));
    let upserted = fixture.queue.upsert_scheduler("s", &schedule, template);
    let upserted = upserted.await?.ok_or("the schedule has no run")?;
    let scheduler = fixture.queue.scheduler("s").await?;
    assert_eq!(scheduler.ok_or("it is gone")?.options.telemetry, None);
    let worker = scripted_worker(&fixture).await?;
    let [first, second] = collector.wait("process q").await?;
    let [upsert, made] = collector.wait("add q.tick").await?;
    assert_eq!(upsert.text("bullmq.job.scheduler.id"), "s");
    assert_eq!(upsert.text("bullmq.job.id"), upserted.id.as_str());
    for iteration in [&first, &second] {
        assert_eq!(iteration.parent(), upsert.id());
        assert_eq!(iteration.trace(), upsert.trace());
    }
    assert_eq!(first.text("bullmq.job.id"), upserted.id.as_str());
    assert_eq!(made.parent(), first.id());
    assert_eq!(made.text("bullmq.job.id"), second.text("bullmq.job.id"));
    worker.close().await;
    Ok(())
}

/// Each job of a flow carries the context of its own span; where those are filtered out, what is around all.
#[tokio::test]
async fn jobs_of_flows_carry_the_contexts_of_their_spans() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let producer = FlowProducer::new(&fixture.client);
    let child = FlowJob::new("other", "leaf", &1);
    let flow = FlowJob::new("q", "done", &1).child(ChildPolicy::FailParent, child);
    let added = producer.add(&flow).await?;
    let child = FlowJob::new("q", "leaf", &1).options(JobOptions::new().priority(u32::MAX));
    let wrong = FlowJob::new("q", "wrong", &1).child(ChildPolicy::Wait, child);
    producer.add(&wrong).await.unwrap_err();

    let [add, failed] = collector.wait("addFlow q").await?;
    assert_eq!(*add.kind(), SpanKind::Producer);
    assert_eq!(add.text("bullmq.flow.name"), "done");
    assert_eq!(failed.text("bullmq.flow.name"), "wrong");
    assert_eq!(failed.events()[0].0, "exception");
    let root = &collector.all("addNode q")?[0];
    let leaf = collector.one("addNode other").await?;
    assert_eq!((root.parent(), leaf.parent()), (add.id(), root.id()));
    let child = added.children.first().ok_or("no child")?;
    for (key, span) in [
        (format!("bull:q:{}", added.id), root),
        (format!("bull:other:{}", child.id), &leaf),
    ] {
        assert_eq!(stored(&fixture, &key).await?, span.traceparent(), "{key}");
    }
    drop(collector);

    let filter = Targets::new()
        .with_default(LevelFilter::TRACE)
        .with_target("oxbull::telemetry", LevelFilter::OFF);
    let collector = Collector::with(&filter);
    let outer = tracing::info_span!("outer");
    let added = producer.add(&flow).instrument(outer.clone()).await;
    drop(outer);
    let outer = collector.one("outer").await?;
    // The flow has the ids that it had: it is there already, with its first contexts.
    assert_eq!(added?.id.as_str(), root.text("bullmq.job.id"));
    let again =
        FlowJob::new("q", "done", &1).child(ChildPolicy::Wait, FlowJob::new("q", "leaf", &1));
    let outer_again = tracing::info_span!("again");
    let added = producer.add(&again).instrument(outer_again.clone()).await?;
    drop(outer_again);
    let around = collector.one("again").await?;
    for id in [&added.id, &added.children[0].id] {
        assert_eq!(
            stored(&fixture, &format!("bull:q:{id}")).await?,
            around.traceparent()
        );
    }
    assert_ne!(around.trace(), outer.trace());
    Ok(())
}

/// The `traceparent` that a job carries, by its key.
async fn stored(fixture: &Fixture, key: &str) -> TestResult<String> {
    let options: Value = serde_json::from_str(&fixture.shown(&["HMGET", key, "opts"]).await?)?;
    let context = options.get("tm").and_then(Value::as_str);
    let context: Value = serde_json::from_str(context.ok_or("no context")?)?;
    let parent = context.get("traceparent").and_then(Value::as_str);
    Ok(parent.ok_or("no traceparent")?.to_owned())
}
