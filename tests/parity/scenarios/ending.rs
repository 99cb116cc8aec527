//! Ending attempts well, and stepping back: spec processing §8, §10 and §21.

use serde_json::json;

use crate::TestResult;
use crate::driver::{End, Step, refused};
use crate::player::Player;
use crate::stage::play;

play!(everyone:
    values_are_stored_as_json,
    last_completion_says_drained,
    delayed_job_does_not_keep_a_queue_from_being_drained,
    delayed_job_keeps_a_queue_that_is_asked_for_more_from_being_drained,
    paused_queue_is_not_drained_when_asked_for_more,
    limited_queue_is_not_drained_when_asked_for_more,
    failing_the_last_job_says_drained,
    finish_is_refused_to_those_without_the_lock,
    finish_of_a_missing_job_is_refused,
    parked_job_runs_later_without_using_an_attempt,
    parking_into_the_past_is_due_at_once,
    parked_jobs_of_one_millisecond_keep_their_order,
    released_job_is_the_next_to_run,
    released_job_of_a_paused_queue_wakes_nobody,
    rate_limited_job_goes_back_and_holds_the_queue,
    step_back_is_refused_to_those_without_the_lock,
    lock_and_stalled_mark_go_with_the_job,
    metrics_count_jobs_per_minute,
    metrics_survive_a_clock_that_goes_back,
    metrics_count_removed_and_failed_jobs,
    job_runs_again_after_completion,
    event_stream_is_trimmed,
);

async fn values_are_stored_as_json(q: &mut Player) -> TestResult {
    for value in [
        json!(null),
        json!(0),
        json!(""),
        json!(false),
        json!({ "a": [1, null, "é/"] }),
        json!([]),
        json!("text"),
    ] {
        q.add("a", json!({})).await?;
        let job = q.fetch("t").await?;
        q.end(job["id"].as_str().unwrap(), "t", End::Complete(value))
            .await?;
    }
    Ok(())
}

async fn last_completion_says_drained(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("t1", "a").await?;
    q.fetch_job("t2", "b").await?;
    q.complete("a", "t1").await?;
    q.complete("b", "t2").await?;
    q.work_off("c").await
}

async fn delayed_job_does_not_keep_a_queue_from_being_drained(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.add("far", json!({ "delay": 60_000 })).await?;
    q.work_off("1").await
}

async fn delayed_job_keeps_a_queue_that_is_asked_for_more_from_being_drained(
    q: &mut Player,
) -> TestResult {
    q.add("a", json!({})).await?;
    q.add("far", json!({ "delay": 60_000 })).await?;
    q.fetch_job("t", "1").await?;
    let next = q.end_and_fetch("1", "t", End::Complete(json!(1))).await?;
    assert!(next.is_null());
    Ok(())
}

async fn paused_queue_is_not_drained_when_asked_for_more(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.act(Step::Pause).await?;
    q.end_and_fetch("1", "t", End::Complete(json!(1)))
        .await
        .map(drop)
}

async fn limited_queue_is_not_drained_when_asked_for_more(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 1, "duration": 60_000 } }),
    );
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.end_and_fetch("1", "t", End::Complete(json!(1)))
        .await
        .map(drop)
}

async fn failing_the_last_job_says_drained(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.fail("1", "t").await.map(drop)
}

async fn finish_is_refused_to_those_without_the_lock(q: &mut Player) -> TestResult {
    q.add("a", json!({ "attempts": 3, "backoff": 100 })).await?;
    q.fetch_job("t", "1").await?;
    assert_eq!(q.complete("1", "other").await?, refused(-6));
    assert_eq!(q.fail("1", "other").await?, refused(-6));
    q.redis(&["DEL", "1:lock"]).await?;
    assert_eq!(q.complete("1", "t").await?, refused(-2));
    assert_eq!(q.fail("1", "t").await?, refused(-2));
    q.expect("active", json!(["1"])).await
}

async fn finish_of_a_missing_job_is_refused(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.redis(&["RENAME", "1", "$P:q:x"]).await?;
    let answer = q.complete("1", "t").await;
    // A side that did not start the job cannot even find it.
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer == refused(-1)));
    q.redis(&["RENAME", "x", "$P:q:1"]).await
}

async fn parked_job_runs_later_without_using_an_attempt(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.end("1", "t", End::DelayUntil(q.now() + 700)).await?;
    q.expect_field("1", "delay", json!("700")).await?;
    q.pass(700).await?;
    let job = q.fetch("t2").await?;
    assert_eq!((&job["made"], &job["started"]), (&json!(0), &json!(2)));
    q.complete("1", "t2").await.map(drop)
}

async fn parking_into_the_past_is_due_at_once(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.end("1", "t", End::DelayUntil(q.now() - 5000)).await?;
    q.expect_field("1", "delay", json!("0")).await?;
    q.fetch_job("t2", "1").await
}

async fn parked_jobs_of_one_millisecond_keep_their_order(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    for id in ["a", "b", "c"] {
        q.fetch_job(id, id).await?;
    }
    let at = q.now() + 100;
    for id in ["c", "a", "b"] {
        q.end(id, id, End::DelayUntil(at)).await?;
    }
    q.pass(100).await?;
    for id in ["c", "a", "b"] {
        q.fetch_job(id, id).await?;
    }
    Ok(())
}

async fn released_job_is_the_next_to_run(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::Release).await?;
    q.expect("wait", json!(["b", "a"])).await?;
    let job = q.fetch("t").await?;
    assert_eq!(job["id"], "a");
    assert_eq!((&job["made"], &job["started"]), (&json!(0), &json!(2)));
    q.complete("a", "t").await.map(drop)
}

async fn released_job_of_a_paused_queue_wakes_nobody(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.act(Step::Pause).await?;
    q.end("1", "t", End::Release).await?;
    q.expect("wait", json!(["1"])).await?;
    q.expect("marker", json!(null)).await
}

async fn rate_limited_job_goes_back_and_holds_the_queue(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 10, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::RateLimited(60_000)).await?;
    q.expect("limiter", json!("9007199254740991")).await?;
    assert!(q.fetch("t").await?.is_null());
    q.redis(&["DEL", "limiter"]).await?;
    q.pass(61_000).await?;
    q.fetch_job("t", "a").await
}

async fn step_back_is_refused_to_those_without_the_lock(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    let later = End::DelayUntil(q.now() + 500);
    assert_eq!(q.end("1", "other", later.clone()).await?, refused(-6));
    assert_eq!(q.end("1", "other", End::Release).await?, refused(-6));
    q.redis(&["DEL", "1:lock"]).await?;
    assert_eq!(q.end("1", "t", later).await?, refused(-2));
    assert_eq!(q.end("1", "t", End::Release).await?, refused(-2));
    q.expect("active", json!(["1"])).await
}

async fn lock_and_stalled_mark_go_with_the_job(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b", "c", "d"]).await?;
    for id in ["a", "b", "c", "d"] {
        q.fetch_job(id, id).await?;
        q.redis(&["SADD", "stalled", id]).await?;
    }
    q.complete("a", "a").await?;
    q.fail("b", "b").await?;
    q.end("c", "c", End::Release).await?;
    q.end("d", "d", End::DelayUntil(q.now() + 5)).await?;
    q.expect("stalled", json!(null)).await
}

/// Works off one job more.
async fn one_more(q: &mut Player) -> TestResult {
    q.add("a", json!({})).await?;
    let job = q.fetch("t").await?;
    q.complete(job["id"].as_str().unwrap(), "t").await.map(drop)
}

async fn metrics_count_jobs_per_minute(q: &mut Player) -> TestResult {
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    for minutes in [0, 0, 0, 0, 1, 1, 3, 1, 10] {
        q.pass(minutes * 60_000).await?;
        one_more(q).await?;
    }
    q.expect("metrics:completed:data", json!(["0", "0", "0", "0", "1"]))
        .await
}

async fn metrics_survive_a_clock_that_goes_back(q: &mut Player) -> TestResult {
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    for minutes in [0, 2, -5, 1, 7] {
        q.pass(minutes * 60_000).await?;
        one_more(q).await?;
    }
    Ok(())
}

async fn metrics_count_removed_and_failed_jobs(q: &mut Player) -> TestResult {
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    q.add("a", json!({ "removeOnComplete": true })).await?;
    q.add("b", json!({ "removeOnFail": true })).await?;
    q.add("c", json!({ "attempts": 2 })).await?;
    q.work_off("1").await?;
    q.fetch_job("t", "2").await?;
    q.fail("2", "t").await?;
    q.pass(60_000).await?;
    for _ in 0..2 {
        q.fetch_job("t", "3").await?;
        q.fail("3", "t").await?;
    }
    q.expect("metrics:failed:data", json!(["1"])).await
}

async fn job_runs_again_after_completion(q: &mut Player) -> TestResult {
    q.add("a", json!({ "attempts": 3 })).await?;
    q.work_off("1").await?;
    q.pass(5).await?;
    q.act(Step::Retry {
        id: "1".into(),
        completed: true,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.pass(5).await?;
    q.work_off("1").await
}

async fn event_stream_is_trimmed(q: &mut Player) -> TestResult {
    q.redis(&["HSET", "meta", "opts.maxLenEvents", "10"])
        .await?;
    for _ in 0..60 {
        one_more(q).await?;
    }
    // Whole nodes of about 100 entries are dropped, a little earlier or later.
    let events = q.snapshot().await?.value("q:events");
    assert!(events.as_array().unwrap().len() < 140);
    q.redis(&["DEL", "events"]).await
}
