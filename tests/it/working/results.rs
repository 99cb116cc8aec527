//! What attempts leave: states, counters, reasons and stack traces.

use std::time::Duration;

use oxbull::{
    Backoff, Context, FailedAttempt, Job, JobError, JobOptions, JobResult, JobState, Outcome,
    Retention, Worker,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

/// Every way an attempt can end leaves the job where the rules say, with the right counters.
#[tokio::test]
async fn each_outcome_leaves_its_job_where_it_belongs() -> TestResult {
    let fixture = Fixture::start().await?;
    let three = || JobOptions::new().attempts(3);
    let slow = Backoff::fixed(Duration::from_millis(20));
    let plain = fixture.add("ok", three()).await?;
    let retried = fixture.add("fail once", three()).await?;
    let backed_off = fixture.add("fail once", three().backoff(slow)).await?;
    let failed = fixture.add("fail", three()).await?;
    let fatal = fixture.add("give up", three()).await?;
    let panicked = fixture.add("panic", JobOptions::new().attempts(2)).await?;
    let delayed = fixture.add("delay once", three()).await?;
    let released = fixture.add("release once", three()).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(3)
        .start(scripted)
        .await?;
    let counts = fixture.ended(8).await?;
    assert_eq!((counts.completed, counts.failed), (5, 3));
    for (id, started, made) in [
        (plain, 1, 1),
        (retried, 2, 2),
        (backed_off, 2, 2),
        (delayed, 2, 1),
        (released, 2, 1),
    ] {
        let job = fixture.job(&id).await?;
        assert_eq!(
            (job.attempts_started, job.attempts_made),
            (started, made),
            "{}",
            job.name
        );
        assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Completed));
    }
    for (id, made, reason) in [
        (failed, 3, "it failed"),
        (fatal, 1, "no use"),
        (panicked, 2, "handler panicked: it panicked"),
    ] {
        let job = fixture.job(&id).await?;
        assert_eq!(job.attempts_made, made, "{}", job.name);
        assert_eq!(job.failed_reason.as_deref(), Some(reason));
        assert_eq!(job.stack_traces.len(), made as usize);
    }
    worker.close().await;
    Ok(())
}

/// A job may name the time it wants to go on at.
#[tokio::test]
async fn job_waits_until_the_time_it_names() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let id = fixture.add("delay until", JobOptions::new()).await?;
    fixture.ended(1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!((job.attempts_started, job.attempts_made), (2, 1));
    let started = job.processed_on.ok_or("not started")?;
    assert!(started.since(job.timestamp) >= Duration::from_millis(50));
    worker.close().await;
    Ok(())
}

/// A worker that is asked to counts what it finished, and applies its own retention.
#[tokio::test]
async fn metrics_and_retention_of_the_worker_apply() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .metrics(5)
        .max_started_attempts(2)
        .remove_on_complete(Retention::Remove)
        .remove_on_fail(Retention::KeepLast(1))
        .start(scripted)
        .await?;
    for what in ["ok", "ok", "give up", "fail"] {
        fixture.add(what, JobOptions::new().attempts(9)).await?;
    }
    let count = |kind: &'static str| {
        let server = &fixture.server;
        async move {
            server
                .text(&["HGET", &format!("bull:q:metrics:{kind}"), "count"])
                .await
        }
    };
    eventually(DEADLINE, || async {
        count("failed")
            .await
            .is_ok_and(|n| n.as_deref() == Some("2"))
    })
    .await?;
    assert_eq!(count("completed").await?.as_deref(), Some("2"));
    let counts = fixture.queue.counts().await?;
    assert_eq!((counts.completed, counts.failed), (0, 1));
    // Two starts are all that the worker allows, whatever the job asks for.
    let job = fixture.job(&oxbull::JobId::existing("4")).await?;
    assert_eq!(job.attempts_made, 2);
    worker.close().await;
    Ok(())
}

/// An attempt that takes too long fails; its handler is dropped.
#[tokio::test]
async fn timeout_fails_the_attempt() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .timeout(Duration::from_millis(50))
        .start(scripted)
        .await?;
    let id = fixture.add("hang", JobOptions::new().attempts(2)).await?;
    fixture.ended(1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!(job.attempts_made, 2);
    assert_eq!(
        job.failed_reason.as_deref(),
        Some("attempt timed out after 50ms")
    );
    worker.close().await;
    Ok(())
}

/// A custom strategy decides about waits and about giving up.
#[tokio::test]
async fn custom_backoff_is_asked() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .backoff_strategy("mine", |failed: FailedAttempt| async move {
            let again = failed.attempt < 2 && failed.error.reason() == "it failed";
            again.then_some(Duration::from_millis(5))
        })
        .start(scripted)
        .await?;
    let options = JobOptions::new()
        .attempts(9)
        .backoff(Backoff::custom("mine"));
    let id = fixture.add("fail", options).await?;
    fixture.ended(1).await?;
    assert_eq!(fixture.job(&id).await?.attempts_made, 2);
    worker.close().await;
    Ok(())
}

/// Only the newest stack traces are kept.
#[tokio::test]
async fn stack_traces_are_limited() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let id = fixture
        .add("fail", JobOptions::new().attempts(4).stack_trace_limit(2))
        .await?;
    fixture.ended(1).await?;
    assert_eq!(fixture.job(&id).await?.stack_traces.len(), 2);
    worker.close().await;
    Ok(())
}

/// A layer that hides the handler's error behind its own.
#[derive(Debug, thiserror::Error)]
#[error("the layer says no")]
struct Wrapped(#[source] oxbull::BoxError);

/// A stack trace leads to the line of the handler, whether it returned, converted or panicked, and
/// what the handler decided holds behind layers.
#[tokio::test]
async fn stack_traces_lead_to_the_line() -> TestResult {
    async fn fail(job: Job<Value>, _: Context) -> JobResult<()> {
        match job.name() {
            "made" => Err(JobError::fatal("made")),
            "converted" => Ok(Outcome::Done("x".parse::<u8>().map(drop)?)),
            _ => panic!("no {}", job.name()),
        }
    }
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .layer(tower::util::MapErrLayer::new(|error| {
            oxbull::BoxError::from(Wrapped(error))
        }))
        .start(fail)
        .await?;
    let mut ids = Vec::new();
    for name in ["made", "converted", "panicked"] {
        let options = JobOptions::new().attempts(2);
        ids.push(fixture.queue.add_with(name, &json!({}), options).await?.id);
    }
    fixture.ended(3).await?;
    let mut traces = Vec::new();
    for id in &ids {
        let job = fixture.job(id).await?;
        traces.push((job.attempts_made, job.stack_traces.concat()));
    }
    let line = |text| line_of(include_str!("results.rs"), text);
    for ((made, trace), (attempts, place, cause)) in traces.iter().zip([
        (1, line("Err(JobError::fatal(\"made\"))"), "made"),
        (2, line("parse::<u8>()"), "invalid digit found in string"),
        (2, line("panic!(\"no {}\""), "handler panicked: no panicked"),
    ]) {
        assert_eq!(*made, attempts, "{trace}");
        assert!(
            trace.contains(&format!("\n    at tests/it/working/results.rs:{place}:")),
            "{trace}"
        );
        assert!(trace.contains(cause), "{trace}");
    }
    worker.close().await;
    Ok(())
}

/// The number of the first line that holds a text.
fn line_of(source: &str, text: &str) -> usize {
    1 + source
        .lines()
        .take_while(|line| !line.contains(text))
        .count()
}

#[derive(serde::Deserialize)]
struct Strict {
    #[expect(dead_code, reason = "only its type matters")]
    count: u32,
}

async fn strict(_: Job<Strict>, _: Context) -> JobResult<()> {
    Ok(Outcome::Done(()))
}

/// Data of another type uses the job's attempts, as an error of the handler does: the next worker
/// may know the type. It names the reason, and stays.
#[tokio::test]
async fn undecodable_data_fails_and_stays() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q").start(strict).await?;
    let id = fixture.add("ok", JobOptions::new().attempts(5)).await?;
    let fine = fixture.queue.add("fine", &json!({ "count": 3 })).await?.id;
    fixture.ended(2).await?;
    let job = fixture.job(&id).await?;
    assert_eq!(job.attempts_made, 5);
    assert_eq!(job.raw_data, r#"{"do":"ok"}"#);
    let reason = job.failed_reason.unwrap_or_default();
    assert!(reason.contains("missing field `count`"), "{reason}");
    assert_eq!(fixture.queue.state(&fine).await?, Some(JobState::Completed));
    worker.close().await;
    Ok(())
}
