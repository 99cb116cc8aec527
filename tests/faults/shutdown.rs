//! A4 to A7: how a worker ends, and what it leaves.

use std::time::{Duration, Instant};

use oxbull::{Context, Job, JobResult, JobState, Outcome, ShutdownOptions};
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Effects, Fixture, Work, work};

/// Never ends, even when cancelled.
async fn hangs(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    std::future::pending().await
}

/// Ends as soon as it is cancelled.
async fn stops_when_cancelled(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    context.cancelled().await;
    context.state().end(&job);
    Ok(Outcome::Done(()))
}

fn soon() -> ShutdownOptions {
    ShutdownOptions::new()
        .finish_within(Duration::from_millis(300))
        .cancel_within(Duration::from_millis(200))
        .report_within(Duration::from_millis(500))
}

/// Lets another worker do the rest, and checks that no attempt was used up before.
async fn rest_is_done(fixture: &Fixture, ids: &[oxbull::JobId], what: &str) -> TestResult {
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(fixture, ids, Allow::default()).await?;
    println!("{what}: {summary}");
    assert_eq!((summary.completed, summary.failed), (ids.len(), 0));
    for id in ids {
        assert_eq!(
            fixture.field(id, "atm").await?.as_deref(),
            Some("1"),
            "{id}"
        );
    }
    Ok(())
}

/// A4: handlers finish, their results are stored, nothing is started any more.
#[tokio::test]
async fn graceful_close_finishes_what_runs_and_starts_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(40, 300).await?;
    let worker = fixture.worker().start(work).await?;
    fixture.started(10).await?;
    let closed = worker.close().await;
    assert_eq!(closed.abandoned, 0);
    let counts = fixture.queue.counts().await?;
    assert_eq!(
        (counts.completed, counts.active, counts.waiting),
        (10, 0, 30)
    );
    assert_eq!((fixture.effects.starts(), fixture.effects.ends()), (10, 10));
    rest_is_done(&fixture, &ids, "A4 graceful close").await
}

/// A5: at the deadline jobs go back to the front of the queue, without using an attempt.
#[tokio::test]
async fn close_at_its_deadline_releases_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(8, 0).await?;
    let worker = fixture.worker().concurrency(3).start(hangs).await?;
    fixture.started(3).await?;
    let from = Instant::now();
    let closed = worker.close_with(soon()).await;
    let took = from.elapsed();
    assert_eq!(closed.abandoned, 0);
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(fixture.queue.state(id).await?, Some(JobState::Waiting));
        assert_eq!(fixture.field(id, "atm").await?, None);
        let starts = if place < 3 { Some("1") } else { None };
        assert_eq!(fixture.field(id, "ats").await?.as_deref(), starts);
    }
    let waiting = fixture
        .server
        .cli(&["LRANGE", &fixture.key("wait"), "-3", "-1"])
        .await?;
    let mut front = waiting.texts();
    front.sort_unstable();
    assert_eq!(front, ["1", "2", "3"]);
    rest_is_done(
        &fixture,
        &ids,
        &format!("A5 close at its deadline took {took:?}"),
    )
    .await
}

/// A cancelled handler that cleans up and returns in time is stored.
#[tokio::test]
async fn result_of_a_handler_that_stops_when_cancelled_is_stored() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(3, 0).await?;
    let worker = fixture.worker().start(stops_when_cancelled).await?;
    fixture.started(3).await?;
    let closed = worker.close_with(soon()).await;
    assert_eq!(closed.abandoned, 0);
    assert_eq!(fixture.queue.counts().await?.completed, 3);
    rest_is_done(&fixture, &ids, "A5 cancelled handlers end").await
}

/// A6: a second, shorter order ends a patient shutdown at once.
#[tokio::test]
async fn second_order_ends_a_shutdown_at_once() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(4, 0).await?;
    let worker = fixture.worker().start(hangs).await?;
    fixture.started(4).await?;
    let hour = Duration::from_secs(3600);
    let patient = ShutdownOptions::new()
        .finish_within(hour)
        .cancel_within(hour);
    let from = Instant::now();
    let (first, second) = tokio::join!(worker.close_with(patient), worker.close_now());
    assert_eq!((first.abandoned, second.abandoned), (0, 0));
    assert_eq!(worker.close().await.abandoned, 0);
    let took = from.elapsed();
    assert_eq!(fixture.queue.counts().await?.waiting, 4);
    rest_is_done(&fixture, &ids, &format!("A6 second order took {took:?}")).await
}

/// The same while handlers are being cancelled already.
#[tokio::test]
async fn second_order_ends_a_patient_cancellation() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(4, 0).await?;
    let worker = fixture.worker().start(hangs).await?;
    fixture.started(4).await?;
    let hour = Duration::from_secs(3600);
    let patient = ShutdownOptions::new()
        .finish_within(Duration::ZERO)
        .cancel_within(hour);
    let now = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        worker.close_now().await
    };
    let (first, second) = tokio::join!(worker.close_with(patient), now);
    assert_eq!((first.abandoned, second.abandoned), (0, 0));
    rest_is_done(&fixture, &ids, "A6 second order during cancellation").await
}

/// Closing an idle worker takes milliseconds.
#[tokio::test]
async fn idle_worker_closes_at_once() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(1, 0).await?;
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    let from = Instant::now();
    worker.close().await;
    let took = from.elapsed();
    check_queue(&fixture, &ids, Allow::default()).await?;
    println!("idle close took {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    Ok(())
}

/// Redis is down: close returns by its deadlines, and reports what it could not release.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_returns_while_redis_is_down() -> TestResult {
    let fixture = Fixture::durable().await?;
    let ids = fixture.add(5, 0).await?;
    let worker = fixture.worker().start(hangs).await?;
    fixture.started(5).await?;
    fixture.server.kill_hard();
    let from = Instant::now();
    let closed = worker.close_with(soon()).await;
    let took = from.elapsed();
    assert_eq!(closed.abandoned, 5);
    // One second of deadlines, and one for the last word.
    assert!(took < Duration::from_secs(4), "{took:?}");
    fixture.server.restart().await?;
    // Their locks expire, and another worker runs them.
    rest_is_done(
        &fixture,
        &ids,
        &format!("close while redis is down took {took:?}"),
    )
    .await
}

/// A frozen Redis is no different.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_returns_while_redis_is_frozen() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(5, 0).await?;
    let worker = fixture.worker().start(hangs).await?;
    fixture.started(5).await?;
    fixture.server.freeze()?;
    let from = Instant::now();
    let closed = worker.close_with(soon()).await;
    let took = from.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
    fixture.server.thaw()?;
    assert!(closed.abandoned <= 5);
    rest_is_done(
        &fixture,
        &ids,
        &format!("close while redis is frozen took {took:?}"),
    )
    .await
}

/// A6: a handle that is dropped stops its worker; its jobs are released or recovered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_without_close_releases_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(6, 0).await?;
    let worker = fixture.worker().start(hangs).await?;
    fixture.started(6).await?;
    drop(worker);
    rest_is_done(&fixture, &ids, "A6 drop without close").await
}
