//! Failed attempts: `docs/protocol.md#ends-of-attempts`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    failed_job_waits_behind_the_others,
    failed_lifo_job_is_next,
    failed_prioritized_job_goes_behind_its_equals,
    failed_job_waits_for_its_backoff,
    exponential_backoff_doubles,
    backoff_with_a_fetched_job_writes_no_due_time,
    backoff_without_a_fetched_job_writes_the_due_time,
    last_attempt_fails_the_job,
    job_without_attempts_fails_at_once,
    fatal_error_leaves_attempts_unused,
    stack_traces_are_limited,
    reasons_are_plain_text,
    immediate_retry_moves_due_jobs_first,
    retry_on_a_paused_queue_wakes_nobody,
    retry_of_a_full_queue_s_only_job_wakes_its_worker,
    job_started_too_often_fails,
    failure_can_fetch_the_next_job,
    retry_after_a_legacy_field_counts_on,
);

fn boom(message: &str) -> End {
    End::Fail {
        message: message.to_owned(),
        fatal: false,
    }
}

async fn failed_job_waits_behind_the_others(q: &mut Driver) -> TestResult {
    q.add("r1", json!({ "jobId": "r1", "attempts": 3 })).await?;
    q.add_all(&["w1", "w2"]).await?;
    q.fetch_job("t", "r1").await?;
    q.pass(7).await?;
    q.fail("r1", "t").await?;
    q.expect("wait", json!(["r1", "w2", "w1"])).await?;
    q.expect_field("r1", "atm", json!("1")).await
}

async fn failed_lifo_job_is_next(q: &mut Driver) -> TestResult {
    q.add_all(&["w1"]).await?;
    q.add("r2", json!({ "jobId": "r2", "attempts": 3, "lifo": true }))
        .await?;
    q.fetch_job("t", "r2").await?;
    q.fail("r2", "t").await?;
    q.fetch_job("t", "r2").await
}

async fn failed_prioritized_job_goes_behind_its_equals(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3, "priority": 7 }))
        .await?;
    q.add("b", json!({ "jobId": "b", "priority": 7 })).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect(
        "prioritized",
        json!(["b", "30064771074", "a", "30064771075"]),
    )
    .await?;
    q.fetch_job("t", "b").await
}

async fn failed_job_waits_for_its_backoff(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3, "backoff": 500 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.fail("a", "t").await?;
    q.expect("marker", json!(["1", "1700000000500"])).await?;
    q.expect_field("a", "delay", json!("500")).await?;
    q.pass(500).await?;
    q.fetch_job("t", "a").await?;
    q.expect_field("a", "delay", json!("0")).await?;
    q.complete("a", "t").await?;
    Ok(())
}

async fn exponential_backoff_doubles(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "a", "attempts": 5,
        "backoff": { "type": "exponential", "delay": 1000 } });
    q.add("a", opts).await?;
    for wait in [1000, 2000, 4000, 8000] {
        q.fetch_job("t", "a").await?;
        q.fail("a", "t").await?;
        q.expect_field("a", "delay", json!(wait.to_string()))
            .await?;
        q.pass(wait).await?;
    }
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    Ok(())
}

async fn backoff_with_a_fetched_job_writes_no_due_time(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3, "backoff": 500 }))
        .await?;
    q.add_all(&["b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    let next = q.end_and_fetch("a", "t", boom("no")).await?;
    assert_eq!(next["id"], "b");
    q.expect("marker", json!(["0", "0"])).await
}

async fn backoff_without_a_fetched_job_writes_the_due_time(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3, "backoff": 500 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    let next = q.end_and_fetch("a", "t", boom("no")).await?;
    assert!(next.is_null());
    q.expect("marker", json!(["1", "1700000000500"])).await
}

async fn last_attempt_fails_the_job(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    for _ in 0..2 {
        q.fetch_job("t", "a").await?;
        q.pass(3).await?;
        q.fail("a", "t").await?;
    }
    q.expect("failed", json!(["a", "1700000000006"])).await
}

async fn job_without_attempts_fails_at_once(q: &mut Driver) -> TestResult {
    for (id, opts) in [
        ("a", json!({ "jobId": "a" })),
        ("b", json!({ "jobId": "b", "attempts": 0 })),
        ("c", json!({ "jobId": "c", "attempts": 1, "backoff": 100 })),
    ] {
        q.add(id, opts).await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
    }
    Ok(())
}

async fn fatal_error_leaves_attempts_unused(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3, "backoff": 100 }))
        .await?;
    q.fetch_job("t", "a").await?;
    let (message, fatal) = ("pointless".to_owned(), true);
    q.end("a", "t", End::Fail { message, fatal }).await?;
    q.expect("failed", json!(["a", "1700000000000"])).await
}

async fn stack_traces_are_limited(q: &mut Driver) -> TestResult {
    q.add(
        "two",
        json!({ "jobId": "two", "attempts": 9, "stackTraceLimit": 2 }),
    )
    .await?;
    for message in ["S0", "S1", "S2", "S3"] {
        q.fetch_job("t", "two").await?;
        q.end("two", "t", boom(message)).await?;
    }
    q.expect_field("two", "stacktrace", json!(["S2", "S3"]))
        .await?;
    q.redis(&["DEL", "wait"]).await?;
    q.add(
        "none",
        json!({ "jobId": "none", "attempts": 9, "stackTraceLimit": 0 }),
    )
    .await?;
    q.fetch_job("t", "none").await?;
    q.end("none", "t", boom("S0")).await?;
    q.expect_field("none", "stacktrace", json!([])).await
}

async fn reasons_are_plain_text(q: &mut Driver) -> TestResult {
    for message in ["", "é \"quoted\" \\", "{\"json\":1}", "null"] {
        let id = q.add("a", json!({ "attempts": 2 })).await?;
        let id = id.as_str().unwrap_or_default().to_owned();
        q.fetch_job("t", &id).await?;
        q.end(&id, "t", boom(message)).await?;
        q.fetch_job("t", &id).await?;
        q.end(&id, "t", boom(message)).await?;
    }
    Ok(())
}

async fn immediate_retry_moves_due_jobs_first(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.add("due", json!({ "jobId": "due", "delay": 10 })).await?;
    q.add("far", json!({ "jobId": "far", "delay": 10_000 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.pass(10).await?;
    q.fail("a", "t").await?;
    q.expect("wait", json!(["a", "due"])).await
}

async fn retry_on_a_paused_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.fetch_job("t", "a").await?;
    q.node("queue.pause", json!({})).await?;
    q.fail("a", "t").await?;
    q.expect("wait", json!(["a"])).await?;
    q.expect("marker", json!(null)).await
}

async fn retry_of_a_full_queue_s_only_job_wakes_its_worker(q: &mut Driver) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.fail("a", "t").await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn job_started_too_often_fails(q: &mut Driver) -> TestResult {
    q.worker("strict", json!({ "maxStartedAttempts": 2 }));
    q.add("a", json!({ "jobId": "a", "attempts": 10 })).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("failed", json!(["a", "1700000000000"])).await
}

async fn failure_can_fetch_the_next_job(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    let next = q.end_and_fetch("a", "t", boom("no")).await?;
    assert_eq!(next["id"], "b");
    let next = q.end_and_fetch("b", "t", boom("no")).await?;
    assert!(next.is_null());
    Ok(())
}

async fn retry_after_a_legacy_field_counts_on(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.redis(&["HSET", "a", "atm", "1", "ats", "1"]).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("failed", json!(["a", "1700000000000"])).await
}
