//! Spans of what is done to queues and jobs by hand, and of the jobs of a flow, beside those of `bullmq-otel`.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{
    ActiveJobs, ChildPolicy, DrainScope, Error, FlowJob, FlowProducer, JobError, JobOptions,
    JobState, ManualWorker, Outcome, RetryOptions,
};
use serde_json::json;
use tracing::Instrument;

use super::node::{NodeSpan, node_spans, start};
use super::*;

/// A span's name, kind and attributes.
type Shown = (String, u8, BTreeMap<String, Value>);

/// Spans of ours in the form of theirs, without what only `tracing` has.
fn shown(span: &Span) -> Shown {
    let kind = match span.kind() {
        SpanKind::Internal => 0,
        SpanKind::Producer => 3,
        SpanKind::Consumer => 4,
        _ => 9,
    };
    let attributes = span.0.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            Attribute::I64(number) => json!(number),
            Attribute::Bool(flag) => json!(flag),
            text => json!(text.as_str()),
        };
        (attribute.key.to_string(), value)
    });
    let attributes = attributes.filter(|(key, _)| key.starts_with("bullmq."));
    (span.0.name.to_string(), kind, attributes.collect())
}

fn theirs(span: NodeSpan) -> Shown {
    (span.name, span.kind, span.attributes.into_iter().collect())
}

/// Runs what must be fit for a task of any runtime, spans and all.
async fn any_task<T>(work: impl Future<Output = oxbull::Result<T>> + Send) -> oxbull::Result<T> {
    work.await
}

/// Each operation has the span that `bullmq-otel` gives it; the progress of a job is not in ours.
#[tokio::test]
async fn operations_have_the_spans_of_bullmq_otel() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let queue = &fixture.queue;
    let job = || JobOptions::new().delay(Duration::from_secs(60));
    let id = queue.add_with("n", &json!({}), job()).await?.id;
    any_task(queue.pause()).await?;
    any_task(queue.resume()).await?;
    any_task(queue.limit_rate(Duration::from_millis(10))).await?;
    any_task(queue.update_progress(&id, &json!({ "s3cret": 1 }))).await?;
    any_task(queue.remove(&id)).await?;
    any_task(queue.release_deduplication("key")).await?;
    any_task(queue.trim_events(1000)).await?;
    let retry = queue.retry_jobs(None, RetryOptions::new());
    any_task(retry.limit(10).run()).await?;
    any_task(queue.promote_jobs().limit(10).run()).await?;
    let clean = queue.clean(JobState::Completed, Duration::from_secs(1));
    any_task(clean.limit(10).run()).await?;
    any_task(queue.drain(DrainScope::ReadyAndDelayed).run()).await?;
    any_task(queue.obliterate(ActiveJobs::Refuse).run()).await?;
    let all = collector.exporter.get_finished_spans()?.into_iter();
    let mut ours: Vec<_> = all.map(|span| shown(&Span(span))).collect();

    let id = queue.add_with("n", &json!({}), job()).await?.id;
    peer.call("administer", json!({ "queue": "q", "id": id }))
        .await?;
    let mut theirs: Vec<_> = node_spans(&peer).await?.into_iter().map(theirs).collect();
    assert_eq!(ours.remove(0).0, "add q.n");
    // Theirs pauses the queue by another operation first.
    let extra = theirs.remove(theirs.len() - 2);
    assert_eq!((extra.0.as_str(), theirs.len()), ("pause q", 12));
    for ((name, kind, mut ours), (their_name, their_kind, mut theirs)) in
        ours.into_iter().zip(theirs)
    {
        assert_eq!((&name, kind), (&their_name, their_kind));
        match name.as_str() {
            "updateJobProgress q" => {
                assert!(theirs.remove("bullmq.job.progress").is_some());
                ours.remove("bullmq.job.id");
                theirs.remove("bullmq.job.id");
            }
            "remove q" => {
                ours.remove("bullmq.job.id");
                theirs.remove("bullmq.job.id");
            }
            "retryJobs q" => {
                for options in [&mut ours, &mut theirs] {
                    let options = options
                        .get_mut("bullmq.queue.options")
                        .ok_or("no options")?;
                    let text = options.as_str().unwrap_or_default();
                    let mut object: Value = serde_json::from_str(text)?;
                    assert!(object["timestamp"].take().is_i64());
                    *options = object;
                }
            }
            _ => {}
        }
        assert_eq!(ours, theirs, "{name}");
    }
    let shown = format!("{:?}", collector.exporter.get_finished_spans()?);
    assert!(!shown.contains("s3cret"), "{shown}");
    peer.close().await?;
    Ok(())
}

/// An operation is a child of the caller's span, fails with its error, and a dry run is none.
#[tokio::test]
async fn operations_are_in_the_callers_trace_and_fail_with_their_error() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.add("done", JobOptions::new()).await?;
    let held = ManualWorker::new(&fixture.client, "q")?.fetch("t").await?;
    assert!(held.is_some());
    let collector = Collector::start();
    let outer = tracing::info_span!("outer");
    let obliterate = fixture.queue.obliterate(ActiveJobs::Refuse).run();
    let refused = obliterate.instrument(outer.clone()).await;
    assert!(
        matches!(refused, Err(Error::QueueRefused { .. })),
        "{refused:?}"
    );
    drop(outer);
    let drain = fixture.queue.drain(DrainScope::Ready).dry_run();
    drain.run().await?;
    let span = collector.one("obliterate q").await?;
    assert_eq!(span.parent(), collector.one("outer").await?.id());
    assert!(matches!(span.status(), Status::Error { .. }));
    assert_eq!(span.events()[0].0, "exception");
    assert_eq!(collector.exporter.get_finished_spans()?.len(), 2);
    Ok(())
}

/// What a manual worker does belongs to the trace of its job, or to the caller's, and is named as theirs. A failure is
/// to be seen in ours.
#[tokio::test]
async fn manual_steps_belong_to_the_trace_of_their_job() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let retried = JobOptions::new().attempts(2);
    let id = fixture.add("n", retried).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?.name("node");
    let job = worker.fetch("t").await?.ok_or("no job")?;
    let failed = Err::<Outcome<()>, _>(JobError::retry("by hand"));
    worker.finish(&job, "t", failed).await?;
    assert_eq!(worker.fetch("t").await?.map(|job| job.id), Some(id));
    let outer = tracing::info_span!("outer");
    let done = worker.finish(&job, "t", Ok(Outcome::Done(1)));
    done.instrument(outer.clone()).await?;
    drop(outer);

    let add = collector.one("add q.n").await?;
    let [first, second] = collector.wait("getNextJob q").await?;
    let retry = collector.one("retry q").await?;
    for span in [&first, &second, &retry] {
        assert_eq!((span.trace(), span.parent()), (add.trace(), add.id()));
    }
    assert_eq!(*retry.status(), Status::error("by hand"));
    let complete = collector.one("complete q").await?;
    assert_eq!(complete.parent(), collector.one("outer").await?.id());

    fixture.add("n", JobOptions::new()).await?;
    peer.call("manual", json!({ "queue": "q" })).await?;
    let spans = node_spans(&peer).await?;
    for (ours, name) in [(&first, "getNextJob q"), (&complete, "complete q")] {
        let theirs = spans
            .iter()
            .find(|span| span.name == name)
            .ok_or("no span")?;
        let mut keys: Vec<_> = theirs.attributes.keys().cloned().collect();
        // Ours have no id and fetch without waiting.
        keys.retain(|key| !["bullmq.worker.id", "bullmq.worker.options"].contains(&&**key));
        keys.sort();
        assert_eq!(ours.shared_attributes(), keys);
        assert_eq!(shown(ours).1, theirs.kind);
    }
    peer.close().await?;
    Ok(())
}

/// The spans of a flow by name: job or operation, and those of the parent.
fn tree<S>(
    spans: &[S],
    of: impl Fn(&S) -> (String, String, Option<String>, Shown),
) -> Vec<[String; 3]> {
    let all: Vec<_> = spans.iter().map(of).collect();
    let label = |shown: &Shown| {
        let attributes = &shown.2;
        let name = attributes
            .get("bullmq.job.name")
            .or(attributes.get("bullmq.flow.name"));
        let names = name.or(attributes.get("bullmq.job.bulk.names"));
        names.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut tree: Vec<_> = all
        .iter()
        .filter(|(_, name, ..)| name.starts_with("add"))
        .map(|(_, name, parent, shown)| {
            let parent = all.iter().find(|(id, ..)| Some(id) == parent.as_ref());
            let keys: Vec<_> = shown.2.keys().map(String::as_str).collect();
            let parent = parent.map_or_else(String::new, |(_, name, _, of)| {
                format!("{name} {}", label(of))
            });
            [
                format!("{name} {}", label(shown)),
                parent,
                format!("{} {}", shown.1, keys.join(" ")),
            ]
        })
        .collect();
    tree.sort();
    tree
}

/// Flows have a span for each job, each a child of its parent's, as with `bullmq-otel`; several flows have one
/// around all.
#[tokio::test]
async fn flows_have_the_spans_of_bullmq_otel() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let leaf = FlowJob::new("q", "leaf", &1);
    let child = FlowJob::new("q2", "child", &1).child(ChildPolicy::Wait, leaf);
    let other = FlowJob::new("q", "other", &1);
    let flow = FlowJob::new("q", "root", &1)
        .child(ChildPolicy::Wait, child)
        .child(ChildPolicy::Wait, other);
    let producer = FlowProducer::new(&fixture.client);
    producer.add(&flow).await?;
    let (one, two) = (FlowJob::new("q", "one", &1), FlowJob::new("q", "two", &1));
    producer.add_many([&one, &two]).await?;
    let ours: Vec<_> = collector
        .exporter
        .get_finished_spans()?
        .into_iter()
        .map(Span)
        .collect();

    let node = |queue: &str, name: &str, children: Vec<Value>| json!({ "name": name, "queueName": queue, "opts": {}, "children": children });
    let child = node("q2", "child", vec![node("q", "leaf", vec![])]);
    let flow = node("q", "root", vec![child, node("q", "other", vec![])]);
    peer.call("add.flow", flow).await?;
    let flows = [node("q", "one", vec![]), node("q", "two", vec![])];
    peer.call("add.flows", json!({ "flows": flows })).await?;
    let theirs_all = node_spans(&peer).await?;
    let theirs_all: Vec<_> = theirs_all
        .into_iter()
        .filter(|span| span.name != "outer")
        .collect();
    let theirs = tree(&theirs_all, |span| {
        let shown = (
            span.name.clone(),
            span.kind,
            span.attributes.clone().into_iter().collect(),
        );
        (
            span.id.clone(),
            span.name.clone(),
            span.parent.clone(),
            shown,
        )
    });
    let ours = tree(&ours, |span| {
        (
            span.id(),
            span.0.name.to_string(),
            Some(span.parent()),
            shown(span),
        )
    });
    assert_eq!(ours.len(), 8);
    assert_eq!(ours, theirs);
    peer.close().await?;
    Ok(())
}
