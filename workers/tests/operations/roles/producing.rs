//! The work of producers.

use oxbull::{
    ChildPolicy, Client, Deduplication, Error, FlowJob, FlowProducer, JobId, JobOptions,
    ManualWorker, NewJob, Outcome, Parent, Queue, QueueEvents, QueuePosition, Schedule,
    SchedulerOrder,
};
use oxbull_testkit::{NodePeer, TestResult};
use serde_json::{Value, json};

use super::{LATER, MOMENT, POSTS, call};
use crate::fixture::ShippedRedis;

/// A job that has ended, and one that runs and is alone of its kind; both by the observer.
pub(super) async fn prepare(fixture: &ShippedRedis) -> TestResult<JobId> {
    let client = fixture.observer().await?;
    let queue: Queue<Value> = Queue::open(&client, POSTS).await?;
    let done = queue.add("done", &json!({})).await?.id;
    let worker = ManualWorker::new(&client, POSTS)?;
    let job = worker.fetch("t").await?.ok_or("nothing to fetch")?;
    worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
    queue.add_with("alone", &json!({}), alone()).await?;
    worker.fetch("t").await?.ok_or("nothing to fetch")?;
    client.close().await;
    Ok(done)
}

/// Its adds are kept to the last one while one of them runs.
fn alone() -> JobOptions {
    let alone = Deduplication::new("alone").keep_last_if_active();
    JobOptions::new().deduplication(alone)
}

/// A job with children that are too many to be removed in one step.
pub(super) const LARGE_FLOW: &str = "large-flow";

pub(super) async fn add_large_flow(queue: &Queue<Value>) -> TestResult {
    let parent = JobId::new(LARGE_FLOW)?;
    queue
        .add_with("whole", &json!({}), JobOptions::new().id(parent.clone()))
        .await?;
    let of = Parent::new(queue.qualified_name(), parent.clone());
    let child = |n| NewJob::new("part", json!(n)).options(JobOptions::new().parent(of.clone()));
    for added in queue.add_bulk((0..150).map(child)).await? {
        added?;
    }
    Ok(())
}

pub(super) async fn rust_produces(client: &Client, done: &JobId) -> TestResult {
    let queue: Queue<Value> = Queue::open(client, POSTS).await?;
    let data = json!({ "n": 1 });
    let waiting = queue.add("post", &data).await?.id;
    let later = JobOptions::new().delay(LATER);
    let delayed = queue.add_with("post", &data, later.clone()).await?.id;
    let first = JobOptions::new().priority(3);
    let prioritized = queue.add_with("post", &data, first).await?.id;
    queue
        .add_with("post", &data, JobOptions::new().lifo())
        .await?;
    let once = queue
        .add_once("post", &data, JobOptions::new().attempts(3))
        .await?
        .id;
    for added in queue
        .add_bulk((0..3).map(|n| NewJob::new("post", json!(n))))
        .await?
    {
        added?;
    }
    let parent = JobOptions::new().parent(Parent::new("bull:post-publishing", once.clone()));
    queue.add_with("part", &data, parent).await?;

    // A flow whose child exists joins it to its parent; one below it would close a circle.
    let job = |id: &str| FlowJob::new(POSTS, "step", &data).options(later.clone().id(id));
    let flow = job("whole").child(ChildPolicy::Wait, job("half"));
    let flows = FlowProducer::new(client);
    flows.add(&flow).await?;
    flows.add(&flow).await?;
    let circle = job("low").child(ChildPolicy::Wait, job("whole"));
    let circle = circle.under(ChildPolicy::Wait, "bull:post-publishing", "half");
    let refused = flows.add(&circle).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");

    let owned = |of: Deduplication| later.clone().deduplication(of);
    for of in [
        Deduplication::new("simple"),
        Deduplication::new("throttle").ttl(LATER),
        Deduplication::new("debounce").ttl(LATER).extend().replace(),
        Deduplication::new("last").keep_last_if_active(),
    ] {
        for _ in 0..2 {
            queue.add_with("post", &data, owned(of.clone())).await?;
        }
    }
    queue.add_with("alone", &data, alone()).await?;
    queue.deduplication_owner("simple").await?;
    queue.release_deduplication("simple").await?;

    queue.update_data(&waiting, &json!({ "n": 2 })).await?;
    queue.change_delay(&delayed, LATER).await?;
    queue.promote(&delayed).await?;
    queue
        .change_priority(&prioritized, 0, QueuePosition::Back)
        .await?;
    queue.counts().await?;
    queue.is_paused().await?;
    for id in [&waiting, &once, done] {
        queue.job(id).await?;
        queue.state(id).await?;
        queue.logs(id, 0, -1).await?;
    }
    queue.wait_for::<Value>(done, LATER).await?;
    let unfinished = queue.wait_for::<Value>(&waiting, MOMENT).await;
    assert!(
        matches!(unfinished, Err(Error::JobNotEnded { .. })),
        "{unfinished:?}"
    );
    drop(QueueEvents::open(client, POSTS).await?);
    assert!(queue.remove(&waiting).await?);
    assert!(queue.remove(&prioritized).await?);
    add_large_flow(&queue).await?;
    assert!(queue.remove(&JobId::new(LARGE_FLOW)?).await?);

    let nightly = Schedule::cron("0 2 * * *").time_zone("Europe/Berlin");
    for _ in 0..2 {
        queue
            .upsert_scheduler("nightly", &nightly, NewJob::new("post", json!({})))
            .await?;
    }
    queue
        .schedulers(0, -1, SchedulerOrder::SoonestFirst)
        .await?;
    queue.scheduler_count().await?;
    assert!(queue.remove_scheduler("nightly").await?);
    Ok(())
}

pub(super) async fn node_produces(node: &NodePeer, done: &JobId) -> TestResult {
    let add = async |opts: Value| call(node, "queue.add", json!({ "opts": opts })).await;
    let waiting = add(json!({})).await?["id"].clone();
    let delayed = add(json!({ "delay": 3_600_000 })).await?["id"].clone();
    let prioritized = add(json!({ "priority": 3 })).await?["id"].clone();
    add(json!({ "jobId": "own" })).await?;
    add(json!({ "jobId": "own" })).await?;
    call(
        node,
        "queue.addBulk",
        json!({ "jobs": [{ "name": "a" }, { "name": "b" }] }),
    )
    .await?;
    for of in [
        json!({ "id": "d1" }),
        json!({ "id": "d2", "ttl": 60_000 }),
        json!({ "id": "d3", "ttl": 60_000, "extend": true, "replace": true }),
        json!({ "id": "d4", "keepLastIfActive": true }),
    ] {
        for _ in 0..2 {
            add(json!({ "delay": 60_000, "deduplication": of })).await?;
        }
    }
    add(json!({ "deduplication": { "id": "alone", "ttl": 60_000, "keepLastIfActive": true } }))
        .await?;
    call(
        node,
        "queue.call",
        json!({ "method": "getDeduplicationJobId", "args": ["d1"] }),
    )
    .await?;
    call(
        node,
        "queue.call",
        json!({ "method": "removeDeduplicationKey", "args": ["d1"] }),
    )
    .await?;
    let child = json!({ "name": "child", "queueName": POSTS, "data": {} });
    let flow = json!({ "name": "parent", "queueName": POSTS, "data": {}, "children": [child] });
    let tree = call(node, "flow.add", json!({ "flow": flow })).await?;
    let parent = tree["job"]["id"].clone();

    let of = |id: &Value| json!({ "id": id });
    call(
        node,
        "queue.updateData",
        json!({ "id": waiting, "data": { "n": 2 } }),
    )
    .await?;
    call(
        node,
        "queue.changeDelay",
        json!({ "id": delayed, "delay": 1000 }),
    )
    .await?;
    call(node, "queue.promote", of(&delayed)).await?;
    call(
        node,
        "queue.changePriority",
        json!({ "id": prioritized, "priority": 1 }),
    )
    .await?;
    call(node, "queue.getCounts", json!({})).await?;
    call(node, "queue.isPaused", json!({})).await?;
    call(node, "queue.logs", of(&waiting)).await?;
    for id in [&waiting, &parent, &json!(done.as_str())] {
        call(node, "queue.getJob", of(id)).await?;
        call(node, "queue.getState", of(id)).await?;
    }
    call(node, "events.open", json!({})).await?;
    for id in [waiting, delayed, prioritized, parent] {
        call(node, "queue.removeJob", of(&id)).await?;
    }
    node.wait_event_named(LATER, "queue.removed").await?;

    let nightly =
        json!({ "id": "nightly-2", "repeat": { "pattern": "0 2 * * *" }, "template": {} });
    for _ in 0..2 {
        call(node, "queue.upsertJobScheduler", nightly.clone()).await?;
    }
    call(node, "queue.getJobSchedulers", json!({})).await?;
    call(
        node,
        "queue.removeJobScheduler",
        json!({ "id": "nightly-2" }),
    )
    .await?;
    Ok(())
}

/// Hears the users' channels, as the backend's WebSocket server does.
pub(super) async fn listen(fixture: &ShippedRedis, role: &str) -> TestResult {
    let mut notices = fixture.connect(role).await?;
    notices.call(&["PSUBSCRIBE", "notify:*"]).await?;
    Ok(())
}
