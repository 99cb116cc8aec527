//! Keys and fields that were spoiled: a call refuses them before it writes, or does without.

use std::time::Duration;

use oxbull::{
    Context, DrainScope, Job, JobError, JobId, JobOptions, JobResult, ManualWorker, NewJob,
    Outcome, QueuePosition, RetryOptions, Schedule, Worker,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

async fn complete(_: Job<Value>, _: Context<()>) -> JobResult<()> {
    Ok(Outcome::Done(()))
}

/// A length of the event stream that the server would refuse must not fail an add whose job is stored.
#[tokio::test]
async fn event_cap_that_is_no_length_counts_as_none() -> TestResult {
    let fixture = Fixture::start().await?;
    let field = ["bull:q:meta", "opts.maxLenEvents"];
    for spoiled in ["many", "-1", "1.5", "99999999999999999999", ""] {
        fixture
            .server
            .cli(&["HSET", field[0], field[1], spoiled])
            .await?;
        fixture.add("any", JobOptions::new()).await?;
        let stored = fixture.server.text(&["HGET", field[0], field[1]]).await?;
        assert_eq!(stored.as_deref(), Some("10000"), "{spoiled}");
    }
    assert_eq!(fixture.queue.counts().await?.waiting, 5);
    Ok(())
}

/// Numbers of the metrics that are none cost their minutes; the results are stored as always.
#[tokio::test]
async fn metrics_that_are_no_numbers_do_not_fail_results() -> TestResult {
    let fixture = Fixture::start().await?;
    let count = ["HSET", "bull:q:metrics:completed", "count", "few"];
    fixture.server.cli(&count).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .metrics(5)
        .start(complete)
        .await?;
    let id = fixture.add("any", JobOptions::new()).await?;
    assert_eq!(fixture.ended(1).await?.completed, 1);
    worker.close().await;
    assert_eq!(fixture.job(&id).await?.attempts_made, 1);
    Ok(())
}

/// A counter of jobs that is not a number refuses a schedule as a whole.
#[tokio::test]
async fn schedule_without_a_counter_is_not_stored_by_halves() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.server.cli(&["SET", "bull:q:id", "none"]).await?;
    let schedule = Schedule::every(Duration::from_secs(60));
    let template = || NewJob::new("tick", json!({}));
    let refused = fixture.queue.upsert_scheduler("s", &schedule, template());
    assert!(refused.await.is_err());
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:repeat"]).await?, 0);
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:repeat:s"]).await?, 0);
    fixture.server.cli(&["DEL", "bull:q:id"]).await?;
    let made = fixture.queue.upsert_scheduler("s", &schedule, template());
    assert!(made.await?.is_some());
    Ok(())
}

/// A count of iterations that is not a number leaves the current iteration the scheduler's last one.
#[tokio::test]
async fn schedule_whose_count_is_no_number_stays_where_it_is() -> TestResult {
    let fixture = Fixture::start().await?;
    let schedule = Schedule::every(Duration::from_secs(60));
    let template = NewJob::new("tick", json!({}));
    let first = fixture.queue.upsert_scheduler("s", &schedule, template);
    let first = first.await?.ok_or("there is no run to come")?.id;
    let place = ["ZSCORE", "bull:q:repeat", "s"];
    let before = fixture.server.text(&place).await?;
    let count = ["HSET", "bull:q:repeat:s", "ic", "none"];
    fixture.server.cli(&count).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(complete)
        .await?;
    fixture.ended(1).await?;
    worker.close().await;
    assert_eq!(fixture.server.text(&place).await?, before);
    assert!(first.as_str().starts_with("repeat:s:"));
    Ok(())
}

/// A parent whose queue is unusable keeps none of the drained jobs.
#[tokio::test]
async fn drained_jobs_go_whatever_their_parent_is() -> TestResult {
    let fixture = Fixture::start().await?;
    for id in ["a", "b"] {
        fixture
            .add("any", JobOptions::new().id(JobId::new(id)?))
            .await?;
    }
    for command in [
        ["HSET", "bull:q:a", "parentKey", "bull:p:1"].as_slice(),
        &["SADD", "bull:p:1:dependencies", "bull:q:a"],
        &["SET", "bull:p:waiting-children", "no set"],
    ] {
        fixture.server.cli(command).await?;
    }
    assert_eq!(fixture.queue.drain(DrainScope::Ready).run().await?.jobs, 2);
    for key in ["bull:q:a", "bull:q:b", "bull:q:wait"] {
        assert_eq!(fixture.server.int(&["EXISTS", key]).await?, 0, "{key}");
    }
    Ok(())
}

/// A key of the wrong type refuses a call before the job has left its place.
#[tokio::test]
async fn calls_with_unusable_keys_leave_their_job_in_place() -> TestResult {
    let fixture = Fixture::start().await?;
    let (queue, server) = (&fixture.queue, &fixture.server);
    let id = |id: &str| JobId::new(id);
    let fails = async |_: Job<Value>, _: Context<()>| -> JobResult<()> {
        Err(JobError::fatal("it failed"))
    };
    let worker = Worker::builder(&fixture.client, "q").start(fails).await?;
    let failed = JobOptions::new().id(id("f")?).priority(2);
    fixture.add("any", failed).await?;
    fixture.ended(1).await?;
    worker.close().await;
    let delayed = JobOptions::new().delay(Duration::from_secs(60));
    fixture.add("any", delayed.id(id("d")?).priority(2)).await?;
    fixture.add("any", JobOptions::new().id(id("w")?)).await?;

    fixture.add("any", JobOptions::new().priority(1)).await?;

    let places = async || -> TestResult<Vec<Option<String>>> {
        Ok(vec![
            server.text(&["ZSCORE", "bull:q:failed", "f"]).await?,
            server.text(&["ZSCORE", "bull:q:delayed", "d"]).await?,
            server.text(&["LINDEX", "bull:q:wait", "0"]).await?,
            server.text(&["HGET", "bull:q:f", "atm"]).await?,
            server.text(&["HGET", "bull:q:w", "priority"]).await?,
            server.text(&["HGET", "bull:q:w", "progress"]).await?,
        ])
    };
    let before = places().await?;
    for key in ["prioritized", "meta"] {
        let key = format!("bull:q:{key}");
        server.cli(&["RENAME", &key, "kept"]).await?;
        server.cli(&["SET", &key, "text"]).await?;
        assert!(
            queue.retry(id("f")?, RetryOptions::new()).await.is_err(),
            "{key}"
        );
        assert!(queue.promote(id("d")?).await.is_err(), "{key}");
        let minute = Duration::from_secs(60);
        assert!(queue.change_delay(id("d")?, minute).await.is_err(), "{key}");
        let front = queue.change_priority(id("w")?, 3, QueuePosition::Back);
        assert!(front.await.is_err(), "{key}");
        assert!(queue.remove(id("w")?).await.is_err(), "{key}");
        if key == "bull:q:meta" {
            let progress = queue.update_progress(id("w")?, &5).await;
            assert!(progress.is_err(), "{key}");
        }
        assert_eq!(places().await?, before, "{key}");
        server.cli(&["DEL", &key]).await?;
        server.cli(&["RENAME", "kept", &key]).await?;
    }
    queue.retry(id("f")?, RetryOptions::new()).await?;
    queue.promote(id("d")?).await?;
    assert!(queue.remove(id("w")?).await?);
    assert_eq!(queue.counts().await?.prioritized, 3);
    Ok(())
}

/// A key of the wrong type refuses a start or an end before anything is stored; the marker, which no job is in, is done
/// without.
#[tokio::test]
async fn jobs_start_and_end_whole_or_not_at_all() -> TestResult {
    let fixture = Fixture::start().await?;
    let server = &fixture.server;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let spoil = async |key: &str| -> TestResult {
        let key = format!("bull:q:{key}");
        server.cli(&["RENAME", &key, "kept"]).await.ok();
        server.cli(&["SET", &key, "text"]).await?;
        Ok(())
    };
    let mend = async |key: &str| -> TestResult {
        let key = format!("bull:q:{key}");
        server.cli(&["DEL", &key]).await?;
        server.cli(&["RENAME", "kept", &key]).await.ok();
        Ok(())
    };
    let id = fixture.add("any", JobOptions::new()).await?;
    for key in ["meta", "events", "wait", "active", "delayed"] {
        spoil(key).await?;
        assert!(worker.fetch("t").await.is_err(), "{key}");
        mend(key).await?;
        assert_eq!(fixture.queue.counts().await?.waiting, 1, "{key}");
        assert_eq!(fixture.job(&id).await?.attempts_started, 0, "{key}");
    }
    spoil("marker").await?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    mend("marker").await?;
    for key in ["meta", "events", "active", "completed", "stalled"] {
        spoil(key).await?;
        let done = worker.finish(&job, "t", Ok(Outcome::Done(1))).await;
        assert!(done.is_err(), "{key}");
        mend(key).await?;
        assert_eq!(fixture.queue.counts().await?.active, 1, "{key}");
        assert_eq!(fixture.job(&id).await?.attempts_made, 0, "{key}");
    }
    worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
    assert_eq!(fixture.queue.counts().await?.completed, 1);
    Ok(())
}
