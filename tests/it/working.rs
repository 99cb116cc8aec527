//! How workers run jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use oxbull::{
    Backoff, Context, Error, FailedAttempt, Job, JobCall, JobError, JobOptions, JobRateLimit,
    JobReply, JobResult, JobService, JobState, NewJob, Outcome, Queue, Refusal, Retention,
    ShutdownOptions, Worker, WorkerEvent,
};
use oxbull_fixture::{Fixture, obey};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::{Layer, Service};

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
        .start(obey)
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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
        .start(obey)
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

/// Jobs without a priority come first, then the smaller numbers, each in order of arrival; `lifo`
/// goes before all that wait.
#[tokio::test]
async fn jobs_run_in_order_of_priority() -> TestResult {
    let fixture = Fixture::start().await?;
    for (name, options) in [
        ("p5", JobOptions::new().priority(5)),
        ("first", JobOptions::new()),
        ("p2", JobOptions::new().priority(2)),
        ("second", JobOptions::new()),
        ("lifo", JobOptions::new().lifo()),
    ] {
        fixture.add(name, options).await?;
    }
    let worker = Worker::builder(&fixture.client, "q")
        .paused()
        .start(obey)
        .await?;
    let mut events = worker.events();
    worker.resume().await?;
    let mut order = Vec::new();
    while order.len() < 5 {
        if let Some(WorkerEvent::Active { name, .. }) = events.next().await {
            order.push(name.to_string());
        }
    }
    assert_eq!(order, ["lifo", "first", "second", "p2", "p5"]);
    worker.close().await;
    Ok(())
}

struct Gate {
    running: AtomicUsize,
    most: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    /// A gate that holds every job until permits are added.
    fn closed() -> Arc<Self> {
        Arc::new(Self {
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            open: Semaphore::new(0),
        })
    }
}

async fn pass(_: Job<Value>, context: Context<Arc<Gate>>) -> JobResult<()> {
    let gate = context.state();
    let now = gate.running.fetch_add(1, Ordering::SeqCst) + 1;
    gate.most.fetch_max(now, Ordering::SeqCst);
    gate.open.acquire().await?.forget();
    gate.running.fetch_sub(1, Ordering::SeqCst);
    Ok(Outcome::Done(()))
}

/// No more handlers run than the concurrency says, and it can be changed at any time.
#[tokio::test]
async fn concurrency_is_kept_and_can_change() -> TestResult {
    let fixture = Fixture::start().await?;
    let gate = Gate::closed();
    let jobs = (0..30).map(|n| NewJob::new("gated", json!(n)));
    for added in fixture.queue.add_bulk(jobs).await? {
        added?;
    }
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(4)
        .state(Arc::clone(&gate))
        .start(pass)
        .await?;
    let running = |wanted: usize| {
        let gate = Arc::clone(&gate);
        eventually(DEADLINE, move || {
            let gate = Arc::clone(&gate);
            async move { gate.running.load(Ordering::SeqCst) == wanted }
        })
    };
    running(4).await?;
    assert_eq!(fixture.queue.counts().await?.active, 4);
    worker.set_concurrency(7).await?;
    running(7).await?;
    assert_eq!(gate.most.load(Ordering::SeqCst), 7);
    gate.open.add_permits(30);
    fixture.ended(30).await?;
    assert!(gate.most.load(Ordering::SeqCst) <= 7);
    assert!(worker.set_concurrency(0).await.is_err());
    worker.close().await;
    Ok(())
}

/// Two hundred free slots fill in a few round trips.
#[tokio::test]
async fn many_slots_fill_in_a_few_calls() -> TestResult {
    let fixture = Fixture::start().await?;
    let gate = Gate::closed();
    let jobs = (0..200).map(|n| NewJob::new("gated", json!(n)));
    for added in fixture.queue.add_bulk(jobs).await? {
        added?;
    }
    let before = fixture.calls("evalsha").await? + fixture.calls("eval").await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(200)
        .skip_stalled_check()
        .state(Arc::clone(&gate))
        .start(pass)
        .await?;
    eventually(DEADLINE, || async {
        gate.running.load(Ordering::SeqCst) == 200
    })
    .await?;
    let calls = fixture.calls("evalsha").await? + fixture.calls("eval").await? - before;
    assert!(calls <= 6, "{calls} calls for 200 slots");
    gate.open.add_permits(200);
    fixture.ended(200).await?;
    worker.close().await;
    Ok(())
}

/// An idle worker relies on one blocking read; workers of one client share it.
#[tokio::test]
async fn idle_workers_share_one_blocking_read_and_do_not_poll() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut workers = Vec::new();
    for queue in ["q", "r", "s"] {
        let worker = Worker::builder(&fixture.client, queue)
            .name("quiet")
            .drain_delay(Duration::from_secs(60))
            .start(obey)
            .await?;
        workers.push(worker);
    }
    let blocked = |list: &str| {
        list.lines()
            .filter(|line| line.contains("cmd=bzpopmin"))
            .count()
    };
    eventually(DEADLINE, || async {
        let list = fixture.server.text(&["CLIENT", "LIST"]).await.ok()??;
        (blocked(&list) == 1 && list.matches(":w:quiet").count() == 3).then_some(())
    })
    .await?;
    let list = fixture
        .server
        .text(&["CLIENT", "LIST"])
        .await?
        .unwrap_or_default();
    // The client's, the blocking one, a lock renewer for each worker, and the one that asks.
    assert_eq!(list.lines().count(), 1 + 1 + 3 + 1, "{list}");
    // All three are woken through it.
    for queue in ["q", "r", "s"] {
        let queue: Queue<Value> = Queue::open(&fixture.client, queue).await?;
        queue.add("job", &json!({})).await?;
        eventually(DEADLINE, || async {
            queue
                .counts()
                .await
                .is_ok_and(|counts| counts.completed == 1)
        })
        .await?;
    }
    for worker in workers {
        worker.close().await;
    }
    Ok(())
}

/// A delayed job whose marker was lost runs all the same.
#[tokio::test]
async fn overdue_job_without_a_marker_is_found() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .drain_delay(Duration::from_millis(300))
        .paused()
        .start(obey)
        .await?;
    fixture
        .add("late", JobOptions::new().delay(Duration::from_millis(50)))
        .await?;
    fixture.server.cli(&["DEL", "bull:q:marker"]).await?;
    worker.resume().await?;
    fixture.ended(1).await?;
    worker.close().await;
    Ok(())
}

/// The worker's limit and its handlers' own limits hold back the queue, without using attempts.
#[tokio::test]
async fn rate_limits_hold_jobs_back() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(10)
        .rate_limit(JobRateLimit::new(2, Duration::from_millis(400)))
        .start(obey)
        .await?;
    for _ in 0..5 {
        fixture.add("ok", JobOptions::new()).await?;
    }
    fixture.ended(5).await?;
    let mut starts = Vec::new();
    for id in 1..=5 {
        let job = fixture.job(&oxbull::JobId::existing(id.to_string())).await?;
        starts.push(job.processed_on.ok_or("not started")?.as_millis());
    }
    starts.sort_unstable();
    // Three windows of two: the third and the fifth job open new ones.
    assert!(
        starts[2] - starts[0] >= 350 && starts[4] - starts[2] >= 350,
        "{starts:?}"
    );
    let limited = fixture.add("limit once", JobOptions::new()).await?;
    fixture.ended(6).await?;
    let job = fixture.job(&limited).await?;
    assert_eq!((job.attempts_started, job.attempts_made), (2, 1));
    worker.close().await;
    Ok(())
}

/// A paused queue stops every worker; a paused worker stops itself only.
#[tokio::test]
async fn pauses_hold_jobs_until_resumed() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
    fixture.queue.pause().await?;
    fixture.add("ok", JobOptions::new()).await?;
    assert!(fixture.queue.is_paused().await?);
    worker.pause().await?;
    fixture.queue.resume().await?;
    assert_eq!(fixture.queue.counts().await?.waiting, 1);
    assert!(worker.health().paused);
    worker.resume().await?;
    fixture.ended(1).await?;
    worker.close().await;
    Ok(())
}

/// Global concurrency bounds all workers together.
#[tokio::test]
async fn global_concurrency_bounds_all_workers() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture
        .server
        .cli(&["HSET", "bull:q:meta", "concurrency", "2"])
        .await?;
    let gate = Gate::closed();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = Worker::builder(&fixture.client, "q")
            .concurrency(5)
            .drain_delay(Duration::from_millis(50))
            .state(Arc::clone(&gate))
            .start(pass)
            .await?;
        workers.push(worker);
    }
    for n in 0..10 {
        fixture.queue.add("gated", &json!(n)).await?;
    }
    eventually(DEADLINE, || async {
        gate.running.load(Ordering::SeqCst) == 2
    })
    .await?;
    gate.open.add_permits(10);
    fixture.ended(10).await?;
    assert_eq!(gate.most.load(Ordering::SeqCst), 2);
    for worker in workers {
        worker.close().await;
    }
    Ok(())
}

/// An attempt that takes too long fails; its handler is dropped.
#[tokio::test]
async fn timeout_fails_the_attempt() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .timeout(Duration::from_millis(50))
        .start(obey)
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
        .start(obey)
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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
    let line = |text| line_of(include_str!("working.rs"), text);
    for ((made, trace), (attempts, place, cause)) in traces.iter().zip([
        (1, line("Err(JobError::fatal(\"made\"))"), "made"),
        (2, line("parse::<u8>()"), "invalid digit found in string"),
        (2, line("panic!(\"no {}\""), "handler panicked: no panicked"),
    ]) {
        assert_eq!(*made, attempts, "{trace}");
        assert!(
            trace.contains(&format!("\n    at tests/it/working.rs:{place}:")),
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
        .start(obey)
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
        .start(obey)
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
async fn jobs_beyond_the_deadline_go_back() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .shutdown(
            ShutdownOptions::new()
                .finish_within(Duration::from_millis(50))
                .cancel_within(Duration::from_millis(50)),
        )
        .start(obey)
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

/// What a handler and its test tell each other.
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
    // Whoever is no handler may write whenever it likes.
    fixture.queue.update_data(&id, &json!("by hand")).await?;
    assert_eq!(fixture.job(&id).await?.data::<String>()?, "by hand");
    worker.close_now().await;
    Ok(())
}
