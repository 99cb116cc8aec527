//! The work of operators.

use std::time::Duration;

use oxbull::{
    ActiveJobs, Client, DrainScope, FlowLimits, JobId, JobOptions, JobRateLimit, JobState, Parent,
    Queue, QueuePosition, RetryOptions, SchedulerOrder,
};
use oxbull_testkit::{NodePeer, TestResult};
use serde_json::{Value, json};

use super::producing::LARGE_FLOW;
use super::{LATER, call};

pub(super) async fn rust_operates(client: &Client, failed: &JobId) -> TestResult {
    let queue: Queue<Value> = Queue::open(client, "rust").await?;
    queue.counts().await?;
    for id in [failed, &JobId::new("child-0")?] {
        queue.job(id).await?;
        queue.state(id).await?;
        queue.logs(id, 0, -1).await?;
    }
    queue.pause().await?;
    assert!(queue.is_paused().await?);
    queue.resume().await?;
    queue.retry(failed, RetryOptions::new()).await?;
    queue.log(failed, "seen by an operator", 100).await?;
    queue
        .change_priority(failed, 7, QueuePosition::Back)
        .await?;
    let delayed = JobOptions::new().delay(LATER);
    let delayed = queue.add_with("again", &json!({}), delayed).await?.id;
    queue.promote(&delayed).await?;
    assert!(queue.remove(&delayed).await?);
    queue.global_concurrency().await?;
    queue.is_maxed().await?;
    queue
        .set_global_rate_limit(JobRateLimit::new(5, LATER))
        .await?;
    queue.rate_limit_state().await?;
    queue.limit_rate(LATER).await?;
    queue.lift_rate_limit().await?;
    queue.remove_global_rate_limit().await?;
    queue.set_global_concurrency(9).await?;
    queue.remove_global_concurrency().await?;
    queue.schedulers(0, -1, SchedulerOrder::LatestFirst).await?;
    queue.remove_scheduler("often").await?;
    queue.trim_events(1).await?;
    queue.release_deduplication("b").await?;
    rust_operates_on_flows(&queue).await?;
    assert!(queue.remove(&JobId::new(LARGE_FLOW)?).await?);
    queue.clear_logs(LARGE_FLOW, 0).await?;
    let again = RetryOptions::new;
    for operation in [
        // More than a step looks at.
        queue.promote_jobs().dry_run(),
        queue.promote_jobs(),
        queue.retry_jobs(None, again()),
        queue.rerun_jobs(None, again()),
        queue.clean(JobState::Waiting, Duration::from_secs(3600)),
        queue.clean(JobState::Waiting, Duration::ZERO).limit(1),
        queue.clean(JobState::Active, Duration::ZERO),
        queue.remove_orphaned_jobs(),
        queue.drain(DrainScope::ReadyAndDelayed),
        queue.obliterate(ActiveJobs::Delete),
    ] {
        operation.run().await?;
    }
    let old: Queue<Value> = Queue::open(client, "old").await?;
    old.pause().await?;
    old.resume().await?;
    Ok(())
}

async fn rust_operates_on_flows(queue: &Queue<Value>) -> TestResult {
    let flow = queue.flow(LARGE_FLOW, FlowLimits::new()).await?;
    assert!(flow.is_some_and(|flow| flow.is_truncated()));
    let mut blocked = queue.blocked_parents();
    while let Some(parent) = blocked.next().await {
        parent?;
    }
    queue.dependency_counts(LARGE_FLOW).await?;
    queue
        .children_values::<Value>(LARGE_FLOW)
        .await?
        .into_map()?;
    queue.failed_children(LARGE_FLOW).await?;
    let family = JobId::new("family")?;
    let options = JobOptions::new().id(family.clone()).delay(LATER);
    queue.add_with("family", &json!({}), options).await?;
    for child in ["unlinked", "removed"] {
        let parent = Parent::new(queue.qualified_name(), family.clone());
        let options = JobOptions::new().id(JobId::new(child)?).parent(parent);
        queue.add_with(child, &json!({}), options).await?;
    }
    assert!(queue.remove_child_dependency("unlinked").await?);
    assert_eq!(queue.remove_unprocessed_children(&family).await?, 1);
    Ok(())
}

pub(super) async fn node_operates(node: &NodePeer, failed: &JobId) -> TestResult {
    let ask = async |method: &str, mut params: Value| {
        params["queue"] = json!("node");
        call(node, method, params).await
    };
    let on_queue = async |method: &str, args: Value| {
        ask("queue.call", json!({ "method": method, "args": args })).await
    };
    let types = [
        "wait",
        "active",
        "delayed",
        "prioritized",
        "completed",
        "failed",
        "waiting-children",
    ];
    ask("queue.getCounts", json!({})).await?;
    ask("queue.getJobs", json!({ "types": types })).await?;
    ask("queue.getJob", json!({ "id": failed.as_str() })).await?;
    ask("queue.getState", json!({ "id": failed.as_str() })).await?;
    ask("queue.logs", json!({ "id": failed.as_str() })).await?;
    on_queue("getWorkers", json!([])).await?;
    on_queue("getJobCountByTypes", json!(["wait"])).await?;
    on_queue("getCountsPerPriority", json!([[0, 1]])).await?;
    ask(
        "flow.get",
        json!({ "opts": { "queueName": "node", "id": "last" } }),
    )
    .await?;
    ask("queue.getMetrics", json!({ "type": "completed" })).await?;
    ask("queue.pause", json!({})).await?;
    ask("queue.isPaused", json!({})).await?;
    ask("queue.resume", json!({})).await?;
    ask("queue.retryJob", json!({ "id": failed.as_str() })).await?;
    ask("queue.retryJobs", json!({})).await?;
    ask("queue.promoteJobs", json!({})).await?;
    ask("queue.rateLimit", json!({ "ms": 60_000 })).await?;
    ask("queue.getRateLimitTtl", json!({})).await?;
    ask("queue.removeRateLimitKey", json!({})).await?;
    ask(
        "queue.setGlobalRateLimit",
        json!({ "max": 1, "duration": 1000 }),
    )
    .await?;
    ask("queue.removeGlobalRateLimit", json!({})).await?;
    ask("queue.setGlobalConcurrency", json!({ "concurrency": 3 })).await?;
    ask("queue.removeGlobalConcurrency", json!({})).await?;
    ask("queue.getJobSchedulers", json!({})).await?;
    ask("queue.removeJobScheduler", json!({ "id": "often" })).await?;
    ask("queue.getMeta", json!({})).await?;
    ask("queue.trimEvents", json!({ "maxLength": 5 })).await?;
    for kind in ["completed", "failed", "wait"] {
        ask("queue.clean", json!({ "type": kind, "limit": 2 })).await?;
    }
    ask("queue.drain", json!({ "delayed": true })).await?;
    ask("queue.obliterate", json!({ "opts": { "force": true } })).await?;
    Ok(())
}

/// What `docs/operations.md` does at the command line.
pub(super) const BY_HAND: [&str; 24] = [
    "PING",
    "INFO memory",
    "SET test-key test-value",
    "GET test-key",
    "DEL test-key",
    "DBSIZE",
    "SCAN 0 MATCH bull:*:meta COUNT 1000",
    "TYPE bull:rust:meta",
    "TTL bull:rust:meta",
    "HGETALL bull:rust:meta",
    "LRANGE bull:rust:wait 0 10",
    "LLEN bull:rust:active",
    "ZRANGE bull:rust:failed 0 10",
    "ZCARD bull:rust:failed",
    "XREVRANGE bull:rust:events + - COUNT 10",
    "MEMORY USAGE bull:rust:events",
    "CLIENT LIST",
    "SLOWLOG GET 10",
    "LATENCY LATEST",
    "ACL LOG 10",
    "ACL WHOAMI",
    "BGREWRITEAOF",
    "LASTSAVE",
    "MONITOR",
];
