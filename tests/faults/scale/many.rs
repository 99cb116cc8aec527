//! Operations on many jobs with workers and producers on the queue, stopped half way and gone on with.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxbull::{
    ActiveJobs, DrainScope, Error, JobError, JobId, JobOptions, JobState, NewJob, Operation,
    OperationStep, Queue, RetryOptions, Worker,
};
use oxbull::{Context, Job, JobResult, Outcome};
use oxbull_testkit::TestResult;

use crate::check::{Allow, check_queue};
use crate::fixture::{Effects, Fixture, Work, work};

/// How many jobs there are before anything begins.
const MANY: usize = 4_000;

/// The ids that the steps of an operation have told of; the operation is stopped after every tenth step, and begun again
/// until it comes to its end.
async fn in_parts(make: impl Fn() -> Operation) -> TestResult<Vec<JobId>> {
    let mut told = Vec::new();
    for part in 1.. {
        let (mut steps, before) = (0, told.len());
        let watch = |step: &OperationStep| {
            steps += 1;
            told.extend(step.jobs.iter().cloned());
            if steps == 10 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let report = make().run_with(watch).await?;
        assert_eq!(report.jobs, (told.len() - before) as u64);
        assert!(!report.at_least);
        if report.complete {
            assert!(part > 1, "it was never stopped");
            break;
        }
    }
    Ok(told)
}

/// Adds jobs, ten at a time, until `over`.
async fn add_on(
    fixture: &Fixture,
    queue: &Queue<Work>,
    over: &AtomicBool,
) -> TestResult<Vec<JobId>> {
    let mut added = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let jobs = (0..10).map(|_| NewJob::new("work", Work { ms: 0 }));
        for job in queue.add_bulk(jobs).await? {
            added.push(job?.id);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(added.len() > 10, "{} of {}", added.len(), fixture.name);
    Ok(added)
}

/// What an operation did while others used the queue.
struct Outcomes {
    /// All jobs that were added.
    added: BTreeSet<JobId>,
    /// Ids that were given twice, by a counter that began anew.
    again: BTreeSet<JobId>,
    /// Those that the operation told of.
    told: Vec<JobId>,
}

/// Runs an operation in parts while jobs are added.
async fn amid_adds(
    fixture: &Fixture,
    before: Vec<JobId>,
    make: impl Fn() -> Operation,
) -> TestResult<Outcomes> {
    let client = fixture.other_client().await?;
    let queue = Queue::open(&client, &fixture.name).await?;
    let over = AtomicBool::new(false);
    let operation = async {
        let told = in_parts(make).await;
        over.store(true, Ordering::SeqCst);
        told
    };
    let (told, added) = tokio::join!(operation, add_on(fixture, &queue, &over));
    let (mut all, mut again) = (BTreeSet::new(), BTreeSet::new());
    for id in before.into_iter().chain(added?) {
        if !all.insert(id.clone()) {
            again.insert(id);
        }
    }
    Ok(Outcomes {
        added: all,
        again,
        told: told?,
    })
}

/// Every job ran once or was deleted, and not both; nothing is left half way.
async fn ran_or_deleted(fixture: &Fixture, outcomes: &Outcomes) -> TestResult {
    fixture.drained().await?;
    let told: BTreeSet<_> = outcomes.told.iter().cloned().collect();
    assert_eq!(told.len(), outcomes.told.len(), "told of twice");
    let left: Vec<_> = outcomes.added.difference(&told).cloned().collect();
    let allow = Allow {
        clients: 8,
        ..Allow::default()
    };
    let summary = check_queue(fixture, &left, allow).await?;
    assert_eq!((summary.completed, summary.repeated), (left.len(), 0));
    println!("{} deleted, {} ran", told.len(), left.len());
    Ok(())
}

async fn hungry(fixture: &Fixture) -> TestResult<Worker> {
    Ok(fixture
        .worker_of(&fixture.other_client().await?)
        .start(work)
        .await?)
}

/// Draining and cleaning delete jobs that have not started, and workers run the others, each once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_drained_and_cleaned_while_workers_take_them() -> TestResult {
    type Make = fn(&Queue<Work>) -> Operation;
    let operations: [Make; 3] = [
        |queue| queue.drain(DrainScope::Ready),
        |queue| queue.clean(JobState::Waiting, Duration::ZERO),
        |queue| queue.clean(JobState::Prioritized, Duration::ZERO),
    ];
    for (at, make) in operations.into_iter().enumerate() {
        let fixture = Fixture::start().await?;
        let options = JobOptions::new().priority(if at == 2 { 3 } else { 0 });
        let before = fixture.add_with(MANY, 0, &options).await?;
        let worker = hungry(&fixture).await?;
        let outcomes = amid_adds(&fixture, before, || make(&fixture.queue)).await?;
        assert!(!outcomes.told.is_empty());
        ran_or_deleted(&fixture, &outcomes).await?;
        worker.close().await;
    }
    Ok(())
}

/// A queue is obliterated while workers run its jobs and others add more. What has come behind it runs; no key is left of
/// what was deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_at_work_is_obliterated() -> TestResult {
    let fixture = Fixture::start().await?;
    let before = fixture.add(MANY, 1).await?;
    let worker = hungry(&fixture).await?;
    fixture.started(20).await?;
    let obliterate = || fixture.queue.obliterate(ActiveJobs::Delete);
    let outcomes = amid_adds(&fixture, before, obliterate).await?;
    fixture.drained().await?;
    worker.close().await;
    let told: BTreeSet<_> = outcomes.told.iter().cloned().collect();
    assert!(told.len() > MANY / 2, "{}", told.len());
    for id in &outcomes.added {
        let state = fixture.queue.state(id).await?;
        let runs = !told.contains(id) || outcomes.again.contains(id);
        assert_eq!(state, runs.then_some(JobState::Completed), "{id}");
    }
    let left = fixture.queue.remove_orphaned_jobs().dry_run().run().await?;
    assert_eq!(left.jobs, 0);
    assert!(!fixture.queue.is_paused().await?);
    let locks = fixture
        .server
        .cli(&["KEYS", &fixture.key("*:lock")])
        .await?;
    assert!(locks.texts().is_empty(), "{locks:?}");
    Ok(())
}

/// Fails the first attempt of jobs that work for one millisecond, and completes all others.
async fn fail_first(job: Job<Work>, context: Context<Effects>) -> JobResult<()> {
    context.state().begin(&job);
    let fails = job.data().ms == 1 && job.attempts_started() == 1;
    context.state().end(&job);
    if fails {
        return Err(JobError::fatal("the first time"));
    }
    Ok(Outcome::Done(()))
}

/// Failed jobs are queued again while workers run them and others add more: each runs once more, and completes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_jobs_run_again_while_workers_take_them() -> TestResult {
    let fixture = Fixture::start().await?;
    let before = fixture.add(MANY, 1).await?;
    let client = fixture.other_client().await?;
    let worker = fixture.worker_of(&client).start(fail_first).await?;
    fixture
        .counts(|counts| counts.failed == MANY as u64)
        .await?;
    let failed: BTreeSet<_> = before.iter().cloned().collect();
    let retry = || fixture.queue.retry_jobs(None, RetryOptions::new());
    let outcomes = amid_adds(&fixture, before, retry).await?;
    fixture.drained().await?;
    worker.close().await;
    let told: BTreeSet<_> = outcomes.told.iter().cloned().collect();
    assert_eq!((told.len(), &told), (outcomes.told.len(), &failed));
    let all: Vec<_> = outcomes.added.into_iter().collect();
    let allow = Allow {
        clients: 8,
        ..Allow::default()
    };
    let summary = check_queue(&fixture, &all, allow).await?;
    assert_eq!((summary.completed, summary.repeated), (all.len(), MANY));
    Ok(())
}

/// Delayed jobs are promoted while workers run them and others add more: each runs once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delayed_jobs_are_promoted_while_workers_take_them() -> TestResult {
    let fixture = Fixture::start().await?;
    let later = JobOptions::new().delay(Duration::from_secs(3_600));
    let before = fixture.add_with(MANY, 0, &later).await?;
    let worker = hungry(&fixture).await?;
    let outcomes = amid_adds(&fixture, before.clone(), || fixture.queue.promote_jobs()).await?;
    fixture.drained().await?;
    worker.close().await;
    let told: BTreeSet<_> = outcomes.told.iter().cloned().collect();
    assert_eq!(told.len(), outcomes.told.len());
    assert_eq!(told, before.into_iter().collect());
    let all: Vec<_> = outcomes.added.into_iter().collect();
    let allow = Allow {
        clients: 8,
        ..Allow::default()
    };
    let summary = check_queue(&fixture, &all, allow).await?;
    assert_eq!((summary.completed, summary.repeated), (all.len(), 0));
    Ok(())
}

/// Connections are killed while jobs are deleted, promoted and queued again. An operation that cannot go on says so; asked
/// for again it comes to the same end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_outlast_killed_connections() -> TestResult {
    type Make = fn(&Queue<Work>) -> Operation;
    let later = JobOptions::new().delay(Duration::from_secs(3_600));
    let operations: [(Make, JobOptions); 3] = [
        (
            |queue| queue.drain(DrainScope::ReadyAndDelayed),
            later.clone(),
        ),
        (
            |queue| queue.clean(JobState::Waiting, Duration::ZERO),
            JobOptions::new(),
        ),
        (|queue| queue.promote_jobs(), later),
    ];
    for (at, (make, options)) in operations.into_iter().enumerate() {
        let fixture = Fixture::start().await?;
        fixture.add_with(MANY, 0, &options).await?;
        let over = AtomicBool::new(false);
        let kill = async {
            let mut connection = fixture.server.connect().await?;
            let (kill, mut killed) = (["CLIENT", "KILL", "TYPE", "normal"], 0);
            while !over.load(Ordering::SeqCst) {
                killed += connection.call(&kill).await?.int().unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            TestResult::Ok(killed)
        };
        let run = async {
            let mut handled = 0;
            let complete = loop {
                let watch = |_: &OperationStep| ControlFlow::Continue(());
                match make(&fixture.queue).run_with(watch).await {
                    Ok(report) => {
                        handled += report.jobs;
                        break report.complete;
                    }
                    Err(Error::Invalid { .. }) => break false,
                    Err(_) => {}
                }
            };
            over.store(true, Ordering::SeqCst);
            (complete, handled)
        };
        let ((complete, handled), killed) = tokio::join!(run, kill);
        println!("{handled} jobs, {} connections killed", killed?);
        assert!(complete && handled <= MANY as u64);
        let counts = fixture.queue.counts().await?;
        assert_eq!(counts.delayed, 0);
        let waiting = if at == 2 { MANY as u64 } else { 0 };
        assert_eq!(counts.waiting, waiting);
        let left = fixture.queue.remove_orphaned_jobs().dry_run().run().await?;
        assert_eq!(left.jobs, 0);
    }
    Ok(())
}
