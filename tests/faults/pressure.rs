//! V13, V14: a server without memory, and a set of finished jobs that must shrink.

use std::time::{Duration, Instant};

use oxbull::{Error, JobOptions, Retention};
use oxbull_testkit::{DEADLINE, TestResult, eventually};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};

/// V13: out of memory, running jobs keep their locks, producers get errors, the log stays short,
/// and everything recovers by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_memory_costs_no_lock() -> TestResult {
    let fixture = Fixture::start().await?;
    let lock = Duration::from_secs(1);
    let mut ids = fixture.add(12, 2500).await?;
    let worker = fixture
        .worker()
        .lock_duration(lock)
        .concurrency(6)
        .start(work)
        .await?;
    fixture.started(6).await?;
    fixture
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "1mb"])
        .await?;
    let from = Instant::now();
    let mut refused = 0;
    while from.elapsed() < Duration::from_secs(4) {
        match fixture
            .queue
            .add_once("work", &Work { ms: 0 }, JobOptions::new())
            .await
        {
            Err(Error::Overloaded(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    ids.extend(fixture.add(20, 1).await?);
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V13 out of memory for 4 s: {refused} adds refused, {summary}");
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (32, 0, 0)
    );
    assert!(summary.log_lines < 20);
    Ok(())
}

/// V14: keeping 100 of 200,000 finished jobs takes many short scripts, not a long one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_over_200_000_finished_jobs_blocks_no_call() -> TestResult {
    const FILL: &str = "for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
        redis.call('HSET', KEYS[1] .. 'old' .. i, 'name', 'work', 'data', '{\"ms\":0}', 'opts', '{}',
            'timestamp', i, 'finishedOn', i, 'returnvalue', '0', 'atm', 1, 'ats', 1)
        redis.call('ZADD', KEYS[1] .. 'completed', i, 'old' .. i)
    end";
    let fixture = Fixture::start().await?;
    for from in (1..=200_000).step_by(5_000) {
        let (first, last) = (from.to_string(), (from + 4_999).to_string());
        fixture
            .server
            .cli(&["EVAL", FILL, "1", &fixture.key(""), &first, &last])
            .await?;
    }
    fixture.server.cli(&["CONFIG", "RESETSTAT"]).await?;
    let cpu = fixture.server.used_cpu_us().await?;
    let options = JobOptions::new().remove_on_complete(Retention::KeepLast(100));
    fixture.add_with(1, 0, &options).await?;
    let worker = fixture.worker().start(work).await?;
    eventually(DEADLINE * 2, async || {
        let kept = fixture
            .server
            .int(&["ZCARD", &fixture.key("completed")])
            .await;
        kept.map_err(|error| error.to_string())
            .and_then(|kept| (kept == 100).then_some(()).ok_or(format!("{kept} kept")))
    })
    .await?;
    worker.close().await;
    let cpu = fixture.server.used_cpu_us().await? - cpu;
    let stats = fixture.server.info("commandstats").await?;
    let calls = |name: &str| -> u64 {
        let stat = stats.get(name).map_or("", String::as_str);
        let calls = stat
            .strip_prefix("calls=")
            .and_then(|rest| rest.split(',').next());
        calls.and_then(|calls| calls.parse().ok()).unwrap_or(0)
    };
    let calls = calls("cmdstat_evalsha") + calls("cmdstat_eval");
    let each = cpu / calls.max(1);
    println!("V14 200,000 finished jobs to 100: {calls} scripts of {each} us CPU");
    // The work is cut evenly, and a piece of it takes less than the bar. What single scripts take is
    // judged in `bounded`.
    assert!(calls >= 1_000, "{calls} scripts");
    assert!(each <= 5_000, "{each} us each");
    let left = fixture.server.int(&["DBSIZE"]).await?;
    assert!(left < 120, "{left} keys");
    Ok(())
}
