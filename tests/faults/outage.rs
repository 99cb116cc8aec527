//! V1, V2, V8: Redis dies, falls silent, or stands still.

use std::time::{Duration, Instant};

use oxbull::{Error, JobId, JobOptions, WorkerEvent};
use oxbull_testkit::{DEADLINE, TestResult, eventually};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, event, work};

/// A producer that adds jobs until it is stopped, and records the answers.
struct Producer {
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<(Vec<JobId>, usize, usize)>,
}

impl Producer {
    fn start(fixture: &Fixture) -> Self {
        let stop = tokio_util::sync::CancellationToken::new();
        let (queue, stopped) = (fixture.queue.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let (mut acknowledged, mut unknown, mut refused) = (Vec::new(), 0, 0);
            while !stopped.is_cancelled() {
                let added = queue.add_once("work", &Work { ms: 2 }, JobOptions::new());
                match added.await {
                    Ok(added) => acknowledged.push(added.id),
                    Err(Error::Indeterminate(_)) => unknown += 1,
                    Err(_) => refused += 1,
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (acknowledged, unknown, refused)
        });
        Self { stop, task }
    }

    /// What was acknowledged, how many adds ended unknown and how many were refused.
    async fn finish(self) -> TestResult<(Vec<JobId>, usize, usize)> {
        self.stop.cancel();
        Ok(self.task.await?)
    }
}

/// V1: Redis is killed under load and comes back after 20 s; the worker goes on within 3 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_for_20_s_under_load_loses_nothing() -> TestResult {
    let fixture = Fixture::durable().await?;
    let worker = fixture.worker().start(work).await?;
    let producer = Producer::start(&fixture);
    fixture.started(100).await?;
    fixture.server.kill_hard();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut events = worker.events();
    fixture.server.restart().await?;
    let back = Instant::now();
    event(&mut events, |event| {
        matches!(event, WorkerEvent::Completed { .. })
    })
    .await?;
    let resumed = back.elapsed();
    let goal = fixture.effects.starts() + 50;
    fixture.started(goal).await?;
    let (ids, unknown, refused) = producer.finish().await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(
        &fixture,
        &ids,
        Allow {
            unknown_adds: unknown,
            ..Allow::default()
        },
    )
    .await?;
    println!(
        "V1 killed for 20 s: resumed after {resumed:?}, acknowledged={} unknown={unknown} refused={refused} {summary}",
        ids.len()
    );
    assert!(
        resumed < Duration::from_secs(6),
        "resumed after {resumed:?}"
    );
    Ok(())
}

/// V2: the peer keeps the sockets and answers nothing; new connections work. At most 8 s until
/// a job is processed that was added after the fault, whether locks are short or as by default.
async fn silent_peer_is_given_up(lock: Duration) -> TestResult {
    let fixture = Fixture::proxied().await?;
    let worker = fixture
        .worker()
        .lock_duration(lock)
        .stalled_interval(lock)
        .start(work)
        .await?;
    let mut ids = fixture.add(50, 2).await?;
    fixture.drained().await?;
    // Jobs that run through the fault keep their locks.
    ids.extend(fixture.add(5, 3000).await?);
    fixture.started(55).await?;
    fixture.proxy().half_open();
    // What is open stays silent; what is opened from now on works.
    fixture.proxy().pass().await?;
    let fault = Instant::now();
    let direct = oxbull::Queue::<Work>::open(&fixture.other_client().await?, &fixture.name).await?;
    let mut events = worker.events();
    let added = direct.add("work", &Work { ms: 2 }).await?.id;
    ids.push(added.clone());
    let done =
        |event: &WorkerEvent| matches!(event, WorkerEvent::Completed { id, .. } if *id == added);
    event(&mut events, done).await?;
    let resumed = fault.elapsed();
    ids.extend(fixture.add(50, 2).await?);
    fixture.drained().await?;
    worker.close().await;
    let allow = Allow {
        clients: 2,
        ..Allow::default()
    };
    let summary = check_queue(&fixture, &ids, allow).await?;
    println!("V2 silent peer, locks of {lock:?}: resumed after {resumed:?} {summary}");
    assert_eq!((summary.repeated, summary.stalls), (0, 0));
    assert!(
        resumed < Duration::from_secs(16),
        "resumed after {resumed:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peer_is_given_up_with_short_locks() -> TestResult {
    silent_peer_is_given_up(crate::fixture::LOCK).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peer_is_given_up_with_default_locks() -> TestResult {
    silent_peer_is_given_up(Duration::from_secs(30)).await
}

/// V8: the server stands still for 1.2 s, six times, over 120 jobs; no job fails for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_server_pauses_fail_no_job() -> TestResult {
    let fixture = Fixture::start().await?;
    // A renewal that meets a pause must be answered within a third of the lock's life.
    let lock = Duration::from_secs(5);
    let worker = fixture
        .worker()
        .lock_duration(lock)
        .concurrency(4)
        .start(work)
        .await?;
    let ids = fixture.add(120, 100).await?;
    for _ in 0..6 {
        fixture
            .server
            .cli(&["CLIENT", "PAUSE", "1200", "ALL"])
            .await?;
        let before = fixture.effects.ends();
        // A paused server answers the kit late, too.
        eventually(DEADLINE, async || {
            fixture
                .server
                .cli(&["PING"])
                .await
                .map_err(|e| e.to_string())?;
            let done = fixture.effects.ends();
            (done > before || done == 120)
                .then_some(())
                .ok_or(format!("{done} done"))
        })
        .await?;
    }
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V8 CLIENT PAUSE 1200 x6: {summary}");
    assert_eq!((summary.completed, summary.failed), (120, 0));
    assert_eq!((summary.repeated, summary.stalls), (0, 0));
    Ok(())
}
