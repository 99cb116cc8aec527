//! Who produces and who works does not matter to the jobs.

use oxbull::{JobId, JobState};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::json;

use crate::fleet::{Fleet, Order, scripted};
use crate::load::{add_children, add_from_node, add_from_rust, check};

/// How many jobs the largest mix has, on one queue.
const MIXED: usize = 10_000;

async fn node_produces_rust_works(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let fates = add_from_node(&fleet, 700).await?;
    let worker = fleet.rust_worker().concurrency(20).start(scripted).await?;
    check(&fleet, &fates).await?;
    let starts: u64 = fates.values().map(|fate| fate.starts).sum();
    assert_eq!(fleet.rust_starts().await?, starts);
    worker.close().await;
    Ok(())
}

/// Every kind of job that Node adds ends as it would with Node's workers.
#[tokio::test]
async fn rust_workers_run_what_bullmq_6_adds() -> TestResult {
    node_produces_rust_works(BullMq::V6).await
}

/// The same for the older major version, whose data layout differs in details.
#[tokio::test]
async fn rust_workers_run_what_bullmq_5_adds() -> TestResult {
    node_produces_rust_works(BullMq::V5).await
}

async fn rust_produces_node_works(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let fates = add_from_rust(&fleet, 700).await?;
    fleet.node_worker(json!({ "concurrency": 20 })).await?;
    check(&fleet, &fates).await?;
    assert_eq!(fleet.rust_starts().await?, 0);
    Ok(())
}

/// Every kind of job that this library adds is one that Node's workers understand.
#[tokio::test]
async fn bullmq_6_workers_run_what_rust_adds() -> TestResult {
    rust_produces_node_works(BullMq::V6).await
}

/// The same for the older major version.
#[tokio::test]
async fn bullmq_5_workers_run_what_rust_adds() -> TestResult {
    rust_produces_node_works(BullMq::V5).await
}

async fn both_work(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let (parents, mut fates) = add_children(&fleet, 20).await?;
    fleet.node_worker(json!({ "concurrency": 20 })).await?;
    let worker = fleet.rust_worker().concurrency(20).start(scripted).await?;
    let half = MIXED / 2;
    let (from_node, from_rust) =
        tokio::join!(add_from_node(&fleet, half), add_from_rust(&fleet, half));
    fates.extend(from_node?);
    fates.extend(from_rust?);
    check(&fleet, &fates).await?;

    let all: u64 = fates.values().map(|fate| fate.starts).sum();
    let ours = fleet.rust_starts().await?;
    assert!(ours > 0 && ours < all, "{ours} of {all} starts were Rust's");

    // The parent is ready once the last child has ended, whichever library ran it.
    let parent = json!({ "queue": parents, "id": "parent" });
    eventually(DEADLINE, || async {
        let state = fleet.node.call("queue.getState", parent.clone()).await;
        state.is_ok_and(|state| state == json!("waiting"))
    })
    .await?;

    // What handlers stored about their jobs is the same on both sides.
    let id = JobId::existing("node-10");
    let record = fleet.queue.job(&id).await?.expect("the job is kept");
    let seen = fleet
        .ask("queue.getJob", json!({ "id": id.as_str() }))
        .await?;
    assert_eq!(seen["progress"], json!(7));
    assert_eq!(record.progress::<u32>()?, Some(7));
    assert_eq!(seen["returnvalue"], json!({ "ok": true }));
    let logs = fleet
        .ask("queue.logs", json!({ "id": id.as_str() }))
        .await?;
    assert_eq!(
        json!(fleet.queue.logs(&id, 0, -1).await?.rows),
        logs["logs"]
    );
    assert_eq!(fleet.queue.state(&id).await?, Some(JobState::Completed));
    let state = fleet
        .ask("queue.getState", json!({ "id": id.as_str() }))
        .await?;
    assert_eq!(state, json!("completed"));
    worker.close().await;
    Ok(())
}

/// Half of ten thousand jobs, from both producers, shared by workers of both kinds.
#[tokio::test]
async fn rust_and_bullmq_6_workers_share_ten_thousand_jobs() -> TestResult {
    both_work(BullMq::V6).await
}

/// The other half, with the older major version.
#[tokio::test]
async fn rust_and_bullmq_5_workers_share_ten_thousand_jobs() -> TestResult {
    both_work(BullMq::V5).await
}

/// A pause by either library stops workers of both, and a resume starts them.
#[tokio::test]
async fn pause_and_resume_from_either_side_rule_both() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    fleet.node_worker(json!({ "concurrency": 5 })).await?;
    let worker = fleet.rust_worker().concurrency(5).start(scripted).await?;
    let mut total = 0;
    for rust_pauses in [true, false] {
        if rust_pauses {
            fleet.queue.pause().await?;
        } else {
            fleet.ask("queue.pause", json!({})).await?;
        }
        assert!(fleet.queue.is_paused().await?);
        assert_eq!(fleet.ask("queue.isPaused", json!({})).await?, json!(true));
        for _ in 0..50 {
            fleet.queue.add("held", &Order::new("ok")).await?;
            fleet
                .ask("queue.add", json!({ "data": { "do": "ok" } }))
                .await?;
        }
        // A worker that ignored the pause would have had the time of a hundred adds to start one.
        let counts = fleet.queue.counts().await?;
        assert_eq!((counts.waiting, counts.active), (100, 0));
        assert_eq!(fleet.effects("started").await?.len(), total);
        if rust_pauses {
            fleet.ask("queue.resume", json!({})).await?;
        } else {
            fleet.queue.resume().await?;
        }
        total += 100;
        let wanted = u64::try_from(total)?;
        eventually(DEADLINE, || async {
            fleet
                .queue
                .counts()
                .await
                .is_ok_and(|counts| counts.completed == wanted)
        })
        .await?;
    }
    assert!(fleet.effects("started").await?.values().all(|&n| n == 1));
    worker.close().await;
    Ok(())
}
