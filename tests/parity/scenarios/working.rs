//! Real workers instead of single steps: the rules that live in a worker's loop.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;

scenarios!(everyone:
    every_end_of_an_attempt_leaves_the_same,
    failing_job_uses_up_its_attempts,
    backed_off_job_leaves_its_neighbour_alone,
    worker_without_attempts_left_applies_its_retention,
    job_started_too_often_is_not_handled,
    deferred_failure_is_not_handled,
    handler_changes_its_job,
    handler_adds_a_child_and_waits_for_it,
    released_job_runs_next,
    limit_of_the_worker_stops_its_starts,
    limit_by_a_handler_releases_its_job,
    paused_queue_keeps_a_worker_from_starting,
    iterations_follow_each_other,
    worker_without_jobs_emits_drained_once,
);

async fn every_end_of_an_attempt_leaves_the_same(q: &mut Driver) -> TestResult {
    q.add_all(&["ok", "null", "fails", "fatal", "panics", "later", "again"])
        .await?;
    let script = json!({
        "ok": [[["return", { "a": [1, "b", null] }]]],
        "null": [[["return", null]]],
        "fails": [[["fail", "went wrong"]]],
        "fatal": [[["fatal", "no use"]]],
        "panics": [[["panic", "at the disco"]]],
        "later": [[["delay", 5000]]],
        "again": [[["release"]], [["return", 2]]],
    });
    q.work(script).await?;
    q.pass(5000).await?;
    q.work(json!({})).await?;
    q.expect("delayed", Value::Null).await
}

async fn failing_job_uses_up_its_attempts(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.add_all(&["b"]).await?;
    let script = json!({ "a": [[["fail", "one"]], [["fail", "two"]], [["fail", "three"]]] });
    q.work(script).await?;
    q.expect_field("a", "atm", "3".into()).await?;
    q.expect_field("a", "failedReason", "three".into()).await
}

async fn backed_off_job_leaves_its_neighbour_alone(q: &mut Driver) -> TestResult {
    let backoff = json!({ "type": "exponential", "delay": 1000 });
    q.add(
        "a",
        json!({ "jobId": "a", "attempts": 3, "backoff": backoff }),
    )
    .await?;
    q.add_all(&["b"]).await?;
    let script = json!({ "a": [[["fail", "one"]]] });
    q.work(script.clone()).await?;
    q.expect_field("b", "atm", "1".into()).await?;
    q.pass(1000).await?;
    q.work(script).await?;
    q.pass(2000).await?;
    q.work(json!({})).await?;
    q.expect_field("a", "atm", "3".into()).await
}

async fn worker_without_attempts_left_applies_its_retention(q: &mut Driver) -> TestResult {
    let keep = json!({ "removeOnComplete": { "count": 1 }, "removeOnFail": { "count": 0 },
        "name": "w", "metrics": { "maxDataPoints": 5 } });
    q.worker("keeping", keep);
    q.add_all(&["a", "b", "c"]).await?;
    q.work(json!({ "b": [[["fail", "gone"]]] })).await?;
    q.expect("completed", json!(["c", "1700000000000"])).await?;
    q.expect("failed", Value::Null).await
}

async fn job_started_too_often_is_not_handled(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 9 })).await?;
    q.add_all(&["b"]).await?;
    q.worker("strict", json!({ "maxStartedAttempts": 2 }));
    let script = json!({ "a": [[["release"]], [["release"]], [["return", "too late"]]] });
    q.work(script).await?;
    q.expect_field(
        "a",
        "failedReason",
        "job started more than allowable limit".into(),
    )
    .await
}

async fn deferred_failure_is_not_handled(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "kid", "failParentOnFailure": true });
    let kid = json!({ "name": "kid", "queueName": "q", "opts": opts });
    q.flow("par", json!({ "attempts": 3 }), json!([kid]))
        .await?;
    q.work(json!({ "kid": [[["fail", "sick"]]] })).await?;
    q.expect_field("par", "failedReason", "child P:q:kid failed".into())
        .await
}

async fn handler_changes_its_job(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let steps = json!([["progress", 50], ["log", "one"], ["log", "two"],
        ["data", { "n": 2 }], ["progress", { "of": "many" }]]);
    q.work(json!({ "a": [steps] })).await?;
    q.expect("a:logs", json!(["one", "two"])).await
}

async fn handler_adds_a_child_and_waits_for_it(q: &mut Driver) -> TestResult {
    q.add_all(&["par", "b"]).await?;
    let waits = json!([["child", "kid", {}], ["children"]]);
    q.work(json!({ "par": [waits, [["return", "done"]]] }))
        .await?;
    q.expect_field("par", "returnvalue", "done".into()).await?;
    q.expect_field("par", "ats", "2".into()).await
}

async fn released_job_runs_next(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    let work = q.work(json!({ "a": [[["release"]]] })).await?;
    let ids: Vec<_> = work["seen"].as_array().into_iter().flatten().collect();
    let ids: Vec<_> = ids.iter().map(|seen| seen["id"].clone()).collect();
    assert_eq!(ids, ["a", "a", "b"]);
    Ok(())
}

async fn limit_of_the_worker_stops_its_starts(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    let limiter = json!({ "max": 2, "duration": 100_000 });
    q.worker("limited", json!({ "limiter": limiter }));
    q.work(json!({})).await?;
    q.expect("wait", json!(["c"])).await
}

async fn limit_by_a_handler_releases_its_job(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.work(json!({ "a": [[["rateLimit", 100_000]]] })).await?;
    q.expect("wait", json!(["b", "a"])).await
}

async fn paused_queue_keeps_a_worker_from_starting(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.node("queue.pause", json!({})).await?;
    q.work(json!({})).await?;
    q.expect("wait", json!(["a"])).await
}

async fn iterations_follow_each_other(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 60_000 })).await?;
    q.work(json!({})).await?;
    q.pass(60_000).await?;
    let iteration = format!("repeat:s:{}", q.now());
    q.work(json!({ &iteration: [[["fail", "this time"]]] }))
        .await?;
    q.expect_field(&iteration, "failedReason", "this time".into())
        .await
}

async fn worker_without_jobs_emits_drained_once(q: &mut Driver) -> TestResult {
    q.start_work(json!({})).await?;
    let emitted = q.end_drained_work().await?["emitted"].clone();
    assert_eq!(emitted, json!([["drained"]]));
    Ok(())
}
