//! B3 to B6: the answer to each script is lost after the script has run. Either the outcome is
//! settled, or the caller learns that it is unknown; and what was done is done once.

use std::time::Duration;

use oxbull::{
    ActiveJobs, DrainScope, Error, JobOptions, JobState, ManualWorker, Queue, QueuePosition,
    RateLimitState, Result, Retention, RetryOptions,
};
use oxbull_testkit::{Command, DEADLINE, Rule, TestResult};

use crate::check::{Allow, check_queue};
use crate::fixture::{Fixture, Work, work};
use crate::scripts::{runs, script_of};

/// Loses the answer to the first execution of a script on this server, which is by its text.
async fn lose<T>(
    fixture: &Fixture,
    script: &'static str,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    let first = move |command: &Command| {
        command.is("EVAL") && script_of(command).as_deref() == Some(script)
    };
    let lost = fixture.proxy().add(Rule::drop_reply(first).nth(1));
    let outcome = call.await;
    assert_eq!(lost.fired(), 1, "{script} was not run");
    lost.remove();
    outcome
}

fn unknown<T: std::fmt::Debug>(outcome: &Result<T>) -> bool {
    matches!(outcome, Err(Error::Indeterminate(_)))
}

/// Scripts that leave the same when asked twice are asked again until they answer.
#[tokio::test]
async fn lost_answers_of_repeatable_changes_are_settled() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let queue: &Queue<Work> = &fixture.queue;
    let options = JobOptions::new().delay(Duration::from_secs(3600));
    let id = fixture.add_with(1, 0, &options).await?.remove(0);

    lose(&fixture, "pause", queue.pause()).await?;
    assert!(queue.is_paused().await?);
    lose(&fixture, "resume", queue.resume()).await?;
    assert!(!queue.is_paused().await?);
    lose(
        &fixture,
        "update_data",
        queue.update_data(&id, &Work { ms: 7 }),
    )
    .await?;
    assert_eq!(
        fixture.field(&id, "data").await?.as_deref(),
        Some(r#"{"ms":7}"#)
    );
    lose(&fixture, "update_progress", queue.update_progress(&id, &42)).await?;
    assert_eq!(fixture.field(&id, "progress").await?.as_deref(), Some("42"));
    let delay = Duration::from_secs(7200);
    lose(&fixture, "change_delay", queue.change_delay(&id, delay)).await?;
    assert_eq!(
        fixture.field(&id, "delay").await?.as_deref(),
        Some("7200000")
    );
    lose(
        &fixture,
        "change_priority",
        queue.change_priority(&id, 3, QueuePosition::Back),
    )
    .await?;
    assert_eq!(fixture.field(&id, "priority").await?.as_deref(), Some("3"));
    lose(&fixture, "trim_events", queue.trim_events(0)).await?;
    lose(
        &fixture,
        "drain",
        queue.drain(DrainScope::ReadyAndDelayed).run(),
    )
    .await?;
    assert_eq!(queue.state(&id).await?, None);
    lose(&fixture, "change_settings", queue.set_global_concurrency(5)).await?;
    assert_eq!(queue.global_concurrency().await?, Some(5));
    let minute = Duration::from_secs(60);
    let limited = lose(&fixture, "limit_rate", queue.limit_rate(minute)).await?;
    assert!(limited <= minute);
    lose(&fixture, "lift_limit", queue.lift_rate_limit()).await?;
    assert_eq!(queue.rate_limit_state().await?, RateLimitState::NoWindow);

    Ok(())
}

/// A step whose answer is lost is taken again. What it may have done is in no count, and a limit holds.
#[tokio::test]
async fn lost_steps_of_operations_are_taken_again() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let queue: &Queue<Work> = &fixture.queue;
    let (now, hour) = (Duration::ZERO, Duration::from_secs(3600));
    fixture.add(250, 0).await?;
    let limited = queue.clean(JobState::Waiting, now).limit(150).run();
    let report = lose(&fixture, "clean", limited).await?;
    assert_eq!(
        (report.jobs, report.at_least, report.complete),
        (90, true, false)
    );
    assert_eq!(queue.counts().await?.waiting, 100);
    let drained = lose(&fixture, "drain", queue.drain(DrainScope::Ready).run()).await?;
    assert_eq!(
        (drained.jobs, drained.at_least, drained.complete),
        (40, true, true)
    );
    assert_eq!(queue.counts().await?.waiting, 0);

    fixture
        .add_with(150, 0, &JobOptions::new().delay(hour))
        .await?;
    let foretold = lose(
        &fixture,
        "promote_jobs",
        queue.promote_jobs().dry_run().run(),
    )
    .await?;
    assert_eq!((foretold.jobs, foretold.at_least), (150, false));
    // The script is known by now.
    let first = |script: &'static str| {
        let known = move |command: &Command| script_of(command).as_deref() == Some(script);
        fixture.proxy().add(Rule::drop_reply(known).nth(1))
    };
    let lost = first("promote_jobs");
    let promoted = queue.promote_jobs().run().await?;
    lost.remove();
    assert_eq!(
        (promoted.jobs, promoted.at_least, lost.fired()),
        (90, true, 1)
    );
    assert_eq!(queue.counts().await?.waiting, 150);

    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let again = queue.rerun_jobs(None, RetryOptions::new()).run();
    let again = lose(&fixture, "retry_jobs", again).await?;
    assert_eq!(
        (again.jobs, again.at_least, again.complete),
        (90, true, true)
    );
    assert_eq!(queue.counts().await?.waiting, 150);

    let id = fixture.add(1, 0).await?.remove(0);
    queue.log(&id, "row", 0).await?;
    lose(&fixture, "clear_logs", queue.clear_logs(&id, 0)).await?;
    assert_eq!(queue.logs(&id, 0, -1).await?.total, 0);

    fixture
        .server
        .cli(&["DEL", &format!("bull:{}:wait", fixture.name)])
        .await?;
    let orphans = lose(
        &fixture,
        "remove_orphans",
        queue.remove_orphaned_jobs().run(),
    )
    .await?;
    assert!(orphans.at_least && orphans.complete, "{orphans:?}");
    assert!(queue.job(&id).await?.is_none());
    assert_eq!(queue.remove_orphaned_jobs().dry_run().run().await?.jobs, 0);

    fixture.add(150, 0).await?;
    lose(
        &fixture,
        "obliterate",
        queue.obliterate(ActiveJobs::Refuse).run(),
    )
    .await?;
    fixture.add(1, 0).await?;
    // The settings are gone, so that the last step is refused when it is taken again.
    let last = |command: &Command| {
        script_of(command).as_deref() == Some("obliterate") && command.has("end")
    };
    let lost = fixture.proxy().add(Rule::drop_reply(last).nth(1));
    let report = queue.obliterate(ActiveJobs::Refuse).run().await?;
    assert_eq!((report.jobs, report.complete, lost.fired()), (1, true, 1));
    assert_eq!(fixture.server.int(&["DBSIZE"]).await?, 0);
    Ok(())
}

/// Scripts that would do their work twice are not repeated; the caller gets an error.
#[tokio::test]
async fn lost_answers_of_other_changes_are_reported() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let queue = &fixture.queue;
    let ids = fixture.add(2, 0).await?;
    let logged = lose(&fixture, "add_log", queue.log(&ids[0], "row", 0)).await;
    assert!(unknown(&logged), "{logged:?}");
    assert_eq!(queue.logs(&ids[0], 0, -1).await?.rows, ["row"]);
    let published = lose(&fixture, "publish_event", queue.publish_event("own", &())).await;
    assert!(unknown(&published), "{published:?}");
    let removed = lose(&fixture, "remove_job", queue.remove(&ids[1])).await;
    assert!(unknown(&removed), "{removed:?}");
    assert_eq!(queue.state(&ids[1]).await?, None);

    let hour = JobOptions::new().delay(Duration::from_secs(3600));
    let later = fixture.add_with(1, 0, &hour).await?.remove(0);
    let promoted = lose(&fixture, "promote_job", queue.promote(&later)).await;
    assert!(unknown(&promoted), "{promoted:?}");
    assert_eq!(queue.state(&later).await?, Some(JobState::Waiting));

    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let rerun = lose(
        &fixture,
        "retry_job",
        queue.rerun(&later, RetryOptions::new()),
    )
    .await;
    assert!(unknown(&rerun), "{rerun:?}");
    assert_eq!(queue.state(&later).await?, Some(JobState::Waiting));
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &[ids[0].clone(), later], Allow::default()).await?;
    assert_eq!((summary.completed, summary.repeated), (2, 1));
    Ok(())
}

/// Renewals, stalled checks and wake-ups whose answers are lost every other time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_the_lock_renewer_cost_no_lock() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let mut ids = fixture.add(1, 0).await?;
    // A worker that takes a job and vanishes.
    let vanished = ManualWorker::new(&fixture.client, &fixture.name)?
        .lock_duration(Duration::from_millis(300));
    assert!(vanished.fetch("vanished").await?.is_some());
    ids.extend(fixture.add(10, 3000).await?);
    let mut rules = Vec::new();
    for script in ["extend_locks", "recover_stalled", "wake"] {
        rules.push((
            script,
            fixture.proxy().add(Rule::drop_reply(runs(script)).every(2)),
        ));
    }
    let worker = fixture.worker().start(work).await?;
    fixture.drained().await?;
    worker.close().await;
    for (script, rule) in &rules[..2] {
        assert!(rule.fired() > 0, "{script}");
    }
    fixture.proxy().clear_rules();
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("B6 lock renewer's answers lost: {summary}");
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (11, 0, 1)
    );
    Ok(())
}

/// The answer to `advance` is lost, and then those to the search for what it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_the_search_start_nothing_twice() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let ids = fixture.add(60, 5).await?;
    let advance = fixture
        .proxy()
        .add(Rule::drop_reply(runs("advance")).every(4).times(6));
    let reclaim = fixture
        .proxy()
        .add(Rule::drop_reply(runs("reclaim")).every(2).times(6));
    let worker = fixture.worker().concurrency(5).start(work).await?;
    reclaim.wait_fired(1, DEADLINE).await?;
    fixture.drained().await?;
    fixture.proxy().clear_rules();
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!(
        "B4 lost: advance {}, reclaim {}: {summary}",
        advance.fired(),
        reclaim.fired()
    );
    assert_eq!(
        (summary.completed, summary.repeated, summary.stalls),
        (60, 0, 0)
    );
    Ok(())
}

/// Every way an attempt can end: the answer is lost at each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_every_ending_count_once() -> TestResult {
    use oxbull::{Backoff, Context, Job, JobError, JobResult, Outcome};

    use crate::fixture::Effects;

    /// Ends each start in another way.
    async fn ends(job: Job<Work>, context: Context<Effects>) -> JobResult<u32> {
        context.state().begin(&job);
        let start = job.attempts_started();
        let outcome = match start {
            1 => Ok(Outcome::DelayFor(Duration::from_millis(20))),
            2 => Ok(Outcome::Release),
            3 => Err(JobError::retry("back off")),
            4 => Ok(Outcome::WaitForChildren),
            _ if job.data().ms == 1 => Err(JobError::fatal("final")),
            _ => Ok(Outcome::Done(start)),
        };
        context.state().end(&job);
        outcome
    }

    let fixture = Fixture::proxied().await?;
    let options = JobOptions::new()
        .attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(20)));
    let mut ids = fixture.add_with(20, 0, &options).await?;
    ids.extend(fixture.add_with(20, 1, &options).await?);
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("advance")).chance(7, 0.3));
    let worker = fixture.worker().concurrency(3).start(ends).await?;
    fixture.drained().await?;
    let lost = lost.fired();
    fixture.proxy().clear_rules();
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    println!("B5 every ending, {lost} answers lost: {summary}");
    assert_eq!((summary.completed, summary.failed), (20, 20));
    // Five starts each, no more and no fewer; two attempts used.
    assert_eq!((summary.repeated, summary.stalls), (40 * 4, 0));
    for id in &ids {
        assert_eq!(
            fixture.field(id, "atm").await?.as_deref(),
            Some("2"),
            "{id}"
        );
        assert_eq!(
            fixture.field(id, "ats").await?.as_deref(),
            Some("5"),
            "{id}"
        );
    }
    Ok(())
}

/// A retention that was interrupted goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_of_retention_leave_it_going() -> TestResult {
    let fixture = Fixture::proxied().await?;
    fixture.add(1500, 0).await?;
    let worker = fixture.worker().concurrency(100).start(work).await?;
    fixture.drained().await?;
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("trim_finished")).every(2));
    let options = JobOptions::new().remove_on_complete(Retention::KeepLast(10));
    fixture.add_with(1, 0, &options).await?;
    oxbull_testkit::eventually(DEADLINE, async || {
        let kept = fixture
            .queue
            .counts()
            .await
            .map_err(|error| error.to_string())?
            .completed;
        (kept == 10).then_some(()).ok_or(format!("{kept} kept"))
    })
    .await?;
    assert!(lost.fired() > 0);
    worker.close().await;
    Ok(())
}
