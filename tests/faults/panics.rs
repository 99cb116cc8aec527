//! V3: a handler that panics fails its attempt and gives up its slot and lock, wherever it
//! panics.

use oxbull::{
    Backoff, Context, Handler, Job, JobCall, JobError, JobOptions, JobResult, Outcome, WorkerEvent,
};
use oxbull_testkit::{DEADLINE, TestResult};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Context as Poll;
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

/// An error with code of its own that panics: where its causes are looked at, or when it is dropped.
#[derive(Debug)]
struct Hostile {
    in_drop: bool,
}

impl std::fmt::Display for Hostile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hostile")
    }
}

impl std::error::Error for Hostile {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        assert!(self.in_drop, "panic in source");
        None
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        assert!(!self.in_drop || std::thread::panicking(), "panic in drop");
    }
}

async fn fails_with_a_hostile_drop(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    Err(JobError::retry(Hostile { in_drop: true }))
}

async fn postpones_with_a_hostile_source(
    job: Job<Work>,
    context: Context<Effects>,
) -> JobResult<()> {
    context.state().begin(&job);
    Err(JobError::postpone(Hostile { in_drop: false }))
}

/// The code of a handler's error runs in the attempt's task: the worker outlives it.
#[tokio::test]
async fn panic_in_the_error_of_a_handler_fails_the_attempt() -> TestResult {
    fails_both_attempts(fails_with_a_hostile_drop, "handler panicked: panic in drop").await?;
    fails_both_attempts(
        postpones_with_a_hostile_source,
        "handler panicked: panic in source",
    )
    .await
}

/// The same holds for layers, which are cloned for each attempt.
#[tokio::test]
async fn panic_in_the_clone_of_a_layer_fails_the_attempt() -> TestResult {
    struct Fragile<S>(S);
    impl<S: Clone> Clone for Fragile<S> {
        fn clone(&self) -> Self {
            static CLONES: AtomicUsize = AtomicUsize::new(0);
            let clones = CLONES.fetch_add(1, Ordering::Relaxed);
            assert_ne!(clones, 2, "panic in clone");
            Self(self.0.clone())
        }
    }
    impl<S: tower::Service<JobCall>> tower::Service<JobCall> for Fragile<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Poll<'_>) -> std::task::Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, job: JobCall) -> S::Future {
            self.0.call(job)
        }
    }
    let fixture = Fixture::start().await?;
    let options = JobOptions::new()
        .attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(10)));
    let ids = fixture.add_with(5, 0, &options).await?;
    let worker = fixture
        .worker()
        .layer(tower::layer::layer_fn(Fragile))
        .start(work)
        .await?;
    fixture.drained().await?;
    assert!(worker.health().is_healthy());
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    assert_eq!((summary.completed, summary.failed), (5, 0));
    Ok(())
}
