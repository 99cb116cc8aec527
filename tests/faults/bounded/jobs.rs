//! Operations on jobs and schedules.

use std::time::Duration;

use oxbull::{
    Deduplication, DrainScope, JobOptions, JobRateLimit, NewJob, Outcome, QueuePosition, Retention,
    RetryOptions, Schedule,
};
use oxbull_testkit::{Rule, TestResult, Value as Reply};
use serde_json::json;

use super::{JOB, MANY, MeteredQueue, id};

/// 100,000 jobs in each state that holds back jobs, events and log rows: acting on one of them.
pub(super) async fn crowded(b: &MeteredQueue) -> TestResult {
    let states = "redis.call('LPUSH', B .. 'wait', 'w' .. i)
        redis.call('ZADD', B .. 'prioritized', 4294967296 + i, 'p' .. i)
        redis.call('ZADD', B .. 'delayed', (4e12 + i) * 4096, 'd' .. i)
        redis.call('ZADD', B .. 'completed', i, 'c' .. i)
        redis.call('ZADD', B .. 'failed', i, 'f' .. i)
        redis.call('RPUSH', B .. 'c1:logs', 'row ' .. i)
        redis.call('SET', B .. 'de:k' .. i, 'd' .. i)
        redis.call('XADD', B .. 'events', '*', 'event', 'added', 'jobId', i, 'name', 'n')";
    b.fill(MANY, states).await?;
    for state in ["w", "p", "d", "c", "f"] {
        for from in [0, 50_000, 99_900] {
            let code = format!("local id = '{state}' .. (i + {from}) {JOB}");
            b.fill(100, &code).await?;
        }
    }
    let queue = &b.queue;
    for n in [50_001_u32, 99_901, 2] {
        let n2 = n + 1;
        let options = JobOptions::new;
        queue.add("n", &json!({})).await?;
        queue
            .add_with("n", &json!({}), options().priority(3))
            .await?;
        queue
            .add_with("n", &json!({}), options().delay(Duration::from_secs(9)))
            .await?;
        let dedup = Deduplication::new(format!("k{n}"));
        queue
            .add_with("n", &json!({}), options().deduplication(dedup))
            .await?;
        queue.deduplication_owner(format!("k{n}")).await?;
        queue.release_deduplication(format!("k{n}")).await?;
        queue
            .change_priority(&id(format!("w{n}"))?, 5, QueuePosition::Back)
            .await?;
        queue
            .change_priority(&id(format!("p{n}"))?, 0, QueuePosition::Front)
            .await?;
        queue
            .change_delay(&id(format!("d{n}"))?, Duration::from_secs(5))
            .await?;
        queue.promote(&id(format!("d{n}"))?).await?;
        queue
            .retry(&id(format!("f{n}"))?, RetryOptions::new())
            .await?;
        queue
            .rerun(&id(format!("c{n}"))?, RetryOptions::new())
            .await?;
        for state in ["w", "p", "d", "c", "f"] {
            queue.state(&id(format!("{state}{n2}"))?).await?;
            assert!(queue.remove(&id(format!("{state}{n2}"))?).await?);
        }
        let job = id("c1")?;
        queue.update_data(&job, &json!({ "n": n })).await?;
        queue.update_progress(&job, &n).await?;
        queue.log(&job, "row", 10).await?;
        queue.logs(&job, 0, 99).await?;
        queue.job(&job).await?;
        queue.counts().await?;
        queue.publish_event("mine", &json!({ "n": "1" })).await?;
        queue.set_global_concurrency(9).await?;
        queue
            .set_global_rate_limit(JobRateLimit::new(9, Duration::from_secs(1)))
            .await?;
        queue.limit_rate(Duration::from_millis(1)).await?;
        queue.lift_rate_limit().await?;
        queue.remove_global_rate_limit().await?;
        queue.remove_global_concurrency().await?;
        b.script("wake", &["bull:q:"], &[]).await?;
        let ends: Vec<String> = (1..=100).map(|n| format!("f{n}")).collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        b.script("find_ends", &["bull:q:"], &ends).await?;
    }
    queue.trim_events(10).await?;
    for added in queue
        .add_bulk((0..1000).map(|n| NewJob::new("n", json!(n))))
        .await?
    {
        added?;
    }
    // An answer is lost: the events show what became of the add.
    let hash = b.meter.hashes["enqueue"].clone();
    b.fill(
        9_000,
        "redis.call('XADD', B .. 'events', '*', 'event', 'added', 'jobId', i, 'name', 'n')",
    )
    .await?;
    let lost = Rule::drop_reply(move |command| command.has(&hash)).times(1);
    b.meter.proxy.add(lost);
    queue.add_once("n", &json!({}), JobOptions::new()).await?;
    // A BullMQ 5 client has parked the jobs.
    b.fill(MANY, "redis.call('LPUSH', B .. 'paused', 'x' .. i)")
        .await?;
    queue.pause().await?;
    queue.resume().await?;
    let job = b.start_job().await?;
    b.worker
        .extend_lock(&job.id, "token", Duration::from_secs(30))
        .await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    Ok(())
}

/// 100,000 active jobs, whose workers are gone.
pub(super) async fn busy(b: &MeteredQueue) -> TestResult {
    let active = format!(
        "local id = 'a' .. i {JOB} redis.call('HSET', B .. id, 'processedOn', 1, 'ats', 1)
        redis.call('LPUSH', B .. 'active', id)"
    );
    b.fill(MANY, &active).await?;
    let mut left = String::new();
    while left != "0" {
        let found = b.script("reclaim", &["bull:q:"], &["token", &left]).await?;
        left = found
            .items()
            .first()
            .and_then(Reply::text)
            .unwrap_or_default();
    }
    // Its owner may be active: no other place shows it.
    for owner in [1, 50_000, 99_999] {
        b.fill(1, &format!("redis.call('SET', B .. 'de:k', 'a{owner}')"))
            .await?;
        let dedup = Deduplication::new("k").keep_last_if_active();
        let options = JobOptions::new().deduplication(dedup);
        b.queue.add_with("n", &json!({}), options).await?;
    }
    b.fill(
        1,
        "redis.call('ZADD', B .. 'repeat', 7, 's') redis.call('HSET', B .. 'repeat:s', 'name', 'n', 'ic', 1, 'every', \
        1000, 'overlap', 'skip') redis.call('HSET', B .. 'repeat:s:7', 'name', 'n')",
    )
    .await?;
    let args = [
        "s",
        "repeat:s:7",
        "9000",
        "",
        "",
        "",
        "0",
        "",
        "{\"a\":1}",
        "0",
        "0",
        "",
    ];
    b.script("next_iteration", &["bull:q:"], &args).await?;
    b.fill(1, "redis.call('ZADD', B .. 'repeat', 7, 'n::::r')")
        .await?;
    let opts = "{\"a\":1}";
    let args = [
        "n::::r",
        "job",
        "7",
        "9000",
        "next",
        "9",
        "4000000000000",
        opts,
        "0",
        "0",
        "",
    ];
    b.script("next_repeatable", &["bull:q:"], &args).await?;
    b.queue.add("n", &json!({})).await?;
    for _ in 0..3 {
        let job = b.start_job().await?;
        b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
        b.queue.add("n", &json!({})).await?;
    }
    assert_eq!(
        b.worker
            .check_stalled(Duration::from_millis(1), 9)
            .await?
            .len(),
        0
    );
    b.fill(1, "redis.call('DEL', B .. 'stalled-check')").await?;
    let recovered = b.worker.check_stalled(Duration::from_millis(1), 9).await?;
    assert_eq!(recovered.len(), MANY);
    assert_eq!(b.queue.counts().await?.waiting, MANY as u64 + 2);
    Ok(())
}

/// 100,000 schedules; a few have lost their iterations.
pub(super) async fn schedules(b: &MeteredQueue) -> TestResult {
    let all = format!(
        "local slot, s = 4000000000000 + i, 's' .. i
        local id = 'repeat:' .. s .. ':' .. string.format('%.0f', slot)
        redis.call('ZADD', B .. 'repeat', slot, s)
        redis.call('HSET', B .. 'repeat:' .. s, 'name', 'n', 'ic', 1, 'every', 60000, 'offset', 1, 'data', '[]')
        if i % 500 > 0 then {JOB} end
        if i % 500 > 2 then redis.call('ZADD', B .. 'delayed', slot * 4096, id)
        elseif i % 500 > 0 then redis.call('LPUSH', B .. 'wait', id) end
        redis.call('XADD', B .. 'events', '*', 'event', 'active', 'jobId', i, 'prev', 'waiting')"
    );
    b.fill(MANY, &all).await?;
    let repaired = b.worker.check_schedulers(Duration::from_secs(1)).await?;
    assert_eq!(repaired.len(), MANY / 500);
    b.fill(MANY, "redis.call('LPUSH', B .. 'wait', 'w' .. i)")
        .await?;
    b.fill(50_000, "redis.call('RPUSH', B .. 'wait', 'v' .. i)")
        .await?;
    for n in [1, 50_001, 99_502] {
        let template = NewJob::new("n", json!([]));
        let every = Schedule::every(Duration::from_secs(60));
        b.queue
            .upsert_scheduler(format!("s{n}"), &every, template)
            .await?;
        b.queue.scheduler(format!("s{n}")).await?;
        assert!(b.queue.remove_scheduler(format!("s{n}")).await?);
    }
    b.queue.scheduler_count().await?;
    Ok(())
}

/// 100,000 jobs in each place that is drained, behind 100,000 that stay.
pub(super) async fn drained(b: &MeteredQueue) -> TestResult {
    let kept =
        "redis.call('ZADD', B .. 'repeat', i, 's') redis.call('LPUSH', B .. 'wait', 'w' .. i)
        local s = 's' .. i redis.call('ZADD', B .. 'repeat', i, s)
        redis.call('RPUSH', B .. 'wait', 'repeat:' .. s .. ':' .. i)";
    b.fill(MANY / 2, kept).await?;
    let others = format!(
        "local id = 'x' .. i {JOB} redis.call('RPUSH', B .. 'wait', id)
        redis.call('ZADD', B .. 'delayed', i, 'd' .. i)"
    );
    b.fill(MANY / 2, &others).await?;
    assert_eq!(
        b.queue.drain(DrainScope::ReadyAndDelayed).run().await?.jobs,
        (MANY / 2 * 3) as u64
    );
    assert_eq!(b.queue.counts().await?.waiting, (MANY / 2) as u64);
    Ok(())
}

/// 100,000 jobs that ended long ago.
pub(super) async fn retained(b: &MeteredQueue) -> TestResult {
    let ended = format!(
        "local id = 'c' .. i {JOB} redis.call('ZADD', B .. 'completed', i, id)
        redis.call('HSET', B .. id, 'returnvalue', '1', 'finishedOn', i)"
    );
    b.fill(MANY, &ended).await?;
    let options = JobOptions::new().remove_on_complete(Retention::KeepLast(10));
    b.queue.add_with("n", &json!({}), options).await?;
    let job = b.start_job().await?;
    b.worker.finish(&job, "token", Ok(Outcome::Done(1))).await?;
    assert_eq!(b.server.int(&["ZCARD", "bull:q:completed"]).await?, 10);
    Ok(())
}
