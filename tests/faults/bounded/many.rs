//! Operations on many jobs.

use std::time::Duration;

use oxbull::{ActiveJobs, JobState, RetryOptions};
use oxbull_testkit::TestResult;

use super::{JOB, MANY, MeteredQueue, id};

/// Every second one of 100,000 jobs in each state is too young, or locked.
pub(super) async fn cleaned(b: &MeteredQueue) -> TestResult {
    let states = format!(
        "local function job(id) {JOB} if i % 2 == 0 then redis.call('HSET', B .. id, 'timestamp', '9000000000000') end
          redis.call('HSET', B .. id, 'parentKey', 'bull:p:' .. id)
          redis.call('SADD', 'bull:p:' .. id .. ':dependencies', B .. id)
          redis.call('ZADD', 'bull:p:waiting-children', 1, id) end
        job('w' .. i) redis.call('LPUSH', B .. 'wait', 'w' .. i)
        job('a' .. i) redis.call('LPUSH', B .. 'active', 'a' .. i)
        if i % 2 == 0 then redis.call('SET', B .. 'a' .. i .. ':lock', 't') end"
    );
    b.fill(MANY, &states).await?;
    let half = (MANY / 2) as u64;
    for state in [JobState::Waiting, JobState::Active] {
        let dry = b.queue.clean(state, Duration::ZERO).dry_run().run().await?;
        let report = b.queue.clean(state, Duration::ZERO).run().await?;
        assert_eq!((dry.jobs, report.jobs), (half, half), "{state}");
    }
    // What follows is not the doing of the last call.
    b.meter.rest();
    b.server.cli(&["FLUSHALL"]).await?;
    let states = format!(
        "local function job(id) {JOB} if i % 2 == 0 then redis.call('HSET', B .. id, 'timestamp', '9000000000000') end end
        job('d' .. i) redis.call('ZADD', B .. 'delayed', i, 'd' .. i)
        job('p' .. i) redis.call('ZADD', B .. 'prioritized', i, 'p' .. i)
        job('c' .. i) redis.call('ZADD', B .. 'completed', i, 'c' .. i)
        job('k' .. i) redis.call('ZADD', B .. 'waiting-children', i, 'k' .. i)"
    );
    b.fill(MANY, &states).await?;
    for (state, jobs) in [
        (JobState::Delayed, half),
        (JobState::Prioritized, half),
        (JobState::Completed, MANY as u64),
        (JobState::WaitingChildren, MANY as u64),
    ] {
        let report = b.queue.clean(state, Duration::ZERO).run().await?;
        assert_eq!(report.jobs, jobs, "{state}");
    }
    Ok(())
}

/// A queue of 100,000 jobs in most states, with as many schedulers and deduplication ids.
pub(super) async fn obliterated(b: &MeteredQueue) -> TestResult {
    let states = format!(
        "local function job(id) {JOB} end
        job('a' .. i) redis.call('LPUSH', B .. 'active', 'a' .. i)
        job('w' .. i) redis.call('LPUSH', B .. 'wait', 'w' .. i)
        job('f' .. i) redis.call('ZADD', B .. 'failed', i, 'f' .. i)
        redis.call('ZADD', B .. 'repeat', i, 's' .. i) redis.call('HSET', B .. 'repeat:s' .. i, 'name', 'n')
        redis.call('SET', B .. 'de:k' .. i, 'gone')
        redis.call('XADD', B .. 'events', '*', 'event', 'added', 'jobId', i, 'name', 'n')"
    );
    b.fill(MANY, &states).await?;
    let report = b.queue.obliterate(ActiveJobs::Delete).run().await?;
    assert_eq!(report.jobs, 3 * MANY as u64);
    assert_eq!(b.server.int(&["DBSIZE"]).await?, 0);
    Ok(())
}

/// 100,000 failed children that become pending again, and as many delayed jobs.
pub(super) async fn queued_again(b: &MeteredQueue) -> TestResult {
    let states = format!(
        "local function job(id) {JOB} end
        job('f' .. i) redis.call('ZADD', B .. 'failed', i, 'f' .. i)
        redis.call('HSET', B .. 'f' .. i, 'priority', i % 2, 'parentKey', B .. 'd' .. i, 'failedReason', 'no', 'stc', 1)
        redis.call('ZADD', B .. 'd' .. i .. ':unsuccessful', 1, B .. 'f' .. i)
        job('d' .. i) redis.call('ZADD', B .. 'delayed', i, 'd' .. i)"
    );
    b.fill(MANY, &states).await?;
    let all = MANY as u64;
    let retry = || b.queue.retry_jobs(None, RetryOptions::new());
    assert_eq!(retry().dry_run().run().await?.jobs, all);
    assert_eq!(retry().run().await?.jobs, all);
    assert_eq!(b.queue.promote_jobs().dry_run().run().await?.jobs, all);
    assert_eq!(b.queue.promote_jobs().run().await?.jobs, all);
    Ok(())
}

/// What is left of a few jobs, among 100,000 in a list and as many in a set.
pub(super) async fn orphaned(b: &MeteredQueue) -> TestResult {
    let states = format!(
        "local function job(id) {JOB} end
        job('w' .. i) redis.call('LPUSH', B .. 'wait', 'w' .. i)
        job('c' .. i) redis.call('ZADD', B .. 'completed', i, 'c' .. i)
        if i % 5000 == 0 then job('o' .. i) redis.call('RPUSH', B .. 'o' .. i .. ':logs', 'row') end
        redis.call('RPUSH', B .. 'c1:logs', 'row ' .. i)"
    );
    b.fill(MANY, &states).await?;
    let report = b.queue.remove_orphaned_jobs().run().await?;
    assert_eq!(report.jobs, MANY as u64 / 5000);
    for keep in [50_000, 0] {
        b.queue.clear_logs(&id("c1")?, keep).await?;
        let rows = b.server.int(&["LLEN", "bull:q:c1:logs"]).await?;
        assert_eq!(rows, i64::from(keep));
    }
    Ok(())
}
