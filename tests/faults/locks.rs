//! V4, H2: locks that are lost, and handlers that hold up their thread.

use std::time::Duration;

use oxbull::{Context, Job, JobResult, Outcome, WorkerEvent};
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Effects, Fixture, Work, event, work};

/// Never ends at a job's first start, and at once at later ones.
async fn hangs_once(job: Job<Work>, context: Context<Effects>) -> JobResult<u32> {
    context.state().begin(&job);
    if job.attempts_started() == 1 {
        std::future::pending::<()>().await;
    }
    context.state().end(&job);
    Ok(Outcome::Done(job.attempts_started()))
}

/// V4: when another worker has the lock, the handler is cancelled and nothing of it is stored.
#[tokio::test]
async fn lost_lock_cancels_the_handler_and_stores_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(3, 0).await?;
    let worker = fixture.worker().start(hangs_once).await?;
    let mut events = worker.events();
    fixture.started(3).await?;
    let locks: Vec<String> = ids
        .iter()
        .map(|id| fixture.key(&format!("{id}:lock")))
        .collect();
    for lock in &locks {
        fixture.server.cli(&["SET", lock, "somebody"]).await?;
    }
    for _ in &locks {
        event(&mut events, |event| {
            matches!(event, WorkerEvent::LockLost { .. })
        })
        .await?;
    }
    assert_eq!(fixture.effects.ends(), 0);
    for id in &ids {
        assert_eq!(fixture.field(id, "returnvalue").await?, None);
        assert_eq!(fixture.field(id, "failedReason").await?, None);
        assert_eq!(fixture.field(id, "atm").await?, None);
    }
    assert_eq!(
        fixture
            .server
            .int(&["LLEN", &fixture.key("active")])
            .await?,
        3
    );
    // The thief dies, its locks expire.
    for lock in &locks {
        fixture.server.cli(&["DEL", lock]).await?;
    }
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V4 lost locks: {summary}");
    assert_eq!((summary.completed, summary.stalls), (3, 3));
    Ok(())
}

/// Blocks its thread three times as long as its lock lasts.
async fn blocks(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    #[expect(
        clippy::disallowed_methods,
        reason = "a handler that blocks its thread is the point"
    )]
    std::thread::sleep(Duration::from_millis(job.data().ms));
    context.state().end(&job);
    Ok(Outcome::Done(()))
}

async fn blocking_handler_keeps_its_lock() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(2, 3000).await?;
    let lock = Duration::from_secs(1);
    let worker = fixture
        .worker()
        .lock_duration(lock)
        .concurrency(1)
        .start(blocks)
        .await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("H2 handler blocks for three locks: {summary}");
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (2, 0, 0)
    );
    Ok(())
}

/// H2: locks are kept on a thread of their own, so a blocked executor does not lose them.
#[tokio::test(flavor = "current_thread")]
async fn handler_that_blocks_the_only_thread_keeps_its_lock() -> TestResult {
    blocking_handler_keeps_its_lock().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn handler_that_blocks_a_worker_thread_keeps_its_lock() -> TestResult {
    blocking_handler_keeps_its_lock().await
}

/// A healthy worker next to them is no reason to lose locks either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lock_is_renewed_as_long_as_the_handler_runs() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(10, 2500).await?;
    let lock = Duration::from_millis(600);
    let first = fixture.worker().lock_duration(lock).start(work).await?;
    let second = fixture
        .worker_of(&fixture.other_client().await?)
        .lock_duration(lock)
        .start(work)
        .await?;
    fixture.drained().await?;
    first.close().await;
    second.close().await;
    let allow = Allow {
        clients: 2,
        ..Allow::default()
    };
    let summary = check_queue(&fixture, &ids, allow).await?;
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (10, 0, 0)
    );
    Ok(())
}
