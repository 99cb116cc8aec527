//! What is left of a handle that was dropped: nothing that runs.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Context, Job, JobOptions, JobResult, ManualWorker, Outcome, Queue,
    QueueEvents, Worker,
};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};

/// How long an idle process is watched.
const WATCHED: Duration = Duration::from_millis(700);
/// How much of that time it may be busy: a task that spins takes all of it.
const BUSY_MAX: f64 = 0.2;

async fn linger(_: Job<Value>, context: Context) -> JobResult<()> {
    tokio::select! {
        () = context.cancelled() => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    Ok(Outcome::Done(()))
}

/// Returns how much CPU time this thread has used.
fn used() -> TestResult<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split(' ').next().ok_or("no time")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}

/// Runs `setup` on a runtime and thread of its own, and measures what its tasks use afterwards.
fn idle_after<F, Fut>(name: &'static str, setup: F) -> TestResult
where
    F: FnOnce(Arc<RedisServer>, Client) -> Fut + Send + 'static,
    Fut: Future<Output = TestResult>,
{
    let watched = std::thread::spawn(move || -> TestResult<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let server = Arc::new(RedisServer::start().await?);
            let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
            setup(Arc::clone(&server), client).await?;
            let before = used()?;
            tokio::time::sleep(WATCHED).await;
            let busy = used()?.saturating_sub(before);
            Ok(busy.as_secs_f64() / WATCHED.as_secs_f64())
        })
    });
    let busy = watched.join().map_err(|_| "the setup panicked")??;
    assert!(busy < BUSY_MAX, "{name}: {:.0} % of a core", busy * 100.0);
    Ok(())
}

/// Every task of the library ends or sleeps once the handle that owns it is gone.
#[test]
#[cfg(target_os = "linux")]
fn dropped_handles_leave_nothing_that_spins() -> TestResult {
    idle_after("worker that cannot tell its end", async |server, client| {
        let queue: Queue = Queue::open(&client, "q").await?;
        queue.add("x", &json!({})).await?;
        let builder = Worker::builder(&client, "q");
        let mut events = builder.events();
        let worker = builder.start(linger).await?;
        // Its first event: the job is active.
        events.next().await;
        // Its job cannot be released: the worker keeps trying for a while.
        server.freeze()?;
        drop(worker);
        Ok(())
    })?;
    idle_after("idle worker", async |_, client| {
        let builder = Worker::builder(&client, "q");
        let mut events = builder.events();
        let worker = builder.start(linger).await?;
        events.next().await;
        drop(worker);
        Ok(())
    })?;
    idle_after("worker kept, its client dropped", async |_, client| {
        let worker = Worker::builder(&client, "q").start(linger).await?;
        std::mem::forget(worker);
        Ok(())
    })?;
    idle_after("queue with adds under way", async |_, client| {
        let queue: Queue = Queue::open(&client, "q").await?;
        for _ in 0..10 {
            queue.add_once("x", &json!({}), JobOptions::new()).await?;
        }
        drop(queue);
        Ok(())
    })?;
    idle_after("waiting for a result", async |_, client| {
        let queue: Queue = Queue::open(&client, "q").await?;
        let added = queue.add("x", &json!({})).await?;
        let waiting = queue.wait_for::<Value>(&added.id, Duration::from_millis(50));
        drop(waiting.await);
        drop(queue);
        Ok(())
    })?;
    idle_after("events", async |_, client| {
        let queue: Queue = Queue::open(&client, "q").await?;
        let mut events = QueueEvents::open(&client, "q").await?;
        queue.add("x", &json!({})).await?;
        events.next().await;
        drop(events);
        Ok(())
    })?;
    idle_after("manual worker that has waited", async |_, client| {
        let worker = ManualWorker::new(&client, "q")?;
        worker.fetch_within("t", Duration::from_millis(30)).await?;
        drop(worker);
        Ok(())
    })?;
    idle_after("client that is closed", async |_, client| {
        let worker = Worker::builder(&client, "q").start(linger).await?;
        client.close().await;
        std::mem::forget(worker);
        Ok(())
    })
}

/// A worker whose runtime has ended cannot say so itself: its handle does, and counts the job it left.
#[test]
fn worker_whose_runtime_has_ended_is_closed() -> TestResult {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    };
    let (own, other) = (runtime()?, runtime()?);
    let server = own.block_on(RedisServer::start())?;
    let url = server.url();
    let worker = other.block_on(async {
        let client = Client::connect(ClientConfig::from_url(&url)?).await?;
        let queue: Queue<u32> = Queue::open(&client, "q").await?;
        queue.add("n", &1).await?;
        let forever =
            async |_: Job<u32>| -> Result<(), std::io::Error> { std::future::pending().await };
        let worker = queue.worker().start(forever).await?;
        eventually(DEADLINE, async || worker.health().running == 1).await?;
        TestResult::Ok(worker)
    })?;
    assert!(worker.health().is_healthy());
    other.shutdown_timeout(DEADLINE);
    let health = worker.health();
    assert!(health.closed && !health.is_healthy(), "{health:?}");
    let report = own.block_on(worker.close());
    assert_eq!((report.released, report.abandoned), (0, 1));
    Ok(())
}
