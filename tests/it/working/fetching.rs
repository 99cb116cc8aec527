//! Which jobs a worker fetches, when, and how many at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxbull::{JobOptions, JobRateLimit, NewJob, Queue, Worker, WorkerEvent};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use super::{Gate, pass};

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
        .start(scripted)
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

/// Waits until so many jobs have completed.
async fn completed(queue: &Queue<Value>, count: u64) -> TestResult {
    let all = || async {
        let counts = queue.counts().await;
        counts.is_ok_and(|counts| counts.completed == count)
    };
    Ok(eventually(DEADLINE, all).await?)
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
            .start(scripted)
            .await?;
        workers.push(worker);
    }
    let blocked = |list: &str| {
        list.lines()
            .filter(|line| line.contains("cmd=bzpopmin"))
            .count()
    };
    // The client's, the blocking one, a lock renewer for each worker, and the one that asks; whoever asked before may
    // still be listed.
    eventually(DEADLINE, || async {
        let list = fixture.server.text(&["CLIENT", "LIST"]).await.ok()??;
        let named = list.matches(":w:quiet").count();
        ((blocked(&list), named) == (1, 3) && list.lines().count() == 1 + 1 + 3 + 1).then_some(())
    })
    .await?;
    // All three are woken through it.
    for queue in ["q", "r", "s"] {
        let queue: Queue<Value> = Queue::open(&fixture.client, queue).await?;
        queue.add("job", &json!({})).await?;
        completed(&queue, 1).await?;
    }
    for worker in workers {
        worker.close().await;
    }
    Ok(())
}

/// Every read names at most 16 queues: a client with more has several, and each closes with its last worker.
#[tokio::test]
async fn workers_of_many_queues_share_a_few_reads() -> TestResult {
    let fixture = Fixture::start().await?;
    let names: Vec<_> = (0..40).map(|n| format!("many-{n}")).collect();
    let mut workers = Vec::new();
    // Two of each: the second joins the read of the first.
    for name in names.iter().chain(&names) {
        let worker = Worker::builder(&fixture.client, name)
            .concurrency(2)
            .drain_delay(Duration::from_secs(60))
            .start(scripted)
            .await?;
        workers.push(worker);
    }
    let reads = || async {
        let list = fixture.server.text(&["CLIENT", "LIST"]).await.ok()??;
        Some(list.matches("cmd=bzpopmin").count())
    };
    eventually(DEADLINE, || async { reads().await == Some(3) }).await?;
    for round in 1..=3 {
        for name in &names {
            let queue: Queue<Value> = Queue::open(&fixture.client, name).await?;
            queue.add("job", &json!({})).await?;
        }
        for name in &names {
            let queue: Queue<Value> = Queue::open(&fixture.client, name).await?;
            completed(&queue, round).await?;
        }
    }
    for worker in workers.split_off(1) {
        worker.close().await;
    }
    eventually(DEADLINE, || async { reads().await == Some(1) }).await?;
    let queue: Queue<Value> = Queue::open(&fixture.client, "many-0").await?;
    queue.add("job", &json!({})).await?;
    completed(&queue, 4).await?;
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
        .start(scripted)
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
        .start(scripted)
        .await?;
    for _ in 0..5 {
        fixture.add("ok", JobOptions::new()).await?;
    }
    fixture.ended(5).await?;
    let mut starts = Vec::new();
    for id in 1..=5 {
        let job = fixture
            .job(&oxbull::JobId::existing(id.to_string()))
            .await?;
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
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
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
