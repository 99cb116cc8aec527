//! Schedules that have lost their iteration are repaired; those that ended are not.

use super::*;

/// A job that was deleted by hand is made again, at its own time if that is still to come.
#[tokio::test]
async fn deleted_iteration_is_made_again() -> TestResult {
    let setup = Setup::start().await?;
    for (id, schedule, slot, next) in [
        (
            "every",
            every(60_000).offset(Duration::from_secs(30)),
            START + 10_000,
            START + 130_000,
        ),
        ("cron", minutely(), MINUTE, MINUTE + 120_000),
    ] {
        let made = setup.upsert(id, &schedule).await?;
        assert_eq!(made, iteration(id, slot));
        let before = setup.queue().job(&made).await?.ok_or("it is gone")?;
        setup.stays(id, slot).await?;
        setup.delete(&made).await?;
        setup.repairs(id, slot).await?;
        let again = setup.queue().job(&made).await?.ok_or("it is gone")?;
        assert_eq!(
            (&again.raw_data, &again.name),
            (&before.raw_data, &before.name)
        );
        assert_eq!(setup.queue().state(&made).await?, Some(JobState::Delayed));
        // Its time is over: the next one to come.
        setup.delete(&made).await?;
        setup.at(slot + 100_000);
        setup.repairs(id, next).await?;
        setup.at(next);
        setup.run(id, next).await?;
        setup.queue().remove_scheduler(id).await?;
        setup.at(START);
    }
    Ok(())
}

/// One check finds all of them, also where each gets a later slot and so another place.
#[tokio::test]
async fn many_lost_schedules_are_armed_by_one_check() -> TestResult {
    const MANY: i64 = 250;
    let setup = Setup::start().await?;
    for n in 0..MANY {
        setup.at(START + n);
        let id = setup.upsert(&format!("s{n}"), &every(60_000)).await?;
        setup.delete(&id).await?;
    }
    setup.at(START + 200_000);
    assert_eq!(setup.check().await?.len(), usize::try_from(MANY)?);
    Ok(())
}

/// A job whose id has fallen out of every list is put back.
#[tokio::test]
async fn stranded_iteration_is_queued_again() -> TestResult {
    let setup = Setup::start().await?;
    let id = setup.upsert("s", &minutely().limit(5)).await?;
    setup.redis(&["ZREM", "delayed", id.as_str()]).await?;
    setup.at(MINUTE + 500);
    setup.repairs("s", MINUTE).await?;
    setup.run("s", MINUTE).await?;
    let record = setup.queue().scheduler("s").await?.ok_or("it is gone")?;
    assert_eq!(
        (record.next.as_millis(), record.iterations),
        (MINUTE + 60_000, Some(2))
    );
    Ok(())
}

/// BullMQ's own halt: the successor's id was taken by another job.
#[tokio::test]
async fn halted_schedule_goes_on() -> TestResult {
    let setup = Setup::start().await?;
    for (id, schedule) in [("every", every(60_000)), ("cron", minutely().immediately())] {
        setup.upsert(id, &schedule).await?;
        let next = if id == "cron" { MINUTE } else { START + 60_000 };
        let taken = iteration(id, next);
        setup
            .redis(&["HSET", taken.as_str(), "name", "old"])
            .await?;
        setup.run(id, START).await?;
        if id == "every" {
            setup.repairs(id, next + 60_000).await?;
        } else {
            // A pattern waits for its next free slot.
            setup.stays(id, START).await?;
            setup.at(next + 1);
            setup.repairs(id, next + 60_000).await?;
        }
        setup.queue().remove_scheduler(id).await?;
        setup.at(START);
    }
    Ok(())
}

/// Schedules that ended by limit, by their end, or were removed are over.
#[tokio::test]
async fn ended_schedules_stay_ended() -> TestResult {
    let setup = Setup::start().await?;
    let end = Timestamp::from_millis(START + 500);
    for (id, schedule, retention) in [
        ("limit", every(1000).limit(1), None),
        (
            "gone",
            every(1000).limit(1),
            Some(oxbull::Retention::Remove),
        ),
        ("end", minutely().immediately().end(end), None),
    ] {
        let mut options = JobOptions::new();
        if let Some(retention) = retention {
            options = options.remove_on_complete(retention);
        }
        let template = NewJob::new("n", json!({})).options(options);
        setup
            .queue()
            .upsert_scheduler(id, &schedule, template)
            .await?;
        setup.run(id, START).await?;
        setup.stays(id, START).await?;
        setup.at(START + 5000);
        setup.stays(id, START).await?;
        setup.at(START);
    }
    setup.upsert("removed", &every(1000)).await?;
    let job = setup.fetch().await?;
    setup.queue().remove_scheduler("removed").await?;
    setup.complete(&job).await?;
    assert_eq!(setup.check().await?, []);
    assert_eq!(setup.queue().counts().await?.delayed, 0);
    Ok(())
}

/// An iteration that was promoted, has run and was removed is not made again for its slot.
#[tokio::test]
async fn iteration_that_ran_early_does_not_run_again() -> TestResult {
    let setup = Setup::start().await?;
    let options = || JobOptions::new().remove_on_complete(oxbull::Retention::Remove);
    let template = || NewJob::new("n", json!({})).options(options());
    let schedule = minutely().limit(1);
    let made = setup
        .queue()
        .upsert_scheduler("s", &schedule, template())
        .await?;
    let made = made.ok_or("there is no run to come")?.id;
    setup.queue().promote(&made).await?;
    setup.run("s", MINUTE).await?;
    assert!(setup.queue().job(&made).await?.is_none());
    setup.stays("s", MINUTE).await?;
    setup.at(MINUTE + 1);
    setup.stays("s", MINUTE).await?;
    assert_eq!(setup.queue().counts().await?.delayed, 0);
    Ok(())
}

/// What waits, runs, is retried later or belongs to a paused queue is not lost, only late.
#[tokio::test]
async fn late_iterations_are_left_alone() -> TestResult {
    let setup = Setup::start().await?;
    let template = || {
        NewJob::new("n", json!({})).options(
            JobOptions::new()
                .attempts(2)
                .backoff(oxbull::Backoff::fixed(Duration::from_secs(50))),
        )
    };
    setup
        .queue()
        .upsert_scheduler("s", &every(1000), template())
        .await?;
    setup.at(START + 5000);
    setup.stays("s", START).await?;
    // Active, and its successor is not made yet: the job was started by a client that died.
    setup.redis(&["RPOPLPUSH", "wait", "bull:q:active"]).await?;
    setup.stays("s", START).await?;
    setup.redis(&["RPOPLPUSH", "active", "bull:q:wait"]).await?;
    let job = setup.fetch().await?;
    let next = START + 6000;
    setup
        .worker
        .finish::<u32>(&job, TOKEN, Err(oxbull::JobError::retry("no")))
        .await?;
    setup.stays("s", next).await?;
    setup.queue().pause().await?;
    setup.at(START + 9000);
    setup.stays("s", next).await
}

/// One check an interval for the whole fleet, and nothing at all for queues without schedulers.
#[tokio::test]
async fn checks_of_schedulers_keep_their_distance() -> TestResult {
    let setup = Setup::start().await?;
    let check = || setup.worker.check_schedulers(DEADLINE);
    assert_eq!(check().await?, []);
    let throttle = ["EXISTS", "stalled-check:schedulers"];
    assert_eq!(setup.redis(&throttle).await?.int(), Some(0));
    let id = setup.upsert("s", &minutely()).await?;
    assert_eq!(check().await?, []);
    setup.delete(&id).await?;
    assert_eq!(check().await?, []);
    assert_eq!(setup.check().await?.len(), 1);
    Ok(())
}

/// An iteration that does not say how to go on runs; the schedule goes on by its definition.
#[tokio::test]
async fn iteration_without_repeat_options_runs_and_its_schedule_goes_on() -> TestResult {
    let setup = Setup::start().await?;
    let id = setup.upsert("s", &every(60_000)).await?;
    setup
        .redis(&["HSET", id.as_str(), "opts", r#"{"attempts":1}"#])
        .await?;
    setup.run("s", START).await?;
    assert_eq!(setup.queue().counts().await?.delayed, 0);
    setup.repairs("s", START + 60_000).await
}

/// A worker finds by itself that a schedule has lost its iteration, and says so.
#[tokio::test]
async fn worker_arms_a_lost_schedule_again() -> TestResult {
    let fixture = Fixture::start().await?;
    let schedule = Schedule::every(Duration::from_secs(3600)).offset(Duration::from_millis(1));
    let template = NewJob::new("tick", json!({ "do": "tick" }));
    let made = fixture
        .queue
        .upsert_scheduler("s", &schedule, template)
        .await?;
    let id = made.ok_or("no run")?.id;
    fixture
        .server
        .cli(&["DEL", &format!("bull:q:{id}")])
        .await?;
    fixture
        .server
        .cli(&["ZREM", "bull:q:delayed", id.as_str()])
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .stalled_interval(Duration::from_millis(100))
        .start(scripted)
        .await?;
    let mut events = worker.events();
    let search = async {
        while let Some(event) = events.next().await {
            if let WorkerEvent::SchedulerRepaired { scheduler, id, .. } = event {
                return Some((scheduler, id));
            }
        }
        None
    };
    tokio::select! {
        found = search => {
            let (scheduler, made) = found.ok_or("it ended")?;
            assert_eq!((&*scheduler, &made), ("s", &id));
        }
        // The check may have been before the subscription.
        counts = fixture.counts(|counts| counts.delayed == 1) => { counts?; }
    }
    worker.close().await;
    Ok(())
}
