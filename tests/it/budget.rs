//! What the hot transitions may cost: how many commands their scripts give to Redis (`INFO commandstats`). Numbers, not
//! times, so that nothing but a change of a script can fail this. `docs/performance.md` names the commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oxbull::{Context, Deduplication, Job, JobOptions, JobResult, NewJob, Outcome, Parent, Worker};
use oxbull_fixture::Fixture;
use oxbull_testkit::{RedisServer, TestResult};
use serde_json::{Value, json};
use tokio::sync::{Barrier, Notify};

/// The most that a workload may cost.
struct Budget {
    /// Commands of each call of a script, however many jobs it carries.
    call: u64,
    /// Commands of each job.
    job: u64,
}

const ADD_ONE: Budget = Budget { call: 0, job: 10 };
const ADD_CHILD: Budget = Budget { call: 0, job: 13 };
const ADD_OWNER: Budget = Budget { call: 0, job: 12 };
const ADD_DEDUPLICATED: Budget = Budget { call: 0, job: 8 };
/// At most 100 jobs a call.
const ADD_BULK: Budget = Budget { call: 9, job: 3 };
const PROCESS_ONE: Budget = Budget { call: 14, job: 8 };
const PROCESS_MANY: Budget = Budget { call: 24, job: 8 };

/// How often each command has been executed, and how often scripts were called.
async fn executed(server: &RedisServer) -> TestResult<(BTreeMap<String, u64>, u64)> {
    let mut commands = BTreeMap::new();
    for (name, stats) in server.info("commandstats").await? {
        let Some(name) = name.strip_prefix("cmdstat_") else {
            continue;
        };
        let calls = stats
            .strip_prefix("calls=")
            .and_then(|s| s.split(',').next());
        commands.insert(name.to_owned(), calls.unwrap_or_default().parse()?);
    }
    let calls = ["evalsha", "eval"].map(|name| commands.remove(name).unwrap_or(0));
    // What clients and tests do beside: greetings, waiting for the marker, looking at numbers.
    commands.retain(|name, _| {
        let beside = [
            "info", "ping", "hello", "client", "script", "bzpopmin", "command", "config",
        ];
        !beside.contains(&name.split('|').next().unwrap_or(name))
    });
    Ok((commands, calls.iter().sum()))
}

/// Counts what `work` makes Redis do for `jobs` jobs, and compares it with the budget.
async fn costs(
    server: &RedisServer,
    budget: &Budget,
    jobs: u64,
    work: impl Future<Output = TestResult>,
) -> TestResult {
    let (before, calls_before) = executed(server).await?;
    work.await?;
    let (mut after, calls) = executed(server).await?;
    let calls = calls - calls_before;
    for (name, count) in &mut after {
        *count -= before.get(name).unwrap_or(&0);
    }
    after.retain(|_, count| *count > 0);
    let total: u64 = after.values().sum();
    let allowed = budget.call * calls + budget.job * jobs;
    assert!(
        total <= allowed,
        "{jobs} jobs in {calls} calls may cost {allowed} commands, not {total}: {after:?}"
    );
    Ok(())
}

async fn fill(fixture: &Fixture, jobs: u64) -> TestResult {
    let jobs = (0..jobs).map(|n| NewJob::new("job", json!(n)));
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    Ok(())
}

#[tokio::test]
async fn adds_cost_what_they_may() -> TestResult {
    let fixture = Fixture::start().await?;
    // The first add writes the length of the event stream.
    fixture.add("first", JobOptions::new()).await?;
    fill(&fixture, 2).await?;
    costs(&fixture.server, &ADD_ONE, 100, async {
        for _ in 0..100 {
            fixture.add("job", JobOptions::new()).await?;
        }
        Ok(())
    })
    .await?;
    costs(&fixture.server, &ADD_BULK, 1000, fill(&fixture, 1000)).await
}

/// An add with a parent or a deduplication id that is alone in its call.
#[tokio::test]
async fn adds_with_others_cost_what_they_may() -> TestResult {
    let fixture = Fixture::start().await?;
    // The first add writes the length of the event stream.
    fixture.add("p", JobOptions::new().id("p")).await?;
    let child = || JobOptions::new().parent(Parent::new("bull:q", "p"));
    let under = |n: u64| JobOptions::new().deduplication(Deduplication::new(n.to_string()));
    costs(&fixture.server, &ADD_CHILD, 100, async {
        for _ in 0..100 {
            fixture.add("job", child()).await?;
        }
        Ok(())
    })
    .await?;
    for budget in [&ADD_OWNER, &ADD_DEDUPLICATED] {
        costs(&fixture.server, budget, 100, async {
            for n in 0..100 {
                fixture.add("job", under(n)).await?;
            }
            Ok(())
        })
        .await?;
    }
    assert_eq!(fixture.queue.counts().await?.waiting, 201);
    Ok(())
}

/// What the handlers of a run share: each waits for as many others as run at once, so that their results leave together.
struct Run {
    together: Barrier,
    left: AtomicU64,
    over: Notify,
}

async fn handle(_: Job<Value>, context: Context<Arc<Run>>) -> JobResult<()> {
    let run = context.state();
    run.together.wait().await;
    if run.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        run.over.notify_one();
    }
    Ok(Outcome::Done(()))
}

async fn process(concurrency: usize, budget: &Budget) -> TestResult {
    const JOBS: u64 = 200;
    let fixture = Fixture::start().await?;
    fill(&fixture, JOBS).await?;
    let run = Arc::new(Run {
        together: Barrier::new(concurrency),
        left: AtomicU64::new(JOBS),
        over: Notify::new(),
    });
    costs(&fixture.server, budget, JOBS, async {
        let worker = Worker::builder(&fixture.client, "q")
            .concurrency(concurrency)
            .state(Arc::clone(&run))
            .start(handle)
            .await?;
        run.over.notified().await;
        // Stores the last results.
        worker.close().await;
        Ok(())
    })
    .await?;
    assert_eq!(fixture.queue.counts().await?.completed, JOBS);
    Ok(())
}

#[tokio::test]
async fn jobs_one_by_one_cost_what_they_may() -> TestResult {
    process(1, &PROCESS_ONE).await
}

#[tokio::test]
async fn a_hundred_jobs_at_once_cost_what_they_may() -> TestResult {
    process(100, &PROCESS_MANY).await
}
