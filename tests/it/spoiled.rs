//! Keys and fields that somebody has spoiled: a call refuses them before it writes, or does without.

use std::time::Duration;

use oxbull::{
    Context, DrainScope, Job, JobId, JobOptions, JobResult, NewJob, Outcome, Schedule, Worker,
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
    let stage = Fixture::start().await?;
    let field = ["bull:q:meta", "opts.maxLenEvents"];
    for spoiled in ["many", "-1", "1.5", "99999999999999999999", ""] {
        stage
            .server
            .cli(&["HSET", field[0], field[1], spoiled])
            .await?;
        stage.add("any", JobOptions::new()).await?;
        let stored = stage.server.text(&["HGET", field[0], field[1]]).await?;
        assert_eq!(stored.as_deref(), Some("10000"), "{spoiled}");
    }
    assert_eq!(stage.queue.counts().await?.waiting, 5);
    Ok(())
}

/// Numbers of the metrics that are none cost their minutes; the results are stored as always.
#[tokio::test]
async fn metrics_that_are_no_numbers_do_not_fail_results() -> TestResult {
    let stage = Fixture::start().await?;
    let count = ["HSET", "bull:q:metrics:completed", "count", "few"];
    stage.server.cli(&count).await?;
    let worker = Worker::builder(&stage.client, "q")
        .metrics(5)
        .start(complete)
        .await?;
    let id = stage.add("any", JobOptions::new()).await?;
    assert_eq!(stage.ended(1).await?.completed, 1);
    worker.close().await;
    assert_eq!(stage.job(&id).await?.attempts_made, 1);
    Ok(())
}

/// A counter of jobs that is no number refuses a schedule as a whole.
#[tokio::test]
async fn schedule_without_a_counter_is_not_stored_by_halves() -> TestResult {
    let stage = Fixture::start().await?;
    stage.server.cli(&["SET", "bull:q:id", "none"]).await?;
    let schedule = Schedule::every(Duration::from_secs(60));
    let template = || NewJob::new("tick", json!({}));
    let refused = stage.queue.upsert_scheduler("s", &schedule, template());
    assert!(refused.await.is_err());
    assert_eq!(stage.server.int(&["EXISTS", "bull:q:repeat"]).await?, 0);
    assert_eq!(stage.server.int(&["EXISTS", "bull:q:repeat:s"]).await?, 0);
    stage.server.cli(&["DEL", "bull:q:id"]).await?;
    let made = stage.queue.upsert_scheduler("s", &schedule, template());
    assert!(made.await?.is_some());
    Ok(())
}

/// A count of iterations that is no number leaves the current iteration the scheduler's last one.
#[tokio::test]
async fn schedule_whose_count_is_no_number_stays_where_it_is() -> TestResult {
    let stage = Fixture::start().await?;
    let schedule = Schedule::every(Duration::from_secs(60));
    let template = NewJob::new("tick", json!({}));
    let first = stage.queue.upsert_scheduler("s", &schedule, template);
    let first = first.await?.ok_or("there is no run to come")?.id;
    let place = ["ZSCORE", "bull:q:repeat", "s"];
    let before = stage.server.text(&place).await?;
    let count = ["HSET", "bull:q:repeat:s", "ic", "none"];
    stage.server.cli(&count).await?;
    let worker = Worker::builder(&stage.client, "q").start(complete).await?;
    stage.ended(1).await?;
    worker.close().await;
    assert_eq!(stage.server.text(&place).await?, before);
    assert!(first.as_str().starts_with("repeat:s:"));
    Ok(())
}

/// A parent whose queue is unusable keeps none of the drained jobs.
#[tokio::test]
async fn drained_jobs_go_whatever_their_parent_is() -> TestResult {
    let stage = Fixture::start().await?;
    for id in ["a", "b"] {
        stage
            .add("any", JobOptions::new().id(JobId::new(id)?))
            .await?;
    }
    for command in [
        ["HSET", "bull:q:a", "parentKey", "bull:p:1"].as_slice(),
        &["SADD", "bull:p:1:dependencies", "bull:q:a"],
        &["SET", "bull:p:waiting-children", "no set"],
    ] {
        stage.server.cli(command).await?;
    }
    assert_eq!(stage.queue.drain(DrainScope::Ready).await?, 2);
    for key in ["bull:q:a", "bull:q:b", "bull:q:wait"] {
        assert_eq!(stage.server.int(&["EXISTS", key]).await?, 0, "{key}");
    }
    Ok(())
}
