//! Ending jobs: `docs/protocol.md#ends-of-attempts`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    last_job_drains_the_queue,
    delayed_job_keeps_a_fetching_worker_from_draining,
    paused_queue_is_not_drained_by_a_fetching_worker,
    waiting_and_active_jobs_keep_the_queue_undrained,
    every_return_value_is_stored,
    refused_end_changes_nothing,
    end_takes_the_job_out_of_the_stalled_set,
    fields_of_other_programs_survive,
    jobs_finished_per_minute_are_counted,
    metrics_are_kept_as_long_as_the_worker_says,
    legacy_attempt_counter_is_left_alone,
);

async fn last_job_drains_the_queue(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a" })).await?;
    q.fetch_job("t", "a").await?;
    let next = q
        .end_and_fetch("a", "t", End::Complete(json!({ "ok": 1 })))
        .await?;
    assert!(next.is_null());
    Ok(())
}

async fn delayed_job_keeps_a_fetching_worker_from_draining(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.add("far", json!({ "jobId": "far", "delay": 50_000 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("u", "b").await?;
    q.complete("a", "t").await?;
    q.end_and_fetch("b", "u", End::Complete(json!(1))).await?;
    q.add_all(&["c"]).await?;
    // Without a fetch the delayed job does not matter.
    q.work_off("c").await
}

async fn paused_queue_is_not_drained_by_a_fetching_worker(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("u", "b").await?;
    q.node("queue.pause", json!({})).await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    assert!(next.is_null());
    q.redis(&["DEL", "wait"]).await?;
    q.end_and_fetch("b", "u", End::Complete(json!(1))).await?;
    Ok(())
}

async fn waiting_and_active_jobs_keep_the_queue_undrained(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.add("p", json!({ "jobId": "p", "priority": 3 })).await?;
    for id in ["a", "b", "p"] {
        q.work_off(id).await?;
    }
    q.add_all(&["c", "d"]).await?;
    q.fetch_job("c", "c").await?;
    q.fetch_job("d", "d").await?;
    q.complete("c", "c").await?;
    q.fail("d", "d").await?;
    Ok(())
}

async fn every_return_value_is_stored(q: &mut Driver) -> TestResult {
    let values: [Value; 7] = [
        json!(null),
        json!(0),
        json!(""),
        json!(false),
        json!({ "a": [1, { "b": null }] }),
        json!("é\n\"quoted\""),
        json!([]),
    ];
    for (n, value) in (1..).zip(values) {
        q.add("a", json!({})).await?;
        let id = n.to_string();
        q.fetch_job("t", &id).await?;
        q.end(&id, "t", End::Complete(value)).await?;
    }
    Ok(())
}

async fn refused_end_changes_nothing(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    for (token, id) in [("ta", "a"), ("tb", "b"), ("tc", "c")] {
        q.fetch_job(token, id).await?;
    }
    q.redis(&["DEL", "a:lock"]).await?;
    q.redis(&["SET", "b:lock", "somebody"]).await?;
    q.redis(&["DEL", "c"]).await?;
    assert_eq!(q.complete("a", "ta").await?, json!({ "refused": -2 }));
    assert_eq!(q.fail("a", "ta").await?, json!({ "refused": -2 }));
    assert_eq!(q.complete("b", "tb").await?, json!({ "refused": -6 }));
    assert_eq!(q.fail("b", "tb").await?, json!({ "refused": -6 }));
    let answer = q.end("b", "tb", End::DelayUntil(q.now() + 5)).await?;
    assert_eq!(answer, json!({ "refused": -6 }));
    let answer = q.end("b", "tb", End::Release).await?;
    assert_eq!(answer, json!({ "refused": -6 }));
    q.expect("active", json!(["c", "b", "a"])).await?;
    q.expect("b:lock", json!("somebody")).await
}

async fn end_takes_the_job_out_of_the_stalled_set(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c", "d", "e"]).await?;
    for id in ["a", "b", "c", "d", "e"] {
        q.fetch_job(id, id).await?;
    }
    q.check_stalled(1).await?;
    q.expect("stalled", json!(["a", "b", "c", "d", "e"]))
        .await?;
    q.complete("a", "a").await?;
    q.fail("b", "b").await?;
    q.end("c", "c", End::DelayUntil(q.now() + 5)).await?;
    q.end("d", "d", End::Release).await?;
    q.expect("stalled", json!(["e"])).await
}

async fn fields_of_other_programs_survive(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.redis(&["HSET", "a", "custom", "value", "nrjid", "x"])
        .await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    q.expect_field("a", "custom", json!("value")).await
}

async fn jobs_finished_per_minute_are_counted(q: &mut Driver) -> TestResult {
    q.worker("counting", json!({ "metrics": { "maxDataPoints": 5 } }));
    let finish = async |q: &mut Driver, jobs: u32| -> TestResult {
        for _ in 0..jobs {
            let id = q.add("a", json!({ "removeOnComplete": true })).await?;
            let id = id.as_str().unwrap_or_default().to_owned();
            q.fetch_job("t", &id).await?;
            q.complete(&id, "t").await?;
        }
        Ok(())
    };
    finish(q, 4).await?;
    q.expect("metrics:completed:data", json!(null)).await?;
    q.pass(60_000).await?;
    finish(q, 2).await?;
    q.expect("metrics:completed:data", json!(["4"])).await?;
    q.pass(180_000).await?;
    finish(q, 1).await?;
    q.expect("metrics:completed:data", json!(["0", "0", "2", "4"]))
        .await?;
    q.pass(60_000).await?;
    finish(q, 1).await?;
    q.pass(600_000).await?;
    finish(q, 1).await?;
    q.expect("metrics:completed:data", json!(["0", "0", "0", "0", "1"]))
        .await?;
    // A clock that went back counts, and opens no new minute.
    q.pass(-300_000).await?;
    finish(q, 1).await?;
    for id in ["x", "y"] {
        q.add(id, json!({ "jobId": id, "attempts": 2 })).await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
    }
    Ok(())
}

async fn metrics_are_kept_as_long_as_the_worker_says(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.worker("one", json!({ "metrics": { "maxDataPoints": 1 } }));
    q.work_off("a").await?;
    q.pass(600_000).await?;
    q.work_off("b").await?;
    q.expect("metrics:completed:data", json!(["1"])).await?;
    q.worker("off", json!({ "metrics": { "maxDataPoints": 0 } }));
    q.pass(600_000).await?;
    q.work_off("c").await
}

async fn legacy_attempt_counter_is_left_alone(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 5 })).await?;
    q.redis(&["HSET", "a", "ats", "7", "atm", "2"]).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    q.expect_field("a", "ats", json!("9")).await?;
    q.expect_field("a", "atm", json!("4")).await
}
