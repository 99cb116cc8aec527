//! V9, V10: answers that are lost after the request was executed.

use std::time::Duration;

use oxbull::{Error, JobOptions, JobRateLimit};
use oxbull_testkit::{DEADLINE, Rule, TestResult};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};
use crate::scripts::runs;

/// B4, B5: the answer to every third advance is lost while 200 jobs run. Each runs once, and no
/// recovery is counted: the started jobs are found by the call's token, the results recognised.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_to_advance_repeat_nothing() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let ids = fixture.add(200, 3).await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("advance")).every(3).times(15));
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    lost.wait_fired(1, DEADLINE).await?;
    fixture.proxy().clear_rules();
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!(
        "V10 lost answers to advance: {} lost, {summary}",
        lost.fired()
    );
    assert_eq!((summary.completed, summary.failed), (200, 0));
    assert_eq!((summary.repeated, summary.stalls), (0, 0));
    Ok(())
}

/// B4: the answer that carries 50 started jobs is lost, once reset and once swallowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answer_with_fifty_jobs_runs_each_once() -> TestResult {
    for swallow in [false, true] {
        let fixture = Fixture::proxied().await?;
        let ids = fixture.add(50, 3).await?;
        let rule = if swallow {
            Rule::swallow_reply
        } else {
            Rule::drop_reply
        };
        let fetch =
            |command: &oxbull_testkit::Command| runs("advance")(command) && command.text(5) == "50";
        let lost = fixture.proxy().add(rule(fetch).nth(1));
        let worker = fixture
            .worker()
            .lock_duration(Duration::from_secs(20))
            .concurrency(50)
            .start(work)
            .await?;
        lost.wait_fired(1, DEADLINE).await?;
        fixture.drained().await?;
        worker.close().await;
        let summary = check_queue(&fixture, &ids, Allow::default()).await?;
        println!("B4 50 jobs in the lost answer (swallowed: {swallow}): {summary}");
        assert_eq!((summary.completed, summary.failed), (50, 0));
        assert_eq!((summary.repeated, summary.stalls), (0, 0));
    }
    Ok(())
}

/// B4: what a lost answer started counts against the rate limit, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_in_a_lost_answer_count_against_the_limit() -> TestResult {
    const HOUR: Duration = Duration::from_secs(3600);
    let fixture = Fixture::proxied().await?;
    fixture
        .queue
        .set_global_rate_limit(JobRateLimit::new(5, HOUR))
        .await?;
    let ids = fixture.add(10, 0).await?;
    let fetch =
        |command: &oxbull_testkit::Command| runs("advance")(command) && command.text(5) != "0";
    let lost = fixture.proxy().add(Rule::drop_reply(fetch).nth(1));
    let worker = fixture
        .worker()
        .max_rate_limit_wait(Duration::from_millis(5))
        .start(work)
        .await?;
    for started in [5, 10] {
        fixture.started(started).await?;
        let count = fixture
            .server
            .text(&["GET", &fixture.key("limiter")])
            .await?;
        assert_eq!(count.as_deref(), Some("5"));
        assert_eq!(fixture.effects.starts(), started);
        fixture.queue.lift_rate_limit().await?;
    }
    assert_eq!(lost.fired(), 1);
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    assert_eq!((summary.completed, summary.repeated), (10, 0));
    Ok(())
}

/// V9: 500 adds that are acknowledged although answers are lost leave 500 jobs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_acknowledged_adds_leave_five_hundred_jobs() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("enqueue")).every(4));
    let mut ids = Vec::new();
    for _ in 0..50 {
        let adds = (0..10).map(|_| {
            fixture
                .queue
                .add_once("work", &Work { ms: 0 }, JobOptions::new())
        });
        for added in futures::future::join_all(adds).await {
            ids.push(added?.id);
        }
    }
    fixture.proxy().clear_rules();
    let resets = lost.fired();
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("V9 500 adds, {resets} answers lost: {summary}");
    assert!(resets > 0);
    assert_eq!(summary.completed, 500);
    assert_eq!(summary.repeated, 0);
    Ok(())
}

/// V9: an add without an id of its own is never repeated; its caller gets an error.
#[tokio::test]
async fn plain_add_reports_a_lost_answer() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let mut ids = fixture.add(1, 0).await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("enqueue")).nth(1));
    let added = fixture.queue.add("work", &Work { ms: 0 }).await;
    assert!(matches!(added, Err(Error::Indeterminate(_))), "{added:?}");
    assert_eq!(lost.fired(), 1);
    ids.push(fixture.queue.add("work", &Work { ms: 0 }).await?.id);
    assert_eq!(fixture.queue.counts().await?.waiting, 3);
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let allow = Allow {
        unknown_adds: 1,
        ..Allow::default()
    };
    check_queue(&fixture, &ids, allow).await?;
    Ok(())
}

/// B4: the same jobs are in a lost answer twice, and the peer falls silent each time. A lock that
/// is shorter than the connection's patience does not expire over that: no recovery is counted,
/// so that no job fails for stalling without having run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_costs_short_locks_nothing() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let ids = fixture.add(10, 3).await?;
    let fetch =
        |command: &oxbull_testkit::Command| runs("advance")(command) && command.text(5) != "0";
    let lost = fixture.proxy().add(Rule::swallow_reply(fetch).times(3));
    let worker = fixture.worker().concurrency(5).start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    assert_eq!(lost.fired(), 3);
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("B4 silence with short locks: {summary}");
    assert_eq!((summary.completed, summary.failed), (10, 0));
    assert_eq!((summary.repeated, summary.stalls), (0, 0));
    Ok(())
}
