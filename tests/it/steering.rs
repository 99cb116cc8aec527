//! Steering a worker that runs: its first events, listings, pauses, cancelled handlers.

use std::time::Duration;

use oxbull::{
    Backoff, Context, Error, Job, JobError, JobId, JobOptions, JobResult, JobState, ManualWorker,
    Outcome, ShutdownOptions, Worker, WorkerEvent,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};
use tracing::Level;

use crate::logs::Logs;

/// The builder's events begin before the worker does; a worker that finds nothing emits `drained` once.
#[tokio::test]
async fn idle_worker_emits_drained_once() -> TestResult {
    let fixture = Fixture::start().await?;
    let builder = Worker::builder(&fixture.client, "q").drain_delay(Duration::from_millis(20));
    let mut events = builder.events();
    let worker = builder.start(scripted).await?;
    assert_eq!(events.next().await, Some(WorkerEvent::Drained));
    // Several fetches later.
    eventually(DEADLINE, || async {
        fixture.calls("evalsha").await.is_ok_and(|calls| calls > 10)
    })
    .await?;
    worker.close().await;
    assert_eq!(events.next().await, Some(WorkerEvent::Closing));
    assert_eq!(events.next().await, Some(WorkerEvent::Closed));
    assert_eq!(events.next().await, None);
    Ok(())
}

/// A worker is listed as soon as it is started, whatever it leaves to others.
#[tokio::test]
async fn started_worker_is_listed() -> TestResult {
    let fixture = Fixture::start().await?;
    for passive in [false, true] {
        let name = format!("w{passive}");
        let builder = Worker::builder(&fixture.client, "q").name(&name);
        let builder = if passive {
            builder.skip_stalled_check().paused()
        } else {
            builder
        };
        let worker = builder.start(scripted).await?;
        let clients = fixture.server.cli(&["CLIENT", "LIST"]).await?;
        let clients = clients.text().unwrap_or_default();
        assert!(
            clients.contains(&format!("name=bull:cQ==:w:{name} ")),
            "{clients}"
        );
        worker.close().await;
    }
    Ok(())
}

/// A worker that cannot reach Redis starts all the same, and is not healthy until it can.
#[tokio::test]
async fn health_follows_the_work() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .drain_delay(Duration::from_millis(50))
        .start(scripted)
        .await?;
    eventually(DEADLINE, || async { worker.health().is_healthy() }).await?;
    assert!(worker.health().last_fetch.is_some());
    assert_eq!(worker.health().last_renewal, None);
    fixture.server.kill_hard();
    eventually(DEADLINE, || async { !worker.health().is_healthy() }).await?;
    let trouble = worker.health().trouble.ok_or("no trouble")?;
    assert!(
        trouble.reason.contains("queue could not be advanced"),
        "{trouble:?}"
    );
    fixture.server.restart().await?;
    eventually(DEADLINE, || async { worker.health().is_healthy() }).await?;
    worker.close().await;
    assert!(!worker.health().is_healthy());
    Ok(())
}

/// Pausing need not wait for the jobs that run.
#[tokio::test]
async fn pause_without_waiting_returns_while_a_job_runs() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .shutdown(
            ShutdownOptions::new()
                .finish_within(Duration::ZERO)
                .cancel_within(Duration::ZERO),
        )
        .start(scripted)
        .await?;
    fixture.add("hang", JobOptions::new()).await?;
    eventually(DEADLINE, || async { worker.health().running == 1 }).await?;
    worker.pause_without_waiting().await?;
    eventually(DEADLINE, || async { worker.health().paused }).await?;
    assert_eq!(worker.health().running, 1);
    worker.close().await;
    Ok(())
}

async fn stops(job: Job<Value>, context: Context) -> JobResult<()> {
    context.cancelled().await;
    if job.data()["do"] == "ignore" {
        std::future::pending::<()>().await;
    }
    Err(JobError::fatal("stopped"))
}

/// A handler can be cancelled without closing its worker; one that does not return is dropped, and
/// its attempt has failed.
#[tokio::test]
async fn handlers_are_cancelled_one_by_one_or_together() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(3)
        .shutdown(ShutdownOptions::new().cancel_within(Duration::from_millis(50)))
        .start(stops)
        .await?;
    let kind = fixture.add("stop", JobOptions::new().attempts(3)).await?;
    let deaf = fixture.add("ignore", JobOptions::new()).await?;
    let other = fixture.add("stop", JobOptions::new()).await?;
    eventually(DEADLINE, || async { worker.health().running == 3 }).await?;
    assert!(!worker.cancel_job(&JobId::existing("none")).await?);
    assert!(worker.cancel_job(&kind).await?);
    fixture.ended(1).await?;
    let job = fixture.job(&kind).await?;
    assert_eq!(job.failed_reason.as_deref(), Some("stopped"));
    assert_eq!(worker.cancel_all_jobs().await?, 2);
    fixture.ended(3).await?;
    for (id, reason) in [(deaf, "job was cancelled"), (other, "stopped")] {
        assert_eq!(
            fixture.job(&id).await?.failed_reason.as_deref(),
            Some(reason)
        );
    }
    worker.close().await;
    Ok(())
}

/// Progress is an event of the worker, too.
#[tokio::test]
async fn progress_is_a_local_event() -> TestResult {
    async fn report(job: Job<Value>, _: Context) -> JobResult<()> {
        job.update_progress(&json!({ "percent": 50 })).await?;
        Ok(Outcome::Done(()))
    }
    let fixture = Fixture::start().await?;
    let id = fixture.add("x", JobOptions::new()).await?;
    let builder = Worker::builder(&fixture.client, "q");
    let mut events = builder.events();
    let worker = builder.start(report).await?;
    let mut emitted = None;
    while emitted.is_none() {
        if let Some(WorkerEvent::Progress { id, progress, .. }) = events.next().await {
            emitted = Some((id, progress));
        }
    }
    assert_eq!(emitted, Some((id, r#"{"percent":50}"#.into())));
    worker.close().await;
    Ok(())
}

/// Failures are in the log: a final one as a warning, a retry with the time of the next run.
#[tokio::test]
async fn failures_are_logged() -> TestResult {
    let logs = Logs::capture();
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let once = fixture
        .add("fail once", JobOptions::new().attempts(2))
        .await?;
    let failed = fixture.add("fail", JobOptions::new()).await?;
    fixture.ended(2).await?;
    worker.close().await;
    let retried = logs.of(Level::INFO, "the job is retried");
    assert_eq!(retried.len(), 1, "{retried:?}");
    for part in [
        once.as_str(),
        "fail once",
        "it failed once",
        "next_attempt_in",
        "took",
    ] {
        assert!(retried[0].contains(part), "{part}: {retried:?}");
    }
    let finally = logs.of(Level::WARN, "job failed");
    assert_eq!(finally.len(), 1, "{finally:?}");
    for part in [
        "queue",
        failed.as_str(),
        "name",
        "attempt",
        "it failed",
        "took",
    ] {
        assert!(finally[0].contains(part), "{part}: {finally:?}");
    }
    let closing = logs.of(Level::INFO, "worker closing");
    assert!(
        closing.len() == 1 && closing[0].contains("running"),
        "{closing:?}"
    );
    assert_eq!(logs.of(Level::INFO, "worker closed").len(), 1);
    Ok(())
}

/// What is left of a shutdown's time, or of a job's own, does not keep a job from being released: not
/// that its handler was cancelled before and had longer, nor a backoff strategy that does not end.
#[tokio::test]
async fn unfinished_attempts_are_released_at_shutdown() -> TestResult {
    async fn deaf(job: Job<Value>, _: Context) -> JobResult<()> {
        if job.data()["do"] == "fail" {
            return Err(JobError::retry("it failed"));
        }
        std::future::pending().await
    }
    let fixture = Fixture::start().await?;
    let deaf_id = fixture.add("deaf", JobOptions::new().attempts(5)).await?;
    let endless = Backoff::custom("endless");
    fixture
        .add("fail", JobOptions::new().attempts(5).backoff(endless))
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(2)
        .shutdown(ShutdownOptions::new().cancel_within(Duration::from_secs(3600)))
        .backoff_strategy("endless", |_| std::future::pending())
        .start(deaf)
        .await?;
    eventually(DEADLINE, || async { worker.health().running == 2 }).await?;
    assert!(worker.cancel_job(&deaf_id).await?);
    let closed = worker.close_now().await;
    assert_eq!((closed.released, closed.abandoned), (2, 0));
    assert_eq!(fixture.queue.counts().await?.waiting, 2);
    Ok(())
}

/// Resuming a worker ends the wait of the pause.
#[tokio::test]
async fn resumed_worker_is_waited_for_no_longer() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.add("hang", JobOptions::new()).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    eventually(DEADLINE, || async { worker.health().running == 1 }).await?;
    let resume = async {
        eventually(DEADLINE, || async { worker.health().paused }).await?;
        TestResult::Ok(worker.resume().await?)
    };
    let both = async { tokio::join!(worker.pause(), resume) };
    let (paused, resumed) = tokio::time::timeout(DEADLINE, both).await?;
    paused?;
    resumed?;
    worker.close_now().await;
    Ok(())
}

/// A wait may be as long as a `Duration` can say.
#[tokio::test]
async fn waits_may_be_endless() -> TestResult {
    async fn limit(_: Job<Value>, _: Context) -> JobResult<()> {
        Ok(Outcome::RateLimited(Duration::MAX))
    }
    let fixture = Fixture::start().await?;
    let id = fixture.add("hang", JobOptions::new()).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .drain_delay(Duration::MAX)
        .start(scripted)
        .await?;
    eventually(DEADLINE, || async { worker.health().running == 1 }).await?;
    let endless = ShutdownOptions::new()
        .finish_within(Duration::MAX)
        .cancel_within(Duration::MAX)
        .report_within(Duration::MAX);
    let cancel = async {
        // In either order: the handler is notified, and dropped by the order to close at once.
        worker.cancel_job(&id).await.ok();
        worker.close_now().await
    };
    let (closed, _) = tokio::join!(worker.close_with(endless), cancel);
    assert_eq!((closed.released, closed.abandoned), (1, 0));
    let manual = ManualWorker::new(&fixture.client, "q")?;
    let fetched = manual.fetch_within("token", Duration::MAX).await?;
    let job = fetched.ok_or("nothing to fetch")?;
    let again = Ok::<Outcome<()>, _>(Outcome::Release);
    manual.finish(&job, "token", again).await?;
    let builder = Worker::builder(&fixture.client, "q").max_rate_limit_wait(Duration::MAX);
    let mut events = builder.events();
    let worker = builder.start(limit).await?;
    while let Some(event) = events.next().await {
        if matches!(event, WorkerEvent::Deferred { .. }) {
            break;
        }
    }
    let closed = worker.close().await;
    assert_eq!(closed.abandoned, 0);
    assert!(worker.health().closed);
    Ok(())
}

/// A lock that Redis cannot take is refused before a job leaves its list for it.
#[tokio::test]
async fn impossible_locks_are_refused_and_lose_no_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("x", JobOptions::new()).await?;
    for duration in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let manual = ManualWorker::new(&fixture.client, "q")?.lock_duration(duration);
        let refused = manual.fetch("token").await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        let builder = Worker::builder(&fixture.client, "q").lock_duration(duration);
        let refused = builder.start(scripted).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Waiting));
    Ok(())
}

/// A worker of a closed client would never return.
#[tokio::test]
async fn closed_client_starts_no_worker() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    worker.close().await;
    assert!(worker.is_closed());
    fixture.client.close().await;
    let refused = Worker::builder(&fixture.client, "q").start(scripted).await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    Ok(())
}

/// While Redis cannot serve handlers their worker is not healthy, although its fetches are answered; it is
/// again when one has done its work.
#[tokio::test]
async fn outage_in_handlers_shows_in_health() -> TestResult {
    #[derive(Debug, thiserror::Error)]
    #[error("the receipt was not written")]
    struct Receipt(#[source] Error);
    async fn write(job: Job<Value>, _: Context) -> JobResult<()> {
        if job.name() == "well" {
            return Ok(Outcome::Done(()));
        }
        Err(Receipt(Error::Unreachable("nobody is there".into())).into())
    }
    let logs = Logs::capture();
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q").start(write).await?;
    fixture.add("x", JobOptions::new()).await?;
    fixture.counts(|counts| counts.delayed == 1).await?;
    let trouble = worker.health().trouble.ok_or("it counts as healthy")?;
    assert!(trouble.reason.contains("nobody is there"), "{trouble:?}");
    let lines = logs.of(Level::WARN, "the job is postponed");
    assert!(lines[0].contains("nobody is there"), "{lines:?}");
    fixture.add("well", JobOptions::new()).await?;
    fixture.ended(1).await?;
    eventually(DEADLINE, || async { worker.health().is_healthy() }).await?;
    worker.close().await;
    Ok(())
}
