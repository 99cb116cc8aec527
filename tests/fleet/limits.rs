//! Limits hold for workers of both kinds together: no window has more starts than allowed, no
//! moment more active jobs.

use std::time::Duration;

use oxbull::{JobOptions, JobRateLimit, ManualWorker, NewJob, Outcome, RateLimitState, Worker};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::json;

use crate::fleet::{Fleet, Order, scripted};
use crate::windows::{Story, fit};

/// Jobs and milliseconds of the limits under test.
const MAX: u32 = 15;
const WINDOW: u64 = 150;

/// Adds jobs some of which start twice: a failed one, and one that steps back.
async fn add(fleet: &Fleet, count: usize) -> TestResult {
    let jobs = (0..count).map(|index| {
        let what = match index % 10 {
            3 => "sleep:2;failOnce",
            7 => "sleep:2;waitOnce",
            _ => "sleep:2",
        };
        NewJob::new("limited", Order::new(what)).options(JobOptions::new().attempts(2))
    });
    for added in fleet.queue.add_bulk(jobs).await? {
        added?;
    }
    Ok(())
}

async fn completed(fleet: &Fleet, count: usize) -> TestResult {
    eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await.map_err(|e| e.to_string())?;
        let done = counts.completed == u64::try_from(count).unwrap_or(u64::MAX);
        done.then_some(()).ok_or(format!("{counts:?}"))
    })
    .await?;
    Ok(())
}

/// Two workers of each kind. `own` is the limit that workers have themselves.
async fn crew(fleet: &Fleet, own: Option<(u32, u64)>) -> TestResult<Vec<Worker>> {
    let mut node = json!({ "concurrency": 3 });
    if let Some((max, duration)) = own {
        node["limiter"] = json!({ "max": max, "duration": duration });
    }
    let mut crew = Vec::new();
    for concurrency in [2, 4] {
        fleet.node_worker(node.clone()).await?;
        let mut worker = fleet.rust_worker().concurrency(concurrency);
        if let Some((max, duration)) = own {
            worker = worker.rate_limit(JobRateLimit::new(max, Duration::from_millis(duration)));
        }
        crew.push(worker.start(scripted).await?);
    }
    Ok(crew)
}

async fn dismiss(crew: Vec<Worker>) {
    for worker in crew {
        worker.close().await;
    }
}

/// Asserts that no window has more than `MAX` starts, that each job and repetition started, and that
/// both sides had a part in it.
async fn assert_windows(fleet: &Fleet, jobs: usize) -> TestResult {
    let starts = Story::read(&fleet.server, &fleet.name).await?.starts();
    assert_eq!(starts.len(), jobs + jobs / 5);
    let rust = usize::try_from(fleet.rust_starts().await?)?;
    assert!(0 < rust && rust < starts.len(), "{rust} starts are Rust's");
    assert!(
        fit(&starts, usize::try_from(MAX)?, WINDOW),
        "more than {MAX} starts in {WINDOW} ms: {starts:?}"
    );
    Ok(())
}

/// The limit of workers is one limit for all of them, and retries and put-backs count.
#[tokio::test]
async fn workers_keep_within_their_common_limit() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    let crew = crew(&fleet, Some((MAX, WINDOW))).await?;
    add(&fleet, 120).await?;
    completed(&fleet, 120).await?;
    assert_windows(&fleet, 120).await?;
    dismiss(crew).await;
    Ok(())
}

/// The global limit binds workers that have none; its number beats that of one that has.
#[tokio::test]
async fn workers_keep_within_the_global_limit() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    let window = Duration::from_millis(WINDOW);
    fleet
        .queue
        .set_global_rate_limit(JobRateLimit::new(MAX, window))
        .await?;
    let mut crew = crew(&fleet, None).await?;
    let own = fleet
        .rust_worker()
        .rate_limit(JobRateLimit::new(1000, window));
    crew.push(own.start(scripted).await?);
    fleet
        .node_worker(json!({ "limiter": { "max": 1000, "duration": WINDOW } }))
        .await?;
    add(&fleet, 120).await?;
    completed(&fleet, 120).await?;
    assert_windows(&fleet, 120).await?;
    dismiss(crew).await;
    Ok(())
}

/// The server's time in milliseconds.
async fn time(fleet: &Fleet) -> TestResult<u64> {
    let parts = fleet.server.cli(&["TIME"]).await?.texts();
    let number = |at: usize| -> TestResult<u64> {
        let text = parts.get(at).ok_or("TIME has two parts")?;
        Ok(text.parse()?)
    };
    Ok(number(0)? * 1000 + number(1)? / 1000)
}

/// A limit that either side imposes, at any time, stops both sides until it is over.
#[tokio::test]
async fn nobody_starts_jobs_under_an_imposed_limit() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    let crew = crew(&fleet, Some((10_000, 60_000))).await?;
    add(&fleet, 700).await?;
    let mut held = Vec::new();
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..20))).await;
        let wait = fastrand::u64(40..90);
        let before = time(&fleet).await?;
        if round % 2 == 0 {
            let left = fleet.queue.limit_rate(Duration::from_millis(wait)).await?;
            assert_eq!(left, Duration::from_millis(wait));
        } else {
            fleet.ask("queue.rateLimit", json!({ "ms": wait })).await?;
        }
        // In force at the latest when it was answered, and until this long after it was asked for.
        held.push((time(&fleet).await?, before + wait));
        eventually(DEADLINE, || async {
            let state = fleet.queue.rate_limit_state_of(10_000).await;
            state.is_ok_and(RateLimitState::may_start)
        })
        .await?;
    }
    completed(&fleet, 700).await?;
    let starts = Story::read(&fleet.server, &fleet.name).await?.starts();
    assert_eq!(starts.len(), 840);
    for (from, until) in held {
        let within: Vec<_> = starts
            .iter()
            .filter(|&&at| from < at && at < until)
            .collect();
        assert!(within.is_empty(), "{within:?} in {from} to {until}");
    }
    dismiss(crew).await;
    Ok(())
}

/// How many scripts the server has run.
async fn scripts(fleet: &Fleet) -> TestResult<u64> {
    let stats = fleet.server.info("commandstats").await?;
    let calls = stats
        .get("cmdstat_evalsha")
        .and_then(|text| text.split(',').next()?.strip_prefix("calls=")?.parse().ok());
    Ok(calls.unwrap_or(0))
}

/// A handler that limits the queue gives its job back, and its own and the other side's workers
/// look on and start nothing; the job loses no attempt.
#[tokio::test]
async fn handlers_of_either_side_stop_both() -> TestResult {
    for rust_limits in [true, false] {
        let fleet = Fleet::start(BullMq::V6).await?;
        let rust = || {
            let worker = fleet
                .rust_worker()
                .rate_limit(JobRateLimit::new(1000, DEADLINE));
            worker
                .max_rate_limit_wait(Duration::from_millis(20))
                .start(scripted)
        };
        let node = json!({
            "limiter": { "max": 1000, "duration": 60_000 }, "maximumRateLimitDelay": 20,
        });
        let mut worker = None;
        if rust_limits {
            worker = Some(rust().await?);
        } else {
            fleet.node_worker(node.clone()).await?;
        }
        let order = Order::new("rateLimitOnce:60000");
        let id = fleet.queue.add("limits", &order).await?.id;
        eventually(DEADLINE, || async {
            let job = fleet.queue.job(&id).await.ok()??;
            let waits = fleet.queue.counts().await.ok()?.waiting == 1;
            (waits && job.attempts_started == 1).then_some(())
        })
        .await?;
        if rust_limits {
            fleet.node_worker(node).await?;
        } else {
            worker = Some(rust().await?);
        }
        for _ in 0..5 {
            fleet.queue.add("ok", &Order::new("ok")).await?;
        }
        let before = scripts(&fleet).await?;
        eventually(DEADLINE, || async {
            let now = scripts(&fleet).await.map_err(|e| e.to_string())?;
            (now >= before + 20).then_some(()).ok_or(format!("{now}"))
        })
        .await?;
        let story = Story::read(&fleet.server, &fleet.name).await?;
        assert_eq!(story.starts().len(), 1);
        assert!(fleet.queue.lift_rate_limit().await?);
        completed(&fleet, 6).await?;
        let job = fleet.queue.job(&id).await?.ok_or("the job is gone")?;
        assert_eq!((job.attempts_started, job.attempts_made), (2, 1));
        dismiss(worker.into_iter().collect()).await;
    }
    Ok(())
}

/// No moment has more active jobs than the queue allows, and the places are used.
#[tokio::test]
async fn active_jobs_never_exceed_the_global_concurrency() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    fleet.queue.set_global_concurrency(3).await?;
    let crew = crew(&fleet, None).await?;
    add(&fleet, 200).await?;
    completed(&fleet, 200).await?;
    let story = Story::read(&fleet.server, &fleet.name).await?;
    assert_eq!(story.most_active(), 3);
    let rust = fleet.rust_starts().await?;
    assert!(0 < rust && rust < 240, "{rust} of 240 starts are Rust's");
    dismiss(crew).await;
    Ok(())
}

/// What this library opens wakes the workers of both sides, which sleep for as long as they like.
#[tokio::test]
async fn opened_queue_wakes_workers_of_both_sides() -> TestResult {
    for rust_sleeps in [true, false] {
        let fleet = Fleet::start(BullMq::V6).await?;
        fleet.queue.set_global_concurrency(1).await?;
        fleet.queue.add("held", &Order::new("ok")).await?;
        let holder = ManualWorker::new(&fleet.client, &fleet.name)?;
        let held = holder.fetch("token").await?.ok_or("no job to hold")?;
        for _ in 0..3 {
            fleet.queue.add("ok", &Order::new("ok")).await?;
        }
        let mut worker = None;
        if rust_sleeps {
            worker = Some(
                fleet
                    .rust_worker()
                    .drain_delay(10 * DEADLINE)
                    .start(scripted)
                    .await?,
            );
        } else {
            fleet.node_worker(json!({ "drainDelay": 600 })).await?;
        }
        // It has taken the wake-up of the held job's start without getting a job, and waits for another.
        let marker = format!("bull:{}:marker", fleet.name);
        eventually(DEADLINE, || async {
            let wakeups = fleet.server.int(&["ZCARD", &marker]).await.ok()?;
            let clients = fleet.server.info("clients").await.ok()?;
            (wakeups == 0 && clients.get("blocked_clients")? == "1").then_some(())
        })
        .await?;
        fleet.queue.set_global_concurrency(2).await?;
        completed(&fleet, 3).await?;
        fleet.queue.remove_global_concurrency().await?;
        holder.finish(&held, "token", Ok(Outcome::Done(()))).await?;
        completed(&fleet, 4).await?;
        dismiss(worker.into_iter().collect()).await;
    }
    Ok(())
}
