//! Parents of one library with children of the other.

use oxbull::{
    ChildPolicy, Context, Job, JobId, JobOptions, JobResult, JobState, Outcome, Queue, Worker,
};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::Fleet;

const POLICIES: [(&str, JobState); 5] = [
    ("failParentOnFailure", JobState::Failed),
    ("continueParentOnFailure", JobState::Completed),
    ("ignoreDependencyOnFailure", JobState::Completed),
    ("removeDependencyOnFailure", JobState::Completed),
    ("noPolicy", JobState::WaitingChildren),
];

/// Returns what its children returned, and why some failed.
async fn gather(job: Job<Value>) -> JobResult<Value> {
    let values = job.children_values::<Value>().await?.into_map()?;
    let ignored = job.ignored_failures().await?;
    if ignored.is_empty() {
        return Ok(Outcome::Done(json!(values)));
    }
    // A parent that continues early must not leave children behind.
    job.remove_unprocessed_children().await?;
    Ok(Outcome::Done(json!(ignored)))
}

/// Adds two children in the state's queue, waits for them, and returns what they returned.
async fn steps(job: Job<Value>, context: Context<Queue<Value>>) -> JobResult<Value> {
    if job.data()["step"] == 2 {
        return gather(job).await;
    }
    for n in [1, 2] {
        let options = JobOptions::new().id(JobId::new(format!("{}-{n}", job.id()))?);
        let data = json!({ "do": "ok", "result": { "n": n } });
        let policy = ChildPolicy::FailParent;
        job.add_child(context.state(), policy, "kid", &data, options)
            .await?;
    }
    job.update_data(&json!({ "step": 2, "do": "waitChildren" }))
        .await?;
    Ok(Outcome::WaitForChildren)
}

async fn work(job: Job<Value>) -> JobResult<Value> {
    if job.data()["do"] == "fail" {
        return Err(oxbull::JobError::retry("boom"));
    }
    Ok(Outcome::Done(job.data()["result"].clone()))
}

/// A parent `id` in the fleet's queue, which does `what`, with the children given.
async fn add_flow(fleet: &Fleet, id: &str, what: &str, children: Vec<Value>) -> TestResult {
    let flow = json!({ "name": id, "queueName": fleet.name, "data": { "do": what },
        "opts": { "jobId": id }, "children": children });
    fleet.node.call("flow.add", json!({ "flow": flow })).await?;
    Ok(())
}

fn child(id: &str, data: Value, mut opts: Value) -> Value {
    opts["jobId"] = json!(id);
    let mut child = json!({ "name": id, "queueName": "kids", "opts": opts });
    child["data"] = data;
    child
}

/// Flows of one level below each policy, and what must become of the parents: each has a child that works and
/// one that fails.
async fn add_families(fleet: &Fleet, what: &str) -> TestResult {
    add_flow(
        fleet,
        "happy",
        what,
        vec![
            child("a", json!({ "result": { "n": 1 } }), json!({})),
            child(
                "b",
                json!({ "result": "text" }),
                json!({ "removeOnComplete": true }),
            ),
        ],
    )
    .await?;
    for (policy, _) in POLICIES {
        // A member that BullMQ does not know is stored without an effect.
        let opts = json!({ policy: true });
        add_flow(
            fleet,
            policy,
            what,
            vec![child(
                &format!("{policy}-sick"),
                json!({ "do": "fail" }),
                opts,
            )],
        )
        .await?;
    }
    Ok(())
}

async fn check_families(fleet: &Fleet) -> TestResult {
    let queue: Queue<Value> = Queue::open(&fleet.client, &fleet.name).await?;
    for (id, state) in POLICIES.into_iter().chain([("happy", JobState::Completed)]) {
        eventually(DEADLINE, || async {
            let found = queue.state(id).await;
            found.is_ok_and(|found| found == Some(state))
        })
        .await
        .map_err(|error| format!("{id}: {error}"))?;
    }
    let happy = queue.job("happy").await?.ok_or("it is kept")?;
    let values = json!({ "bull:kids:a": { "n": 1 }, "bull:kids:b": "text" });
    assert_eq!(happy.return_value::<Value>()?, Some(values));
    let failed = queue.job("failParentOnFailure").await?.ok_or("kept")?;
    let reason = "child bull:kids:failParentOnFailure-sick failed";
    assert_eq!(failed.failed_reason.as_deref(), Some(reason));
    // A handler ran for none but those that completed.
    assert_eq!(failed.attempts_made, 1);
    for id in ["continueParentOnFailure", "ignoreDependencyOnFailure"] {
        let ignored = queue.ignored_failures(id).await?;
        assert_eq!(ignored.into_values().collect::<Vec<_>>(), ["boom"]);
    }
    let mut blocked = queue.blocked_parents();
    let parent = blocked.next().await.ok_or("one is blocked")??;
    assert_eq!(parent.id.as_str(), "noPolicy");
    assert_eq!(parent.children[0].key.as_str(), "bull:kids:noPolicy-sick");
    Ok(())
}

async fn node_parents_rust_children(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    add_families(&fleet, "waitChildren").await?;
    let kids = Worker::builder(&fleet.client, "kids").start(work).await?;
    fleet.node_worker(json!({})).await?;
    check_families(&fleet).await?;
    kids.close().await;
    Ok(())
}

#[tokio::test]
async fn parents_of_bullmq_6_get_what_rust_children_return() -> TestResult {
    node_parents_rust_children(BullMq::V6).await
}

#[tokio::test]
async fn parents_of_bullmq_5_get_what_rust_children_return() -> TestResult {
    node_parents_rust_children(BullMq::V5).await
}

async fn rust_parents_node_children(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    add_families(&fleet, "ok").await?;
    let kids = json!({ "queue": "kids" });
    fleet.node.call("worker.start", kids).await?;
    let worker = Worker::builder(&fleet.client, &fleet.name)
        .start(gather)
        .await?;
    check_families(&fleet).await?;
    worker.close().await;
    Ok(())
}

#[tokio::test]
async fn rust_parents_get_what_children_of_bullmq_6_return() -> TestResult {
    rust_parents_node_children(BullMq::V6).await
}

#[tokio::test]
async fn rust_parents_get_what_children_of_bullmq_5_return() -> TestResult {
    rust_parents_node_children(BullMq::V5).await
}

/// A parent's first run is Rust's, which adds children for Node; its second run is either's.
async fn steps_across(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let queue: Queue<Value> = Queue::open(&fleet.client, &fleet.name).await?;
    let kids: Queue<Value> = Queue::open(&fleet.client, "kids").await?;
    let builder = Worker::builder(&fleet.client, &fleet.name).state(kids);
    let worker = builder.start(steps).await?;
    let id = queue.add("steps", &json!({ "step": 1 })).await?.id;
    let waits = || async {
        let state = queue.state(&id).await;
        state.is_ok_and(|state| state == Some(JobState::WaitingChildren))
    };
    eventually(DEADLINE, waits).await?;
    worker.close().await;
    let start = json!({ "queue": "kids" });
    fleet.node.call("worker.start", start).await?;
    fleet.node_worker(json!({})).await?;
    let ended = queue.wait_for::<Value>(&id, DEADLINE).await?;
    let values =
        json!({ format!("bull:kids:{id}-1"): { "n": 1 }, format!("bull:kids:{id}-2"): { "n": 2 } });
    assert_eq!(ended, oxbull::JobOutcome::Completed(values));
    assert_eq!(queue.job(&id).await?.ok_or("kept")?.attempts_started, 2);
    Ok(())
}

#[tokio::test]
async fn bullmq_6_goes_on_with_a_parent_that_rust_began() -> TestResult {
    steps_across(BullMq::V6).await
}

#[tokio::test]
async fn bullmq_5_goes_on_with_a_parent_that_rust_began() -> TestResult {
    steps_across(BullMq::V5).await
}

/// The other way round: Node's handler adds a child and waits, Rust runs the child and then the parent.
async fn steps_back(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let queue: Queue<Value> = Queue::open(&fleet.client, &fleet.name).await?;
    let options = JobOptions::new().id(JobId::new("par")?);
    queue.add_with("par", &json!({}), options).await?;
    let script = json!({ "par": [[["child", "kid", {}], ["gate", "added"], ["children"]]] });
    let handle = |more: Value| {
        let mut params = more;
        params["handle"] = json!("steps");
        params
    };
    let start = handle(json!({ "queue": fleet.name, "prefix": "bull", "script": script }));
    fleet.node.call("scripted.start", start).await?;
    let gate = || handle(json!({ "gate": "added" }));
    fleet.node.call("scripted.reached", gate()).await?;
    // So that Node does not run the child.
    queue.pause().await?;
    fleet.node.call("scripted.open", gate()).await?;
    eventually(DEADLINE, || async {
        let state = queue.state("par").await;
        state.is_ok_and(|state| state == Some(JobState::WaitingChildren))
    })
    .await?;
    fleet.node.call("scripted.end", handle(json!({}))).await?;
    queue.resume().await?;
    let run = |job: Job<Value>| async move {
        if job.id().as_str() == "par" {
            return gather(job).await;
        }
        Ok(Outcome::Done(json!(5)))
    };
    let worker = Worker::builder(&fleet.client, &fleet.name)
        .start(run)
        .await?;
    let ended = queue.wait_for::<Value>("par", DEADLINE).await?;
    assert_eq!(
        ended,
        oxbull::JobOutcome::Completed(json!({ "bull:q:kid": 5 }))
    );
    worker.close().await;
    Ok(())
}

#[tokio::test]
async fn rust_goes_on_with_a_parent_that_bullmq_6_began() -> TestResult {
    steps_back(BullMq::V6).await
}

#[tokio::test]
async fn rust_goes_on_with_a_parent_that_bullmq_5_began() -> TestResult {
    steps_back(BullMq::V5).await
}
