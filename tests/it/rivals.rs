//! Failings of other clients that no other test speaks of, and the table of all of them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use oxbull::{Context, Job, JobOptions, JobResult, ManualWorker, NewJob, Outcome, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

/// Every failing has a row, and every test that a row names exists.
#[test]
fn table_of_failings_is_complete_and_true() -> TestResult {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("tests/RIVALS.md"))?;
    let mut tests = BTreeSet::new();
    let mut folders = vec![root.join("tests"), root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("node_modules") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(path)?;
                let names = text
                    .split("fn ")
                    .skip(1)
                    .filter_map(|rest| rest.split('(').next());
                tests.extend(names.map(str::to_owned));
            }
        }
    }
    for number in 1..=24 {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| W{number}: ")))
            .ok_or_else(|| format!("W{number} has no row"))?;
        let named: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        assert!(
            !named.is_empty() || row.contains("not delivered yet"),
            "{row}"
        );
        for name in named {
            assert!(tests.contains(name), "W{number}: there is no test {name}");
        }
    }
    Ok(())
}

/// Two checks, one interval apart, give a vanished worker's job back: the throttle that checks
/// share must not make every other one void.
#[tokio::test]
async fn vanished_workers_job_is_back_within_two_intervals() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("ok", JobOptions::new()).await?;
    let vanished = ManualWorker::new(&fixture.client, "q")?.lock_duration(Duration::from_millis(1));
    vanished.fetch("gone").await?.ok_or("no job")?;
    let interval = Duration::from_millis(400);
    let worker = Worker::builder(&fixture.client, "q")
        .stalled_interval(interval)
        .start(scripted)
        .await?;
    fixture.ended(1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!(
        (job.stalled, job.attempts_started, job.attempts_made),
        (1, 2, 1)
    );
    worker.close().await;
    Ok(())
}

async fn report(job: Job<Value>, _: Context) -> JobResult<u64> {
    job.update_progress(&json!({ "step": 2 })).await?;
    job.update_data(&json!("for the next attempt")).await?;
    for row in 1..5 {
        job.log(format!("row {row}")).await?;
    }
    Ok(Outcome::Done(job.log("row 5").await?))
}

/// What a handler reports about its job is stored, within the job's own limits.
#[tokio::test]
async fn handlers_report_through_their_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q").start(report).await?;
    let id = fixture.add("ok", JobOptions::new().keep_logs(2)).await?;
    fixture.ended(1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!(job.return_value::<u64>()?, Some(2));
    assert_eq!(job.progress::<Value>()?, Some(json!({ "step": 2 })));
    assert_eq!(job.data::<String>()?, "for the next attempt");
    assert_eq!(
        fixture.queue.logs(&id, 0, -1).await?.rows,
        ["row 4", "row 5"]
    );
    worker.close().await;
    Ok(())
}

/// The settings of a queue show which library opened it last.
#[tokio::test]
async fn opening_a_queue_states_its_own_version() -> TestResult {
    let fixture = Fixture::start().await?;
    let version = fixture
        .server
        .text(&["HGET", "bull:q:meta", "version"])
        .await?;
    assert_eq!(
        version,
        Some(format!("oxbull:{}", env!("CARGO_PKG_VERSION")))
    );
    Ok(())
}

async fn wait(_: Job<Value>, context: Context) -> JobResult<()> {
    context.cancelled().await;
    Ok(Outcome::Done(()))
}

/// All of a worker's locks are renewed in one call.
#[tokio::test]
async fn locks_are_renewed_together() -> TestResult {
    let fixture = Fixture::start().await?;
    let jobs = (0..50).map(|n| NewJob::new("held", json!(n)));
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(50)
        .lock_duration(Duration::from_millis(600))
        .drain_delay(Duration::from_secs(60))
        .start(wait)
        .await?;
    fixture.counts(|counts| counts.active == 50).await?;
    let before = fixture.calls("evalsha").await?;
    let renewed = fixture.calls("pexpire").await?;
    eventually(DEADLINE, || async {
        fixture
            .calls("pexpire")
            .await
            .is_ok_and(|calls| calls >= renewed + 100)
    })
    .await?;
    let calls = fixture.calls("evalsha").await? - before;
    assert!(calls <= 15, "{calls} calls to renew 100 locks");
    worker.close_now().await;
    Ok(())
}
