//! Contexts that nobody should write, and processes that do not listen: no job is hurt.

use opentelemetry_sdk::trace::Sampler;
use oxbull::{Job, JobError, JobOptions, NewJob, Telemetry};
use serde_json::json;

use super::*;

const PARENT: &str = "00-11111111111111111111111111111111-2222222222222222-01";

/// Jobs run in a trace of their own, and keep what they carry, however it looks.
#[tokio::test]
async fn hostile_contexts_are_none() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let deep = "[".repeat(100_000);
    let many: Vec<String> = (0..50_000).map(|n| format!("\"k{n}\":\"v\"")).collect();
    let texts = [
        deep.clone(),
        format!("{{\"traceparent\":{deep}"),
        // So long that reading it would cost more than the job.
        format!("{{{},\"traceparent\":\"{PARENT}\"}}", many.join(",")),
        format!(
            "{{\"traceparent\":\"{PARENT}\",\"baggage\":\"a={}\"}}",
            "x".repeat(1 << 20)
        ),
        "{\"traceparent\":\"00-\u{0}1111111111111111111111111111111-2222222222222222-01\"}"
            .to_owned(),
        format!("{{\"traceparent\":\"{PARENT}{PARENT}\"}}"),
        "{\"traceparent\":\"ff-11111111111111111111111111111111-2222222222222222-01\"}".to_owned(),
        "{\"traceparent\":\"00-11111111111111111111111111111111-0000000000000000-01\"}".to_owned(),
        "{\"traceparent\":\"äöü-\u{1F600}-2-1\"}".to_owned(),
        format!("{{\"traceparent\":[\"{PARENT}\"]}}"),
        "null".to_owned(),
        String::new(),
    ];
    for (n, text) in texts.iter().enumerate() {
        let options = json!({ "attempts": 1, "tm": text }).to_string();
        store(&fixture, &format!("t{n}"), &options).await?;
    }
    let odd = [
        "{\"tm\":[[{}]],\"omc\":{\"a\":1}}".to_owned(),
        format!("{{\"tm\":{},\"omc\":7}}", "[".repeat(60) + &"]".repeat(60)),
        // Half of a surrogate pair, and the name twice.
        "{\"tm\":\"\\ud800{\\\"traceparent\\\":1}\",\"tm\":null}".to_owned(),
        "{\"tm\":1e999}".to_owned(),
    ];
    for (n, options) in odd.iter().enumerate() {
        store(&fixture, &format!("o{n}"), options).await?;
    }
    let all = texts.len() + odd.len();
    let worker = scripted_worker(&fixture).await?;
    let counts = fixture.ended(u64::try_from(all)?).await?;
    assert_eq!(counts.failed, 0);
    worker.close().await;
    let attempts = collector.all("process q")?;
    assert_eq!(attempts.len(), all);
    for attempt in &attempts {
        assert!(attempt.is_root(), "{}", attempt.text("bullmq.job.id"));
        assert_eq!(attempt.events(), [("job completed".to_owned(), Vec::new())]);
    }
    Ok(())
}

/// A failure's text may be as long as a payload; of it a span has the beginning.
#[tokio::test]
async fn long_reasons_are_cut() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    fixture.add("n", JobOptions::new()).await?;
    let fails = |_: Job<Value>| async { Err::<(), _>(JobError::fatal("ä".repeat(1 << 20))) };
    let worker = Worker::builder(&fixture.client, "q").start(fails).await?;
    let attempt = collector.one("process q").await?;
    let events = attempt.events();
    let lengths: Vec<_> = events
        .iter()
        .map(|event| event.1[0].1.chars().count())
        .collect();
    assert_eq!(lengths, [4096, 4096]);
    worker.close().await;
    Ok(())
}

/// Names of members in any case, unknown versions of the header and members that others added are read.
#[tokio::test]
async fn unusual_contexts_are_read() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    for (id, context) in [
        ("upper", json!({ "TraceParent": PARENT })),
        (
            "more",
            json!({ "traceparent": PARENT, "x": { "y": [1] }, "baggage": 7 }),
        ),
        (
            "newer",
            json!({ "traceparent": PARENT.replacen("00", "01", 1) }),
        ),
        (
            "state",
            json!({ "traceparent": PARENT, "tracestate": "=,;=\u{0}" }),
        ),
        (
            "baggage",
            json!({ "traceparent": PARENT, "baggage": ";;=,%zz=%,a" }),
        ),
    ] {
        let options = json!({ "tm": context.to_string() }).to_string();
        store(&fixture, id, &options).await?;
    }
    let worker = scripted_worker(&fixture).await?;
    let attempts: [Span; 5] = collector.wait("process q").await?;
    for attempt in attempts {
        assert_eq!(
            attempt.parent(),
            "2222222222222222",
            "{}",
            attempt.text("bullmq.job.id")
        );
    }
    worker.close().await;
    Ok(())
}

/// A job that is to carry nothing begins a trace, with a context of the caller's it is in that one's, as in
/// BullMQ.
#[tokio::test]
async fn omitted_contexts_are_not_carried_by_any_add() -> TestResult {
    let fixture = Fixture::start().await?;
    let collector = Collector::start();
    let omit = || JobOptions::new().telemetry(Telemetry::default().omit_context());
    fixture.add("done", omit()).await?;
    let jobs = [NewJob::new("done", json!({})).options(omit())];
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    let flow = oxbull::FlowJob::new("q", "done", &json!({})).options(omit());
    oxbull::FlowProducer::new(&fixture.client)
        .add(&flow)
        .await?;
    let given = Telemetry::new(json!({ "traceparent": PARENT }).to_string()).omit_context();
    fixture
        .add("done", JobOptions::new().telemetry(given))
        .await?;
    let worker = scripted_worker(&fixture).await?;
    let attempts: [Span; 4] = collector.wait("process q").await?;
    assert!(attempts[..3].iter().all(Span::is_root), "{attempts:?}");
    assert_eq!(attempts[3].parent(), "2222222222222222");
    worker.close().await;
    Ok(())
}

/// Sampled by nobody, jobs still carry the decision, so that no later process takes up half a trace.
#[tokio::test]
async fn traces_that_are_not_sampled_stay_so() -> TestResult {
    let fixture = Fixture::start().await?;
    let filter = Targets::new().with_default(LevelFilter::TRACE);
    let collector = Collector::sampled(&filter, Sampler::AlwaysOff);
    let id = fixture.add("done", JobOptions::new()).await?;
    fixture.queue.pause().await?;
    fixture.queue.resume().await?;
    let worker = scripted_worker(&fixture).await?;
    fixture.ended(1).await?;
    worker.close().await;
    assert_eq!(collector.exporter.get_finished_spans()?.len(), 0);
    let context = carried(&fixture.queue, &id).await?.ok_or("no context")?;
    assert!(context.contains("-00\""), "{context}");
    drop(collector);

    let unsampled = PARENT.replace("-01", "-00");
    let options = json!({ "tm": json!({ "traceparent": unsampled }).to_string() });
    store(&fixture, "unsampled", &options.to_string()).await?;
    let parents = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    let collector = Collector::sampled(&filter, parents);
    let worker = scripted_worker(&fixture).await?;
    fixture.ended(2).await?;
    worker.close().await;
    assert_eq!(collector.all("process q")?.len(), 0);
    Ok(())
}
