//! Flows that this library adds are run by workers of both kinds.

use oxbull::{ChildPolicy, FlowAdded, FlowJob, FlowProducer, JobId, JobState, Queue};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::json;

use crate::fleet::{Fleet, Order, scripted};

/// How many jobs the large flow has, more than one step stores.
const LARGE: usize = 900;

fn job(queue: &str, what: &str) -> FlowJob {
    FlowJob::new(queue, "flow", &Order::new(what))
}

/// A report of groups, each with children of every policy, over two queues.
fn report(fleet: &Fleet, parents: &str) -> FlowJob {
    let groups = (0..10).map(|_| {
        job(parents, "ok")
            .child(ChildPolicy::Ignore, job(&fleet.name, "unrecoverable"))
            .child(ChildPolicy::Remove, job(&fleet.name, "unrecoverable"))
            .children(
                ChildPolicy::FailParent,
                (0..3).map(|_| job(&fleet.name, "ok")),
            )
            .child(ChildPolicy::Wait, job(&fleet.name, "delayOnce:5"))
    });
    let failing =
        job(parents, "ok").child(ChildPolicy::FailParent, job(&fleet.name, "unrecoverable"));
    job(parents, "ok")
        .children(ChildPolicy::FailParent, groups)
        .child(ChildPolicy::Ignore, failing)
}

async fn ends(queue: &Queue<Order>, id: &JobId) -> TestResult<JobState> {
    let state = eventually(DEADLINE, || async {
        match queue.state(id).await {
            Ok(Some(state @ (JobState::Completed | JobState::Failed))) => Ok(state),
            other => Err(format!("{id} is {other:?}")),
        }
    });
    Ok(state.await?)
}

async fn count(fleet: &Fleet, command: &str, parents: &str, key: &str) -> TestResult<i64> {
    let key = format!("bull:{parents}:{key}");
    Ok(fleet.server.int(&[command, &key]).await?)
}

async fn check(fleet: &Fleet, parents: &str, root: &FlowAdded) -> TestResult {
    let queue: Queue<Order> = Queue::open(&fleet.client, parents).await?;
    assert_eq!(ends(&queue, &root.id).await?, JobState::Completed);
    let (groups, failing) = root.children.split_at(10);
    for group in groups {
        assert_eq!(ends(&queue, &group.id).await?, JobState::Completed);
        let id = &group.id;
        assert_eq!(
            count(fleet, "HLEN", parents, &format!("{id}:processed")).await?,
            4
        );
        assert_eq!(
            count(fleet, "HLEN", parents, &format!("{id}:failed")).await?,
            1
        );
        assert_eq!(
            count(fleet, "SCARD", parents, &format!("{id}:dependencies")).await?,
            0
        );
    }
    assert_eq!(ends(&queue, &failing[0].id).await?, JobState::Failed);
    // Every handler ran once, but for the one that asked for a delay; the failing parent's did not.
    let starts = fleet.effects("started").await?;
    assert_eq!(starts.values().sum::<u64>(), 1 + 10 + 10 * 7 + 1);
    assert_eq!(starts.get(root.id.as_str()), Some(&1));
    assert_eq!(starts.get(failing[0].id.as_str()), None);
    Ok(())
}

async fn flow_is_run(version: BullMq, mixed: bool) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let parents = format!("{}-parents", fleet.name);
    let root = FlowProducer::new(&fleet.client)
        .add(&report(&fleet, &parents))
        .await?;
    for queue in [&fleet.name, &parents] {
        let params =
            json!({ "queue": queue, "effectsKey": "effects", "opts": { "concurrency": 5 } });
        fleet.node.call("worker.start", params).await?;
    }
    let worker = if mixed {
        Some(fleet.rust_worker().concurrency(5).start(scripted).await?)
    } else {
        None
    };
    check(&fleet, &parents, &root).await?;
    if let Some(worker) = worker {
        worker.close().await;
    }
    Ok(())
}

/// Node's workers alone run a flow of this library as it says.
#[tokio::test]
async fn bullmq_6_workers_run_a_flow_from_rust() -> TestResult {
    flow_is_run(BullMq::V6, false).await
}

/// The same for the older major version.
#[tokio::test]
async fn bullmq_5_workers_run_a_flow_from_rust() -> TestResult {
    flow_is_run(BullMq::V5, false).await
}

/// Children are run by workers of both kinds, parents by Node's.
#[tokio::test]
async fn mixed_workers_run_a_flow_from_rust() -> TestResult {
    flow_is_run(BullMq::V6, true).await?;
    flow_is_run(BullMq::V5, true).await
}

/// While a large flow is stored step by step, workers of both kinds are idle and hungry: its root runs once, after all
/// others.
#[tokio::test]
async fn hungry_workers_do_not_start_a_large_flow_early() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    fleet.node_worker(json!({ "concurrency": 10 })).await?;
    let worker = fleet.rust_worker().concurrency(10).start(scripted).await?;
    let groups = (0..3).map(|_| {
        let leaves = (0..LARGE / 3).map(|_| job(&fleet.name, "ok"));
        job(&fleet.name, "ok").children(ChildPolicy::FailParent, leaves)
    });
    let flow = job(&fleet.name, "ok").children(ChildPolicy::FailParent, groups);
    let root = FlowProducer::new(&fleet.client).add(&flow).await?;
    let queue: Queue<Order> = Queue::open(&fleet.client, &fleet.name).await?;
    assert_eq!(ends(&queue, &root.id).await?, JobState::Completed);
    for group in &root.children {
        let key = format!("{}:processed", group.id);
        assert_eq!(
            count(&fleet, "HLEN", &fleet.name, &key).await?,
            i64::try_from(LARGE / 3)?
        );
    }
    let starts = fleet.effects("started").await?;
    assert_eq!(starts.len(), LARGE + 4);
    assert!(starts.values().all(|&starts| starts == 1));
    worker.close().await;
    Ok(())
}
