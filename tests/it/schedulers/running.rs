//! How iterations run: late, beside one another, failing, and of old versions.

use super::*;

/// Catch-up `All`: runs that were missed are made up for in order, then the schedule is on time.
#[tokio::test]
async fn missed_runs_are_made_up_for() -> TestResult {
    let setup = Setup::start().await?;
    let schedule = every(60_000).catch_up(CatchUp::All);
    setup.upsert("s", &schedule).await?;
    setup.at(START + 200_000);
    for n in 0..4 {
        setup.run("s", START + 60_000 * n).await?;
    }
    setup.stays("s", START + 240_000).await?;
    setup.queue().remove_scheduler("s").await?;

    setup.at(START);
    let end = Timestamp::from_millis(MINUTE + 150_000);
    let schedule = minutely().catch_up(CatchUp::All).end(end);
    setup.upsert("p", &schedule).await?;
    setup.at(MINUTE + 1_000_000);
    for n in 0..3 {
        setup.run("p", MINUTE + 60_000 * n).await?;
    }
    // What would have been missed after the end is not made up for.
    setup.stays("p", MINUTE + 120_000).await?;
    setup.at(START);
    let schedule = every(1000)
        .catch_up(CatchUp::All)
        .end(Timestamp::from_millis(START + 1500));
    setup.upsert("e", &schedule).await?;
    setup.at(START + 900_000);
    setup.run("e", START).await?;
    setup.run("e", START + 1000).await?;
    setup.stays("e", START + 1000).await
}

/// Overlap `Skip`: an iteration that finds an earlier one running ends without a handler, says so,
/// and the schedule goes on.
#[tokio::test]
async fn overlapping_iteration_is_passed_over() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .upsert("s", &every(1000).overlap(Overlap::Skip))
        .await?;
    setup.upsert("other", &every(600_000)).await?;
    let running = setup
        .worker
        .fetch("first")
        .await?
        .ok_or("nothing is ready")?;
    assert_eq!(running.id, iteration("s", START));
    setup.run("other", START).await?;
    setup.at(START + 1000);
    assert_eq!(setup.worker.fetch(TOKEN).await?, None);
    let skipped = setup.queue().job(&iteration("s", START + 1000)).await?;
    let skipped = skipped.ok_or("it is gone")?;
    let said = json!({ "skipped": format!("{} still runs", running.id) });
    assert_eq!(skipped.return_value()?, Some(said));
    setup
        .worker
        .finish(&running, "first", Ok(Outcome::Done(1)))
        .await?;
    setup.at(START + 2000);
    setup.run("s", START + 2000).await
}

/// Puts a repeatable job of BullMQ 5 into the queue, as version 5 leaves it.
async fn legacy(setup: &Setup, key: &str) -> TestResult<JobId> {
    let id = iteration(key, START);
    let opts = json!({ "repeat": { "every": 60_000, "count": 1 }, "attempts": 0 }).to_string();
    setup
        .redis(&["ZADD", "repeat", &START.to_string(), key])
        .await?;
    setup
        .redis(&[
            "HSET",
            id.as_str(),
            "name",
            "rep",
            "data",
            r#"{"x":1}"#,
            "opts",
            &opts,
            "rjk",
            key,
        ])
        .await?;
    setup.redis(&["LPUSH", "wait", id.as_str()]).await?;
    Ok(id)
}

/// A repeatable of version 5 goes on with its data, which only its jobs have.
#[tokio::test]
async fn repeatable_of_version_5_keeps_its_data() -> TestResult {
    let setup = Setup::start().await?;
    let key = "2de99c4afb4e0b2f2c7e33f49c3bc5ee";
    legacy(&setup, key).await?;
    setup
        .redis(&[
            "HSET",
            &format!("repeat:{key}"),
            "name",
            "rep",
            "every",
            "60000",
        ])
        .await?;
    for n in 0..3 {
        setup.at(START + 60_000 * n);
        let job = setup.fetch().await?;
        assert_eq!(job.data::<Value>()?, json!({ "x": 1 }));
        setup.complete(&job).await?;
    }
    let record = setup.queue().scheduler(key).await?.ok_or("it is gone")?;
    assert_eq!((record.iterations, record.problems.len()), (Some(3), 0));
    Ok(())
}

/// A schedule does not depend on how its iterations end.
#[tokio::test]
async fn failing_iterations_do_not_end_their_schedule() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .timeout(Duration::from_millis(20))
        .start(scripted)
        .await?;
    for what in ["fail", "panic", "give up", "hang"] {
        let template = NewJob::new(what, json!({ "do": what }));
        let schedule = Schedule::every(Duration::from_millis(50)).limit(3);
        fixture
            .queue
            .upsert_scheduler(what, &schedule, template)
            .await?;
    }
    let counts = fixture.ended(12).await?;
    assert_eq!((counts.failed, counts.delayed), (12, 0));
    worker.close().await;
    Ok(())
}

/// A worker passes an overlapping iteration over and says which one was in its way.
#[tokio::test]
async fn worker_reports_skipped_iterations() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .start(scripted)
        .await?;
    let mut events = worker.events();
    let schedule = Schedule::every(Duration::from_millis(40))
        .overlap(Overlap::Skip)
        .limit(3);
    let template = NewJob::new("hang", json!({ "do": "hang" }));
    fixture
        .queue
        .upsert_scheduler("s", &schedule, template)
        .await?;
    let mut skipped = Vec::new();
    while skipped.len() < 2 {
        let event = tokio::time::timeout(DEADLINE, events.next()).await?;
        if let WorkerEvent::Skipped { id, running, .. } = event.ok_or("it ended")? {
            skipped.push((id, running));
        }
    }
    assert_eq!(skipped[0].1, skipped[1].1);
    let counts = fixture.counts(|counts| counts.completed == 2).await?;
    assert_eq!((counts.active, counts.failed), (1, 0));
    worker.close_now().await;
    Ok(())
}

/// A job that starts with the end of another is an activation like any other.
#[tokio::test]
async fn iteration_started_with_an_end_is_carried_on_too() -> TestResult {
    let setup = Setup::start().await?;
    for id in ["a", "b"] {
        setup.upsert(id, &every(60_000)).await?;
    }
    let first = setup.fetch().await?;
    let done = Ok(Outcome::Done(1));
    let second = setup.worker.finish_and_fetch(&first, TOKEN, done).await?;
    let second = second.ok_or("nothing is ready")?;
    assert_eq!(
        (first.id, &second.id),
        (iteration("a", START), &iteration("b", START))
    );
    let counts = setup.queue().counts().await?;
    assert_eq!((counts.delayed, counts.active), (2, 1));
    setup.complete(&second).await
}

/// What a preview promises is what happens, whatever bounds the schedule.
#[tokio::test]
async fn runs_come_when_the_preview_says() -> TestResult {
    const RUNS: usize = 6;
    let setup = Setup::start().await?;
    let time = |millis| Timestamp::from_millis(START + millis);
    let offset = |millis| Duration::from_millis(millis);
    let nightly = || Schedule::cron("30 2 * * *").time_zone("America/New_York");
    let schedules = [
        every(7_000),
        every(7_000).offset(offset(2_500)),
        every(7_000).offset(offset(16_000)),
        every(7_000).start(time(12_345)).limit(4),
        every(7_000).start(time(-5)).end(time(20_000)),
        every(7_000)
            .start(time(100))
            .offset(offset(3))
            .end(time(21_100)),
        every(7_000).end(time(14_000)),
        every(7_000).end(time(14_000)).catch_up(CatchUp::All),
        every(7_000)
            .offset(offset(1))
            .catch_up(CatchUp::All)
            .limit(3),
        every(7_000).immediately(),
        every(3_600_000).offset(offset(1_800_000)).end(time(60_000)),
        minutely().start(time(40_000)).limit(3),
        minutely().immediately().end(time(100_000)),
        minutely().end(time(100_000)).catch_up(CatchUp::All),
        nightly().immediately(),
        nightly().limit(1),
    ];
    for (n, schedule) in schedules.iter().enumerate() {
        let id = format!("s{n}");
        setup.at(START);
        let preview = schedule.preview(time(0), RUNS)?;
        setup.upsert(&id, schedule).await?;
        let mut runs = Vec::new();
        while runs.len() < RUNS {
            let next = setup
                .queue()
                .scheduler(&id)
                .await?
                .ok_or("it is gone")?
                .next;
            if runs.last() == Some(&next) {
                break;
            }
            runs.push(next);
            setup.at(next.as_millis());
            setup.run(&id, next.as_millis()).await?;
        }
        assert_eq!(runs, preview, "{schedule:?}");
        setup.queue().remove_scheduler(&id).await?;
    }
    Ok(())
}
