//! Handlers in their surroundings: layers, events, shutdown and a lost lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use oxbull::{
    Context, Error, Job, JobCall, JobOptions, JobReply, JobResult, JobService, NewJob, Outcome,
    Refusal, ShutdownOptions, Worker,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

use super::{Gate, pass};

#[derive(Clone)]
struct CountLayer(Arc<AtomicUsize>);

#[derive(Clone)]
struct Count<S> {
    inner: S,
    calls: Arc<AtomicUsize>,
}

impl Layer<JobService> for CountLayer {
    type Service = Count<JobService>;

    fn layer(&self, inner: JobService) -> Self::Service {
        Count {
            inner,
            calls: Arc::clone(&self.0),
        }
    }
}

impl<S> Service<JobCall> for Count<S>
where
    S: Service<JobCall, Response = JobReply>,
{
    type Response = JobReply;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: JobCall) -> S::Future {
        self.calls
            .fetch_add(call.id().as_str().len(), Ordering::SeqCst);
        self.inner.call(call)
    }
}

/// Layers see every attempt.
#[tokio::test]
async fn layers_wrap_every_attempt() -> TestResult {
    let fixture = Fixture::start().await?;
    let calls = Arc::new(AtomicUsize::new(0));
    let worker = Worker::builder(&fixture.client, "q")
        .layer(CountLayer(Arc::clone(&calls)))
        .start(scripted)
        .await?;
    fixture.add("ok", JobOptions::new()).await?;
    fixture.add("fail", JobOptions::new().attempts(3)).await?;
    fixture.ended(2).await?;
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    worker.close().await;
    Ok(())
}

/// A reader that never reads costs nothing and can see what it missed.
#[tokio::test]
async fn unread_events_are_bounded() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(50)
        .paused()
        .start(scripted)
        .await?;
    let mut events = worker.events();
    let jobs = (0..2000).map(|_| NewJob::new("ok", json!({})));
    for added in fixture.queue.add_bulk(jobs).await? {
        added?;
    }
    worker.resume().await?;
    fixture.ended(2000).await?;
    worker.close().await;
    drop(worker);
    let mut seen = 0_u64;
    while events.next().await.is_some() {
        seen += 1;
    }
    assert!(
        seen <= 1024 && events.missed() > 2000,
        "{seen} seen, {} missed",
        events.missed()
    );
    Ok(())
}

/// At the deadline handlers are cancelled and their jobs go back, to run next, with no attempt
/// used.
#[tokio::test]
async fn jobs_beyond_the_deadline_are_released() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .shutdown(
            ShutdownOptions::new()
                .finish_within(Duration::from_millis(50))
                .cancel_within(Duration::from_millis(50)),
        )
        .start(scripted)
        .await?;
    let id = fixture.add("hang", JobOptions::new()).await?;
    fixture.counts(|counts| counts.active == 1).await?;
    fixture.add("ok", JobOptions::new()).await?;
    assert_eq!(worker.close().await.abandoned, 0);
    let job = fixture.job(&id).await?;
    assert_eq!(
        (job.attempts_started, job.attempts_made, job.stalled),
        (1, 0, 0)
    );
    assert_eq!(
        fixture
            .server
            .text(&["LINDEX", "bull:q:wait", "-1"])
            .await?
            .as_deref(),
        Some(id.as_str())
    );
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:1:lock"]).await?, 0);
    Ok(())
}

/// Handlers that end in time are not cancelled, and nothing is started meanwhile.
#[tokio::test]
async fn closing_lets_handlers_finish() -> TestResult {
    let fixture = Fixture::start().await?;
    let gate = Gate::closed();
    let worker = Worker::builder(&fixture.client, "q")
        .state(Arc::clone(&gate))
        .start(pass)
        .await?;
    for n in 0..2 {
        fixture.queue.add("gated", &json!(n)).await?;
    }
    eventually(DEADLINE, || async {
        gate.running.load(Ordering::SeqCst) == 1
    })
    .await?;
    let (closed, ()) = tokio::join!(worker.close(), async { gate.open.add_permits(5) });
    assert_eq!(closed.abandoned, 0);
    let counts = fixture.queue.counts().await?;
    assert_eq!((counts.completed, counts.waiting, counts.active), (1, 1, 0));
    assert!(matches!(worker.pause().await, Err(Error::Closed)));
    Ok(())
}

/// How a handler and its test synchronize.
struct Talk {
    begun: Semaphore,
    go_on: Semaphore,
    refusals: tokio::sync::Mutex<Vec<Error>>,
}

async fn write_twice(job: Job<Value>, context: Context<Arc<Talk>>) -> JobResult<()> {
    let talk = context.state();
    job.update_data(&json!("in time")).await?;
    talk.begun.add_permits(1);
    for _ in 0..2 {
        talk.go_on.acquire().await?.forget();
        if let Err(error) = job.update_data(&json!("late")).await {
            talk.refusals.lock().await.push(error);
        }
        talk.begun.add_permits(1);
    }
    Ok(Outcome::Done(()))
}

/// A handler that was frozen beyond its lock must not undo what the job's next worker wrote.
#[tokio::test]
async fn handler_without_its_lock_writes_no_data() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("ok", JobOptions::new()).await?;
    let talk = Arc::new(Talk {
        begun: Semaphore::new(0),
        go_on: Semaphore::new(0),
        refusals: tokio::sync::Mutex::default(),
    });
    let worker = Worker::builder(&fixture.client, "q")
        .state(Arc::clone(&talk))
        .start(write_twice)
        .await?;
    let lock = format!("bull:q:{id}:lock");
    for take_over in [vec!["SET", &lock, "another's"], vec!["DEL", &lock]] {
        talk.begun.acquire().await?.forget();
        fixture.server.cli(&take_over).await?;
        talk.go_on.add_permits(1);
    }
    talk.begun.acquire().await?.forget();
    let refusals = talk.refusals.lock().await;
    let sources = refusals.iter().map(|error| match error {
        Error::Refused { source, .. } => Some(*source),
        _ => None,
    });
    let sources: Vec<_> = sources.collect();
    assert_eq!(
        sources,
        [Some(Refusal::LockLost), Some(Refusal::LockMissing)]
    );
    assert_eq!(fixture.job(&id).await?.data::<String>()?, "in time");
    // Code outside of a handler may write at any time.
    fixture.queue.update_data(&id, &json!("by hand")).await?;
    assert_eq!(fixture.job(&id).await?.data::<String>()?, "by hand");
    worker.close_now().await;
    Ok(())
}
