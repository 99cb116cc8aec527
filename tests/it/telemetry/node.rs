//! Traces that begin in Node.js, go on in Rust, and back.

use std::time::Duration;

use oxbull::{
    Backoff, ChildPolicy, Context, FlowJob, FlowProducer, Job, JobError, JobOptions, NewJob,
    Schedule,
};
use oxbull_testkit::NodePeer;
use serde::Deserialize;
use serde_json::json;

use super::*;

/// A span that the peer has collected.
#[derive(Debug, Deserialize)]
pub(super) struct NodeSpan {
    pub(super) name: String,
    pub(super) kind: u8,
    pub(super) id: String,
    trace: String,
    pub(super) parent: Option<String>,
    pub(super) attributes: serde_json::Map<String, Value>,
}

/// A queue, a peer with `bullmq-otel` and a collector of our spans.
pub(super) async fn start() -> TestResult<(Fixture, NodePeer, Collector)> {
    let fixture = Fixture::start().await?;
    let peer = NodePeer::builder("tracing.mjs")
        .env("REDIS_PORT", fixture.server.port().to_string())
        .start()?;
    Ok((fixture, peer, Collector::start()))
}

/// The peer's spans that have ended, the oldest first.
pub(super) async fn node_spans(peer: &NodePeer) -> TestResult<Vec<NodeSpan>> {
    Ok(serde_json::from_value(
        peer.call("spans", json!({})).await?,
    )?)
}

/// Waits until the peer has so many spans of a name.
async fn node_spans_of(peer: &NodePeer, name: &str, count: usize) -> TestResult<Vec<NodeSpan>> {
    let found = eventually(DEADLINE, || async {
        let spans = node_spans(peer).await;
        let mut spans = spans.map_err(|error| format!("{error:?}"))?;
        spans.retain(|span| span.name == name);
        if spans.len() == count {
            return Ok(spans);
        }
        Err(format!("{} of {name}", spans.len()))
    });
    Ok(found.await?)
}

/// Waits for the peer's span of a name, the only one.
async fn node_span(peer: &NodePeer, name: &str) -> TestResult<NodeSpan> {
    let mut found = node_spans_of(peer, name, 1).await?;
    Ok(found.pop().ok_or("no span")?)
}

/// Hands its job on to the queue `back`.
async fn pass_on(_: Job<Value>, context: Context) -> Result<(), JobError> {
    let back: Queue<Value> = Queue::open(context.client(), "back").await?;
    back.add("reply", &json!({})).await?;
    Ok(())
}

/// One trace, each span the child of the one before, with baggage from end to end. Our spans have the
/// attributes of theirs.
#[tokio::test]
async fn trace_goes_from_node_to_rust_and_back() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    peer.call("add", json!({ "queue": "q", "name": "ask" }))
        .await?;
    peer.call("work", json!({ "queue": "back" })).await?;
    let builder = Worker::builder(&fixture.client, "q").name("rust");
    let worker = builder.start(pass_on).await?;

    let outer = node_span(&peer, "outer").await?;
    let asked = node_span(&peer, "add q.ask").await?;
    let ours = collector.one("process q").await?;
    let replied = collector.one("add back.reply").await?;
    let theirs = node_span(&peer, "process back").await?;
    let traces = [&asked.trace, &ours.trace(), &replied.trace(), &theirs.trace];
    assert!(
        traces.iter().all(|trace| **trace == outer.trace),
        "{traces:?}"
    );
    assert_eq!(asked.parent.as_ref(), Some(&outer.id));
    assert_eq!(ours.parent(), asked.id);
    assert_eq!(replied.parent(), ours.id());
    assert_eq!(theirs.parent, Some(replied.id()));

    assert_eq!((asked.kind, theirs.kind), (3, 4));
    assert_eq!(*replied.kind(), SpanKind::Producer);
    assert_eq!(*ours.kind(), SpanKind::Consumer);
    let names = |span: &NodeSpan| -> Vec<String> {
        let mut names: Vec<_> = span.attributes.keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(ours.shared_attributes(), names(&theirs));
    assert_eq!(replied.shared_attributes(), names(&asked));

    let back: Queue<Value> = Queue::open(&fixture.client, "back").await?;
    let id = JobId::existing(replied.text("bullmq.job.id"));
    let result = eventually(DEADLINE, || async {
        let job = back.job(&id).await.ok().flatten();
        job.and_then(|job| job.raw_return_value)
    });
    assert_eq!(result.await?, r#""a b""#);
    worker.close().await;
    peer.close().await?;
    Ok(())
}

/// Each job of a flow is a child of its own node's span.
#[tokio::test]
async fn flows_of_node_keep_their_trace() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let flow = json!({
        "name": "parent", "queueName": "q", "opts": { "jobId": "p" },
        "children": [{ "name": "child", "queueName": "q", "data": {}, "opts": { "jobId": "c" } }],
    });
    peer.call("add.flow", flow).await?;
    let contexts = [
        carried(&fixture.queue, &"c".into()).await?,
        carried(&fixture.queue, &"p".into()).await?,
    ];
    let worker = scripted_worker(&fixture).await?;
    let attempts: [Span; 2] = collector.wait("process q").await?;
    let flow = node_span(&peer, "addFlow q").await?;
    for ((attempt, context), job) in attempts.iter().zip(&contexts).zip(["c", "p"]) {
        assert_eq!(attempt.text("bullmq.job.id"), job);
        assert_eq!(attempt.trace(), flow.trace);
        let parent = format!("-{}-{}-", attempt.trace(), attempt.parent());
        let context = context.as_deref().unwrap_or_default();
        assert!(context.contains(&parent), "{context}");
    }
    assert_ne!(attempts[0].parent(), attempts[1].parent());
    worker.close().await;
    peer.close().await?;
    Ok(())
}

/// Our worker hands the context of a scheduler of BullMQ on to the iterations that it makes, and retries
/// keep it.
#[tokio::test]
async fn schedulers_of_node_keep_their_trace() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let scheduler = json!({
        "queue": "q", "id": "s", "repeat": { "every": 50, "limit": 2 },
        "template": { "name": "tick", "data": { "do": "fail once" }, "opts": { "attempts": 2 } },
    });
    let first = peer.call("add.scheduler", scheduler).await?;
    let worker = scripted_worker(&fixture).await?;
    let attempts: [Span; 4] = collector.wait("process q").await?;
    let upsert = node_span(&peer, "add q.tick").await?;
    for attempt in &attempts {
        assert_eq!(attempt.trace(), upsert.trace);
        assert_eq!(attempt.parent(), upsert.id);
    }
    let made = collector.one("add q.tick").await?;
    let first = first.as_str().ok_or("no id")?;
    assert_ne!(made.text("bullmq.job.id"), first);
    let context = carried(&fixture.queue, &first.into()).await?;
    let second = JobId::existing(made.text("bullmq.job.id"));
    assert_eq!(carried(&fixture.queue, &second).await?, context);
    assert!(context.is_some_and(|context| context.contains(&upsert.id)));
    worker.close().await;
    peer.close().await?;
    Ok(())
}

/// What a node of BullMQ stores for a context that is omitted is no text, and survives.
#[tokio::test]
async fn omitted_contexts_of_node_begin_a_trace() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let jobs = json!([
        { "name": "done", "data": {}, "opts": { "jobId": "o", "telemetry": { "omitContext": true } } },
    ]);
    peer.call("add.bulk", json!({ "queue": "q", "jobs": jobs }))
        .await?;
    let options = fixture
        .field(&"o".into(), "opts")
        .await?
        .ok_or("no options")?;
    assert!(options.contains(r#""tm":false"#), "{options}");
    let worker = scripted_worker(&fixture).await?;
    assert!(collector.one("process q").await?.is_root());
    assert_eq!(fixture.field(&"o".into(), "opts").await?, Some(options));
    worker.close().await;
    peer.close().await?;
    Ok(())
}

/// From Rust to Node: each job of our flow is processed in the trace of its node's span.
#[tokio::test]
async fn flows_of_ours_keep_their_trace_in_node() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let child = FlowJob::new("q", "child", &json!({}));
    let flow = FlowJob::new("q", "parent", &json!({})).child(ChildPolicy::FailParent, child);
    FlowProducer::new(&fixture.client).add(&flow).await?;
    peer.call("work", json!({ "queue": "q" })).await?;
    let attempts = node_spans_of(&peer, "process q", 2).await?;
    let nodes: [Span; 2] = collector.wait("addNode q").await?;
    for attempt in &attempts {
        let node = nodes.iter().find(|node| Some(node.id()) == attempt.parent);
        let node = node.ok_or("no such node")?;
        assert_eq!(attempt.trace, node.trace());
        assert_eq!(
            attempt.attributes["bullmq.job.id"],
            node.text("bullmq.job.id")
        );
    }
    assert_ne!(attempts[0].parent, attempts[1].parent);
    peer.close().await?;
    Ok(())
}

/// An attempt that failed in Node and is made again in Rust has the same parent; what Node leaves of the failure
/// in the job changes nothing.
#[tokio::test]
async fn retried_attempts_keep_their_trace_across_languages() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let options = JobOptions::new()
        .attempts(2)
        .backoff(Backoff::fixed(Duration::from_secs(3600)));
    let id = fixture.add("fail once", options).await?;
    peer.call("work.scripted", json!({ "queue": "q" })).await?;
    let failed = node_span(&peer, "process q").await?;
    peer.call("work.end", json!({})).await?;
    assert!(fixture.field(&id, "tm").await?.is_some());
    fixture.queue.promote(&id).await?;
    let worker = scripted_worker(&fixture).await?;
    let made = collector.one("process q").await?;
    let add = collector.one("add q.fail once").await?;
    assert_eq!(failed.parent, Some(add.id()));
    assert_eq!((made.parent(), made.trace()), (add.id(), add.trace()));
    assert_eq!(made.attribute("bullmq.job.attempts.made"), Some(&2.into()));
    worker.close().await;
    peer.close().await?;
    Ok(())
}

/// A scheduler of ours whose iterations Node makes and processes: all are in the trace of the upsert.
#[tokio::test]
async fn schedulers_of_ours_keep_their_trace_in_node() -> TestResult {
    let (fixture, peer, collector) = start().await?;
    let schedule = Schedule::every(Duration::from_millis(50)).limit(3);
    let template = NewJob::new("tick", json!({}));
    fixture
        .queue
        .upsert_scheduler("s", &schedule, template)
        .await?;
    peer.call("work", json!({ "queue": "q" })).await?;
    let upsert = collector.one("add q.tick").await?;
    for iteration in node_spans_of(&peer, "process q", 3).await? {
        assert_eq!(iteration.parent, Some(upsert.id()));
        assert_eq!(iteration.trace, upsert.trace());
    }
    peer.close().await?;
    Ok(())
}
