//! V3: a handler that panics fails its attempt and gives up its slot and lock, wherever it
//! panics.

use oxbull::{Backoff, Context, Handler, Job, JobOptions, JobResult, Outcome, WorkerEvent};
use oxbull_testkit::{DEADLINE, TestResult};
use std::time::Duration;

use crate::check::{Allow, check_queue};
use crate::fixture::{Effects, Fixture, Work, event, work};

/// Panics when it goes out of scope, unless that happens in a panic.
struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "panic in drop");
    }
}

async fn panics_at_an_await(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    tokio::task::yield_now().await;
    panic!("async panic");
}

async fn panics_in_drop(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    let _guard = PanicsInDrop;
    tokio::task::yield_now().await;
    Ok(Outcome::Done(()))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "handlers get their job and context by value"
)]
fn panics_before_its_future(
    job: Job<Work>,
    context: Context<Effects>,
) -> std::future::Ready<JobResult<()>> {
    context.state().begin(&job);
    panic!("sync panic");
}

/// Runs one job with two attempts against a panicking handler, then a good one in the same slot.
async fn fails_both_attempts<H, M>(handler: H, reason: &str) -> TestResult
where
    H: Handler<Effects, M, Data = Work, Output = JobResult<()>, Future: Send>,
    M: 'static,
{
    let fixture = Fixture::start().await?;
    let options = JobOptions::new()
        .attempts(2)
        .backoff(Backoff::fixed(Duration::from_millis(10)));
    let mut ids = fixture.add_with(1, 0, &options).await?;
    let worker = fixture.worker().concurrency(1).start(handler).await?;
    let mut events = worker.events();
    for retries in [true, false] {
        let failed = event(&mut events, |event| {
            matches!(event, WorkerEvent::Failed { .. })
        });
        let WorkerEvent::Failed {
            reason: text,
            retries: again,
            ..
        } = failed.await?
        else {
            unreachable!()
        };
        assert_eq!((text.as_ref(), again), (reason, retries));
    }
    assert_eq!(fixture.field(&ids[0], "atm").await?.as_deref(), Some("2"));
    worker.close().await;
    // The queue goes on; so does a process in which a handler panicked.
    ids.extend(fixture.add(5, 0).await?);
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    assert_eq!(worker.close().await.abandoned, 0);
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V3 {reason}: {summary}");
    assert_eq!((summary.completed, summary.failed), (5, 1));
    Ok(())
}

#[tokio::test]
async fn panic_at_an_await_fails_the_attempt() -> TestResult {
    fails_both_attempts(panics_at_an_await, "handler panicked: async panic").await
}

#[tokio::test]
async fn panic_before_the_future_fails_the_attempt() -> TestResult {
    fails_both_attempts(panics_before_its_future, "handler panicked: sync panic").await
}

#[tokio::test]
async fn panic_in_drop_fails_the_attempt() -> TestResult {
    fails_both_attempts(panics_in_drop, "handler panicked: panic in drop").await
}

/// A slot is not lost with its panic: one slot gets through many panicking jobs.
#[tokio::test]
async fn panics_do_not_use_up_slots() -> TestResult {
    let fixture = Fixture::start().await?;
    let ids = fixture.add(20, 0).await?;
    let worker = fixture
        .worker()
        .concurrency(2)
        .start(panics_at_an_await)
        .await?;
    tokio::time::timeout(DEADLINE, fixture.drained()).await??;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    assert_eq!(summary.failed, 20);
    Ok(())
}
