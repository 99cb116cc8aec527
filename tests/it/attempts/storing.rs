//! Results that Redis cannot store, or not at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxbull::{Context, Job, JobError, JobOptions, NewJob, Outcome, Worker, WorkerEvent};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

/// Results that a call leaves because very many jobs are active are sent again until all are stored.
#[tokio::test]
async fn results_among_very_many_active_jobs_are_all_stored() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut push = vec!["RPUSH".to_owned(), "bull:q:active".to_owned()];
    push.extend((0..30_000).map(|n| format!("other-{n}")));
    fixture.server.cli(&push).await?;
    for added in fixture
        .queue
        .add_bulk((0..200).map(|n| NewJob::new("ok", json!({ "n": n }))))
        .await?
    {
        added?;
    }
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(100)
        .skip_stalled_check()
        .start(scripted)
        .await?;
    fixture.ended(200).await?;
    assert_eq!(worker.close().await.abandoned, 0);
    assert_eq!(fixture.queue.counts().await?.active, 30_000);
    Ok(())
}

/// A job whose key was overwritten cannot end; those whose results share its call end as ever.
#[tokio::test]
async fn damaged_job_costs_its_neighbours_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    for n in 0..5 {
        fixture.add(&n.to_string(), JobOptions::new()).await?;
    }
    let gate = Arc::new(tokio::sync::Barrier::new(6));
    let handlers = Arc::clone(&gate);
    let together = move |_: Job<Value>, _: Context| {
        let gate = Arc::clone(&handlers);
        async move {
            gate.wait().await;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .lock_duration(Duration::from_secs(1))
        .start(together)
        .await?;
    eventually(DEADLINE, || async { worker.health().running == 5 }).await?;
    fixture.server.cli(&["DEL", "bull:q:3"]).await?;
    fixture.server.cli(&["SET", "bull:q:3", "no job"]).await?;
    gate.wait().await;
    let counts = fixture.counts(|counts| counts.completed == 4).await?;
    assert_eq!(counts.failed, 0);
    worker.close().await;
    Ok(())
}

/// A worker whose handlers a full Redis refuses is not healthy, and tries one job at a time, although
/// its own calls succeed; with memory again it goes on by itself.
#[tokio::test]
async fn full_redis_is_reported_and_tried_with_one_job_at_a_time() -> TestResult {
    const JOBS: u64 = 200;
    const CONCURRENCY: usize = 20;
    let fixture = Fixture::start().await?;
    for added in fixture
        .queue
        .add_bulk((0..JOBS).map(|n| NewJob::new("x", json!(n))))
        .await?
    {
        added?;
    }
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    fixture.server.cli(&full).await?;
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let report = move |job: Job<Value>, _: Context| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            job.update_progress(&1).await?;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(CONCURRENCY)
        .start(report)
        .await?;
    eventually(DEADLINE, || async { worker.health().trouble.is_some() }).await?;
    let mut healthy = 0;
    while starts.load(Ordering::SeqCst) < CONCURRENCY + 3 {
        healthy += usize::from(worker.health().is_healthy());
        fixture.server.cli(&["PING"]).await?;
    }
    assert_eq!(healthy, 0, "{:?}", worker.health());
    let started = starts.load(Ordering::SeqCst);
    assert!(started < 2 * CONCURRENCY, "{started}");
    let roomy = ["CONFIG", "SET", "maxmemory", "0"];
    fixture.server.cli(&roomy).await?;
    let counts = fixture.ended(JOBS).await?;
    assert_eq!((counts.completed, counts.failed), (JOBS, 0));
    assert!(worker.health().is_healthy(), "{:?}", worker.health());
    worker.close().await;
    Ok(())
}

/// A result that cannot be stored is tried for as long as its job's lock lasts; the others are settled
/// meanwhile, and their slots are free.
#[tokio::test]
async fn result_that_cannot_be_stored_holds_up_no_other() -> TestResult {
    let fixture = Fixture::start().await?;
    for n in 1..=5 {
        fixture.add(&n.to_string(), JobOptions::new()).await?;
    }
    let gate = Arc::new(tokio::sync::Barrier::new(6));
    let opened = Arc::clone(&gate);
    let together = move |_: Job<Value>, _: Context| {
        let gate = Arc::clone(&opened);
        async move {
            gate.wait().await;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let builder = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .lock_duration(Duration::from_secs(3600));
    let mut events = builder.events();
    let worker = builder.start(together).await?;
    eventually(DEADLINE, || async { worker.health().running == 5 }).await?;
    fixture.server.cli(&["DEL", "bull:q:3"]).await?;
    fixture.server.cli(&["SET", "bull:q:3", "no job"]).await?;
    gate.wait().await;
    let mut completed = 0;
    while completed < 4 {
        let event = tokio::time::timeout(DEADLINE, events.next()).await?;
        completed += usize::from(matches!(event, Some(WorkerEvent::Completed { .. })));
    }
    worker.close_now().await;
    Ok(())
}
