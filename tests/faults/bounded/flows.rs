//! Operations on parents and their children.

use std::collections::BTreeSet;
use std::time::Duration;

use oxbull::{ChildPolicy, FlowJob, FlowLimits, FlowProducer, JobOptions, NewJob, Outcome, Parent};
use oxbull_testkit::{Rule, TestResult};
use serde_json::json;

use super::{JOB, MANY, MeteredQueue, id};

/// How many parents are looked at; each costs calls of its own, all of which are measured.
const PARENTS: usize = 2_000;

/// A parent of 100,000 children that wait in its queue, among others.
pub(super) async fn wide_flow(b: &MeteredQueue) -> TestResult {
    let others = "redis.call('LPUSH', B .. 'wait', 'w' .. i)";
    let children = format!(
        "local id = 'k' .. i {JOB} redis.call('HSET', B .. id, 'parentKey', B .. 'par')
        redis.call('LPUSH', B .. 'wait', id) redis.call('SADD', B .. 'par:dependencies', B .. id)"
    );
    b.fill(MANY / 10, others).await?;
    b.fill(MANY, &children).await?;
    b.fill(MANY / 10, others).await?;
    b.fill(
        1,
        &format!("local id = 'par' {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)"),
    )
    .await?;
    let parent = Parent::new("bull:q", id("par")?);
    b.queue
        .add_with("n", &json!({}), JobOptions::new().parent(parent))
        .await?;
    assert!(b.queue.remove(&id("par")?).await?);
    assert_eq!(b.queue.counts().await?.waiting, MANY as u64 / 5);
    assert_eq!(b.queue.counts().await?.waiting_children, 0);
    Ok(())
}

/// Large flows and small ones, over queues that are full of jobs; one names jobs that exist.
pub(super) async fn added_flows(b: &MeteredQueue) -> TestResult {
    let crowd = "redis.call('LPUSH', B .. 'wait', 'w' .. i)
        redis.call('ZADD', B .. 'prioritized', 4294967296 + i, 'p' .. i)
        redis.call('ZADD', B .. 'delayed', (4e12 + i) * 4096, 'd' .. i)
        redis.call('ZADD', B .. 'completed', i, 'c' .. i)
        redis.call('ZADD', B .. 'waiting-children', i, 'r' .. i)";
    b.fill(MANY, crowd).await?;
    let existing = |state: &str| {
        format!("local id = '{state}' .. i {JOB} redis.call('HSET', B .. id, 'returnvalue', '1')")
    };
    b.fill(1_000, &existing("w")).await?;
    b.fill(1_000, &existing("c")).await?;
    let producer = FlowProducer::new(&b.client);
    let job = || FlowJob::new("q", "n", &json!({ "some": "data" }));
    let leaf = |n: usize| match n % 4 {
        0 => job().options(JobOptions::new().priority(3)),
        1 => job().options(JobOptions::new().delay(Duration::from_secs(9))),
        _ => job(),
    };
    let named =
        |state: &'static str| (1..=1_000).map(move |n| JobOptions::new().id(format!("{state}{n}")));
    let groups = (0..100).map(|_| job().children(ChildPolicy::Wait, (0..100).map(leaf)));
    let flow = job()
        .children(ChildPolicy::FailParent, (0..MANY / 10).map(leaf))
        .children(ChildPolicy::FailParent, groups)
        .children(
            ChildPolicy::FailParent,
            named("w").map(|options| job().options(options)),
        )
        .children(
            ChildPolicy::FailParent,
            named("c").map(|options| job().options(options)),
        );
    let hash = b.meter.hashes["add_flow"].clone();
    let lost = Rule::drop_reply(move |command| command.has(&hash))
        .every(9)
        .times(5);
    b.meter.proxy.add(lost);
    producer.add(&flow).await?;
    // Asked again after a lost answer, amid the events of others.
    for _ in 0..3 {
        let jobs = (0..5_000).map(|n| NewJob::new("n", json!(n)));
        b.queue.add_bulk(jobs).await?.into_result()?;
        let hash = b.meter.hashes["add_flow"].clone();
        b.meter
            .proxy
            .add(Rule::drop_reply(move |command| command.has(&hash)).times(1));
        producer
            .add(&job().children(ChildPolicy::Wait, (0..199).map(leaf)))
            .await?;
    }
    Ok(())
}

/// 100,000 jobs below one, on three levels.
pub(super) async fn deep_flow(b: &MeteredQueue) -> TestResult {
    let levels = format!(
        "local mid, id = 'm' .. math.ceil(i / 50), 'k' .. i {JOB}
        redis.call('ZADD', B .. 'prioritized', i, id) redis.call('SADD', B .. mid .. ':dependencies', B .. id)
        if i % 50 == 1 then id = mid {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)
          redis.call('SADD', B .. 'top:dependencies', B .. id) end"
    );
    b.fill(MANY, &levels).await?;
    b.fill(
        1,
        &format!("local id = 'top' {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id)"),
    )
    .await?;
    assert!(b.queue.remove(&id("top")?).await?);
    assert_eq!(b.server.int(&["ZCARD", "bull:q:prioritized"]).await?, 0);
    Ok(())
}

/// Two parents whose 100,000 children have ended: one is removed, one by retention.
pub(super) async fn ended_flow(b: &MeteredQueue) -> TestResult {
    for parent in ["kept", "brief"] {
        let children = format!(
            "redis.call('HSET', B .. '{parent}:processed', B .. '{parent}' .. i, '1')
            redis.call('HSET', B .. '{parent}:failed', B .. '{parent}f' .. i, 'no')
            redis.call('ZADD', B .. '{parent}:unsuccessful', i, B .. '{parent}u' .. i)"
        );
        b.fill(if parent == "kept" { MANY / 3 } else { MANY }, &children)
            .await?;
    }
    b.fill(
        1,
        &format!("local id = 'kept' {JOB} redis.call('LPUSH', B .. 'wait', id)"),
    )
    .await?;
    b.fill(1, "redis.call('DEL', B .. 'brief:unsuccessful')")
        .await?;
    assert!(b.queue.remove(&id("kept")?).await?);
    let brief = format!(
        "local id = 'brief' {JOB} redis.call('HSET', B .. id, 'opts', '{{\"removeOnComplete\":true}}')
        redis.call('LPUSH', B .. 'wait', id)"
    );
    b.fill(1, &brief).await?;
    let job = b.start_job().await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    assert_eq!(
        b.server.int(&["EXISTS", "bull:q:brief:processed"]).await?,
        0
    );
    Ok(())
}

/// 100,000 children that wait in their queue, some of which have failed, and one with 100,000 below it: all that can
/// go are removed. Then each of some more parents is looked at, and the last child is unlinked.
pub(super) async fn unprocessed_flow(b: &MeteredQueue) -> TestResult {
    let children = format!(
        "local id = 'k' .. i {JOB} redis.call('HSET', B .. id, 'parentKey', B .. 'par')
        if i % 10 == 0 then redis.call('ZADD', B .. 'failed', i, id) else redis.call('LPUSH', B .. 'wait', id) end
        redis.call('SADD', B .. 'par:dependencies', B .. id)
        id = 'low' .. i {JOB} redis.call('ZADD', B .. 'prioritized', i, id)
        redis.call('SADD', B .. 'mid:dependencies', B .. id)"
    );
    b.fill(MANY, &children).await?;
    let parents = format!(
        "for _, id in ipairs({{ 'par', 'mid' }}) do {JOB} redis.call('ZADD', B .. 'waiting-children', 1, id) end
        redis.call('SADD', B .. 'par:dependencies', B .. 'mid')"
    );
    b.fill(1, &parents).await?;
    let all = b.queue.dependency_counts("par").await?.unprocessed;
    assert_eq!(all, MANY as u64 + 1);
    let removed = b.queue.remove_unprocessed_children("par").await?;
    assert_eq!(removed, 2 * MANY as u64 + 1 - MANY as u64 / 10);
    let counts = b.queue.counts().await?;
    assert_eq!((counts.waiting, counts.prioritized), (0, 0));
    let flow = b.queue.flow("par", FlowLimits::new()).await?;
    let flow = flow.ok_or("the parent is there")?;
    assert!(flow.is_truncated() && flow.children.len() == 20);
    b.queue.children_values::<u32>("par").await?.into_map()?;

    b.fill(
        PARENTS,
        "redis.call('ZADD', B .. 'waiting-children', i, 'p' .. i)",
    )
    .await?;
    b.fill(1, "redis.call('SADD', B .. 'p1:dependencies', B .. 'none')")
        .await?;
    let (mut blocked, mut parents) = (b.queue.blocked_parents(), BTreeSet::new());
    while let Some(parent) = blocked.next().await {
        parents.insert(parent?.id);
    }
    assert_eq!(parents.len(), PARENTS + 1);
    assert!(b.queue.remove_child_dependency("k10").await?);
    Ok(())
}
