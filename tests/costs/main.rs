//! What a job may cost the client: allocations, wake-ups, calls. Numbers, not times. `docs/performance.md` explains them;
//! what a job costs Redis is `tests/it/budget.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use oxbull::{Context, Job, JobOptions, JobResult, NewJob, Outcome, Worker};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

/// The most that a job may cost.
struct Budget {
    /// Allocations of the thread that does everything but renew locks.
    allocations: u64,
    /// How often a thread of the runtime goes to sleep, by 100 jobs: each time it has to be woken.
    sleeps: u64,
}

const ADD_ONE: Budget = Budget {
    allocations: 18,
    sleeps: 120,
};
const PROCESS_ONE: Budget = Budget {
    allocations: 66,
    sleeps: 120,
};
const PROCESS_100: Budget = Budget {
    allocations: 44,
    sleeps: 10,
};
/// Calls of `advance` by 1,000 jobs, at concurrency 100: 10 would be full.
const CALLS_100: u64 = 30;

const JOBS: usize = 1000;
const COUNT: u64 = JOBS as u64;

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn two_threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// How often the threads of a runtime have gone to sleep.
fn sleeps(runtime: &Handle) -> u64 {
    let metrics = runtime.metrics();
    let counts = (0..metrics.num_workers()).map(|worker| metrics.worker_park_count(worker));
    counts.sum()
}

/// Runs `work` with a fixture and returns its allocations and its threads' sleeps.
fn costs(
    runtime: &Runtime,
    fixture: &Fixture,
    work: &impl AsyncFn(&Fixture) -> TestResult,
) -> TestResult<(u64, u64)> {
    let before = sleeps(runtime.handle());
    let mut result = Ok(());
    let counted = allocation_counter::measure(|| result = runtime.block_on(work(fixture)));
    result?;
    Ok((counted.count_total, sleeps(runtime.handle()) - before))
}

fn check(what: &str, cost: u64, most: u64) {
    assert!(cost <= most, "{what}: {cost} instead of {most} at most");
}

async fn add(fixture: &Fixture) -> TestResult {
    for _ in 0..JOBS {
        fixture.add("job", JobOptions::new()).await?;
    }
    Ok(())
}

/// Adds one after another allocate little, and wake nobody but who waits: no task is there for them.
#[test]
fn adds_cost_what_they_may() -> TestResult {
    let runtime = one_thread()?;
    let fixture = runtime.block_on(Fixture::start())?;
    let tasks = runtime.metrics().num_alive_tasks();
    // The scripts are loaded, and what is made once is made.
    runtime.block_on(add(&fixture))?;
    assert_eq!(runtime.metrics().num_alive_tasks(), tasks);
    let (allocations, sleeps) = costs(&runtime, &fixture, &add)?;
    check(
        "allocations an add",
        allocations / COUNT,
        ADD_ONE.allocations,
    );
    check("sleeps by 100 adds", sleeps * 100 / COUNT, ADD_ONE.sleeps);
    Ok(())
}

/// What the handlers of a run share.
struct Run {
    left: AtomicUsize,
    over: Notify,
}

async fn handle(_: Job<Value>, context: Context<Arc<Run>>) -> JobResult<()> {
    if context.state().left.fetch_sub(1, Ordering::Relaxed) == 1 {
        context.state().over.notify_one();
    }
    Ok(Outcome::Done(()))
}

async fn fill(fixture: &Fixture) -> TestResult {
    let jobs = (0..JOBS).map(|n| NewJob::new("job", json!({ "n": n })));
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    Ok(())
}

async fn process(fixture: &Fixture, concurrency: usize) -> TestResult {
    let run = Arc::new(Run {
        left: AtomicUsize::new(JOBS),
        over: Notify::new(),
    });
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(concurrency)
        .state(Arc::clone(&run))
        .start(handle)
        .await?;
    run.over.notified().await;
    worker.close().await;
    Ok(())
}

/// Returns the allocations and sleeps of jobs at that concurrency, and the calls of scripts.
fn costs_of_processing(runtime: &Runtime, concurrency: usize) -> TestResult<(u64, u64, u64)> {
    let fixture = runtime.block_on(Fixture::start())?;
    runtime.block_on(fill(&fixture))?;
    let calls = || runtime.block_on(fixture.calls("evalsha"));
    let before = calls()?;
    let (allocations, sleeps) = costs(runtime, &fixture, &async |fixture: &Fixture| {
        process(fixture, concurrency).await
    })?;
    let calls = calls()? - before;
    let counts = runtime.block_on(fixture.queue.counts())?;
    assert_eq!(counts.completed, COUNT);
    Ok((allocations, sleeps, calls))
}

#[test]
fn jobs_one_by_one_cost_what_they_may() -> TestResult {
    let (allocations, ..) = costs_of_processing(&one_thread()?, 1)?;
    check(
        "allocations a job, one by one",
        allocations / COUNT,
        PROCESS_ONE.allocations,
    );
    // One thread is woken for each answer, and no other.
    let (_, sleeps, _) = costs_of_processing(&two_threads()?, 1)?;
    check(
        "sleeps by 100 jobs, one by one",
        sleeps * 100 / COUNT,
        PROCESS_ONE.sleeps,
    );
    Ok(())
}

#[test]
fn a_hundred_jobs_at_once_cost_what_they_may() -> TestResult {
    let (allocations, sleeps, calls) = costs_of_processing(&one_thread()?, 100)?;
    check(
        "allocations a job, of a hundred",
        allocations / COUNT,
        PROCESS_100.allocations,
    );
    check(
        "sleeps by 100 jobs, of a hundred",
        sleeps * 100 / COUNT,
        PROCESS_100.sleeps,
    );
    check("calls by 1,000 jobs", calls * 1000 / COUNT, CALLS_100);
    Ok(())
}
