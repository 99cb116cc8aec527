//! Operations on many jobs while workers of all kinds run the queue.

use std::time::Duration;

use oxbull::{ActiveJobs, JobOptions, JobState, NewJob, RetryOptions};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::json;

use crate::fleet::{Fleet, Order, scripted};

/// How many jobs of each kind there are.
const EACH: usize = 300;

async fn operate_while_all_work(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let queue = &fleet.queue;
    let kinds = [
        ("plain", "ok", JobOptions::new()),
        ("ranked", "ok", JobOptions::new().priority(3)),
        // Only a promotion lets them run, and only a retry lets them end.
        (
            "later",
            "ok",
            JobOptions::new().delay(Duration::from_secs(3600)),
        ),
        ("again", "failOnce", JobOptions::new()),
    ];
    for (kind, what, options) in &kinds {
        let jobs = (0..EACH).map(|n| {
            let id = oxbull::JobId::existing(format!("{kind}-{n}"));
            NewJob::new(*kind, Order::new(what)).options(options.clone().id(id))
        });
        queue.add_bulk(jobs).await?.into_result()?;
    }
    fleet.node_worker(json!({ "concurrency": 10 })).await?;
    let worker = fleet.rust_worker().concurrency(10).start(scripted).await?;
    let all = EACH * kinds.len();
    eventually(DEADLINE, async || {
        let operate = async {
            queue.promote_jobs().limit(40).run().await?;
            queue
                .retry_jobs(None, RetryOptions::new())
                .limit(40)
                .run()
                .await?;
            queue
                .clean(JobState::Completed, Duration::ZERO)
                .limit(60)
                .run()
                .await?;
            // Workers hold these jobs.
            let active = queue.clean(JobState::Active, Duration::ZERO).run().await?;
            assert_eq!(active.jobs, 0);
            // A job that starts or ends is always in some state.
            let orphans = queue.remove_orphaned_jobs().run().await?;
            assert_eq!(orphans.jobs, 0);
            Ok::<(), oxbull::Error>(())
        };
        operate.await.unwrap();
        fleet
            .effects("done")
            .await
            .is_ok_and(|done| done.len() == all)
    })
    .await?;
    let done = fleet.effects("done").await?;
    assert!(done.values().all(|&n| n == 1), "{done:?}");
    for (id, starts) in fleet.effects("started").await? {
        let due = if id.starts_with("again") { 2 } else { 1 };
        assert_eq!(starts, due, "{id}");
    }
    let ours = fleet.rust_starts().await?;
    assert!(ours > 0 && ours < (all + EACH) as u64, "{ours} starts");

    // The workers go on with a new queue of that name.
    queue.obliterate(ActiveJobs::Delete).run().await?;
    queue.add("new", &Order::new("ok")).await?;
    eventually(DEADLINE, async || {
        fleet
            .effects("done")
            .await
            .is_ok_and(|done| done.len() == all + 1)
    })
    .await?;
    worker.close().await;
    Ok(())
}

/// No job is lost, and none runs twice.
#[tokio::test]
async fn operations_beside_bullmq_6_lose_and_double_nothing() -> TestResult {
    operate_while_all_work(BullMq::V6).await
}

/// The same beside the older major version.
#[tokio::test]
async fn operations_beside_bullmq_5_lose_and_double_nothing() -> TestResult {
    operate_while_all_work(BullMq::V5).await
}
