//! The work of workers.

use std::time::Duration;

use oxbull::{
    ChildPolicy, Client, Context, DependencyCursor, DependencyKind, Job, JobError, JobOptions,
    JobRateLimit, JobResult, ManualWorker, NewJob, Outcome, Queue, Retention, Schedule, Worker,
};
use oxbull_testkit::{DEADLINE, NodePeer, TestResult};
use serde_json::{Value, json};

use super::{MOMENT, POSTS, call};
use crate::fixture::ShippedRedis;

/// What the jobs below do, in this library's worker and in BullMQ's (tests/interop/lib/behaviour.mjs).
const DEEDS: [&str; 10] = [
    "ok",
    "failOnce",
    "fail",
    "unrecoverable",
    "delayOnce:10",
    "waitOnce",
    "rateLimitOnce:20",
    "progress:7",
    "log:line",
    "data:{}",
];

pub(super) async fn obey(job: Job<Value>, _: Context) -> JobResult<Value> {
    let first = job.attempts_started() == 1;
    match job.data()["do"].as_str().unwrap_or("ok") {
        "failOnce" if first => return Err(JobError::retry("once")),
        "fail" => return Err(JobError::retry("always")),
        "unrecoverable" => return Err(JobError::fatal("never")),
        "delayOnce:10" if first => return Ok(Outcome::DelayFor(Duration::from_millis(10))),
        "waitOnce" if first => return Ok(Outcome::Release),
        "rateLimitOnce:20" if first => {
            return Ok(Outcome::RateLimited(Duration::from_millis(20)));
        }
        "progress:7" => job.update_progress(&7).await?,
        "log:line" => drop(job.log("line").await?),
        "data:{}" => job.update_data(&json!({})).await?,
        _ => {}
    }
    Ok(Outcome::Done(json!({})))
}

/// Fills a queue with jobs of every kind, by the observer: the job `last` waits for the ends of all
/// others, in a tree.
pub(super) async fn fill(fixture: &ShippedRedis, queue: &str) -> TestResult {
    let node = fixture.node_observer().await?;
    // One whose worker died, and which is to run once more for what was added meanwhile.
    let latest = json!({ "queue": queue, "opts": {
        "deduplication": { "id": "latest", "ttl": 60_000, "keepLastIfActive": true } } });
    call(&node, "queue.add", latest.clone()).await?;
    call(
        &node,
        "manual.open",
        json!({ "queue": queue, "opts": { "lockDuration": 1 } }),
    )
    .await?;
    call(&node, "manual.getNextJob", json!({ "token": "t" })).await?;
    call(&node, "queue.add", latest).await?;
    let mut jobs = Vec::new();
    for deed in DEEDS {
        let opts = json!({ "attempts": 2, "backoff": 10, "keepLogs": 2, "stackTraceLimit": 2 });
        jobs.push(json!({ "name": deed, "data": { "do": deed }, "opts": opts }));
    }
    for opts in [
        json!({ "priority": 2 }),
        json!({ "delay": 20 }),
        json!({ "deduplication": { "id": "a" } }),
        json!({ "deduplication": { "id": "b", "ttl": 60_000, "keepLastIfActive": true } }),
        json!({ "removeOnComplete": true }),
        json!({ "removeOnComplete": { "age": 3600 } }),
        json!({ "removeOnComplete": { "age": 0 } }),
        json!({ "removeOnComplete": { "count": 1000 } }),
    ] {
        jobs.push(json!({ "name": "job", "data": {}, "opts": opts }));
    }
    call(
        &node,
        "queue.addBulk",
        json!({ "queue": queue, "jobs": jobs }),
    )
    .await?;
    // These have no parents.
    jobs.retain(|job| job["opts"]["deduplication"].is_null());
    for (number, job) in jobs.iter_mut().enumerate() {
        job["queueName"] = json!(queue);
        job["opts"]["ignoreDependencyOnFailure"] = json!(true);
        job["opts"]["jobId"] = json!(format!("child-{number}"));
    }
    for policy in [
        "failParentOnFailure",
        "ignoreDependencyOnFailure",
        "continueParentOnFailure",
    ] {
        let child = |deed: &str| {
            json!({ "name": "child", "queueName": queue, "data": { "do": deed },
                "opts": { policy: true } })
        };
        let children = [child("ok"), child("unrecoverable")];
        jobs.push(
            json!({ "name": "parent", "queueName": queue, "children": children,
            "opts": { "ignoreDependencyOnFailure": true } }),
        );
    }
    let opts = json!({ "jobId": "last", "removeOnComplete": { "age": 3600, "count": 3 } });
    let flow = json!({ "name": "last", "queueName": queue, "opts": opts, "children": jobs });
    call(&node, "flow.add", json!({ "flow": flow })).await?;
    let often = json!({ "queue": queue, "id": "often", "repeat": { "every": 100 },
        "template": { "opts": { "removeOnComplete": true } } });
    call(&node, "queue.upsertJobScheduler", often).await?;
    call(
        &node,
        "queue.setGlobalConcurrency",
        json!({ "queue": queue, "concurrency": 50 }),
    )
    .await?;
    Ok(node.close().await?)
}

/// A schedule of the queue `rust` whose next iteration somebody deleted.
pub(super) async fn lose_an_iteration(fixture: &ShippedRedis) -> TestResult {
    let client = fixture.observer().await?;
    let queue: Queue<Value> = Queue::open(&client, "rust").await?;
    let nightly = Schedule::cron("0 2 * * *").time_zone("UTC");
    let template = NewJob::new("lost", json!({}));
    let first = queue.upsert_scheduler("lost", &nightly, template).await?;
    let id = first.ok_or("no iteration")?.id;
    let key = format!("bull:rust:{id}");
    for command in [
        ["ZREM", "bull:rust:delayed", id.as_str()].as_slice(),
        &["LREM", "bull:rust:wait", "0", id.as_str()],
        &["DEL", &key],
    ] {
        fixture.server.cli(command).await?;
    }
    client.close().await;
    Ok(())
}

/// Posts that no handler will see: one has stalled too often, the caption of the other is cut in the
/// middle of a character, as by `slice` in JavaScript, and its data is no JSON for a reader of text.
pub(super) async fn unhandled_posts(fixture: &ShippedRedis) -> TestResult {
    let client = fixture.observer().await?;
    let queue: Queue<Value> = Queue::open(&client, POSTS).await?;
    for user in ["stalled", "cut-caption"] {
        let post = json!({ "postId": user, "userId": user, "accountId": "1" });
        let id = queue.add("publish", &post).await?.id;
        let reason = "job stalled more than allowable limit";
        let key = format!("bull:{POSTS}:{id}");
        let mut fields = vec!["HSET", &key, "defa", reason];
        let cut = post.to_string().replace('}', r#","caption":"hi \ud83d"}"#);
        if user == "cut-caption" {
            fields.extend(["data", &cut]);
        }
        fixture.server.cli(&fields).await?;
    }
    client.close().await;
    Ok(())
}

pub(super) async fn rust_works(fixture: &ShippedRedis, client: &Client) -> TestResult {
    // A job whose worker died, and what one worker at a time does.
    let manual = ManualWorker::new(client, "rust")?.lock_duration(Duration::from_millis(1));
    let lost = manual.fetch("t").await?.ok_or("nothing to fetch")?;
    manual
        .extend_lock(&lost.id, "t", Duration::from_millis(1))
        .await?;
    // The answer that tells of it may be lost, so its effect is looked for.
    manual.check_schedulers(MOMENT).await?;
    let delayed = fixture
        .server
        .cli(&["ZRANGE", "bull:rust:delayed", "0", "-1"]);
    let delayed = delayed.await?.texts();
    assert!(
        delayed.iter().any(|id| id.starts_with("repeat:lost:")),
        "{delayed:?}"
    );
    let worker = Worker::builder(client, "rust")
        .concurrency(8)
        .metrics(60)
        .rate_limit(JobRateLimit::new(1000, MOMENT))
        .stalled_interval(MOMENT)
        .remove_on_fail(Retention::KeepLast(1000))
        .start(obey)
        .await?;
    fixture.holds("bull:rust:completed", "last").await?;
    worker.close().await;
    rust_raises(client).await?;
    // Two that wait for work share one read, which is begun anew for the second.
    let one = Worker::builder(client, "idle").start(obey).await?;
    fixture.is_blocked().await?;
    let other = Worker::builder(client, "idle-too").start(obey).await?;
    fixture.uses("client|unblock").await?;
    one.close().await;
    other.close().await;
    Ok(())
}

/// A parent whose handler adds children, waits for them and looks at them in every way.
async fn rust_raises(client: &Client) -> TestResult {
    let queue: Queue<Value> = Queue::open(client, "family").await?;
    let worker = queue.worker().state(queue.clone());
    let worker = worker.concurrency(2).start(raise).await?;
    // Its answer may be lost, and it is asked for again.
    let id = queue
        .add_once("parent", &json!({}), JobOptions::new())
        .await?
        .id;
    queue.wait_for::<Value>(&id, DEADLINE).await?;
    worker.close().await;
    Ok(())
}

async fn raise(job: Job<Value>, context: Context<Queue<Value>>) -> JobResult<Value> {
    if job.name() != "parent" {
        return match job.name() {
            "fails" => Err(JobError::fatal("as it should")),
            _ => Ok(Outcome::Done(json!(1))),
        };
    }
    let queue = context.state();
    let named = |name: &str| JobOptions::new().id(format!("{}-{name}", job.id()));
    if job.attempts_started() == 1 {
        let as_ever = named("child");
        job.add_child(
            queue,
            ChildPolicy::Wait,
            "child",
            &json!({}),
            as_ever.clone(),
        )
        .await?;
        let fails = named("fails");
        job.add_child(queue, ChildPolicy::Ignore, "fails", &json!({}), fails)
            .await?;
        job.update_progress(&1).await?;
        return Ok(Outcome::WaitForChildren);
    }
    // Added again: one that has ended, and one that has failed.
    for name in ["child", "fails"] {
        job.add_child(queue, ChildPolicy::Ignore, name, &json!({}), named(name))
            .await?;
    }
    job.children_values::<Value>().await?.into_map()?;
    job.ignored_failures().await?;
    job.failed_children().await?;
    job.dependency_counts().await?;
    for kind in DependencyKind::ALL {
        job.dependency_page(kind, DependencyCursor::START, 10)
            .await?;
    }
    let later = named("later").delay(Duration::from_secs(3600));
    job.add_child(queue, ChildPolicy::Wait, "later", &json!({}), later)
        .await?;
    job.remove_unprocessed_children().await?;
    job.limit_rate(Duration::from_millis(1)).await?;
    Ok(Outcome::Done(json!(1)))
}

pub(super) async fn node_works(fixture: &ShippedRedis, node: &NodePeer) -> TestResult {
    call(
        node,
        "manual.open",
        json!({ "queue": "node", "opts": { "lockDuration": 1 } }),
    )
    .await?;
    let lost = call(node, "manual.getNextJob", json!({ "token": "t" })).await?["id"].clone();
    let extend = json!({ "id": lost, "token": "t", "duration": 1 });
    call(node, "manual.extendLock", extend).await?;
    let opts = json!({ "concurrency": 8, "stalledInterval": 50, "metrics": { "maxDataPoints": 60 },
        "limiter": { "max": 1000, "duration": 50 } });
    call(
        node,
        "worker.start",
        json!({ "queue": "node", "opts": opts }),
    )
    .await?;
    fixture.holds("bull:node:completed", "last").await?;
    call(node, "worker.close", json!({ "force": true })).await?;
    call(node, "manual.close", json!({})).await?;
    Ok(())
}
