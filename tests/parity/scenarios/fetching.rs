//! Starting jobs: `docs/protocol.md#fetching`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    waiting_then_due_then_prioritized_jobs_start,
    empty_queue_forgets_its_priority_counter,
    delayed_jobs_are_announced_by_their_due_time,
    start_leaves_a_wake_up_even_for_nobody,
    worker_s_name_is_stored_and_stays,
    token_zero_takes_no_lock,
    lock_lasts_as_long_as_the_worker_says,
    due_jobs_move_while_the_queue_is_paused,
    due_jobs_move_while_the_queue_is_full,
    legacy_wake_ups_are_dropped,
    delayed_job_forgets_lifo,
    next_job_starts_with_the_end_of_the_last,
    job_with_a_deferred_failure_carries_it,
);

async fn waiting_then_due_then_prioritized_jobs_start(q: &mut Driver) -> TestResult {
    q.add("p5", json!({ "jobId": "p5", "priority": 5 })).await?;
    q.add("d4", json!({ "jobId": "d4", "delay": 100 })).await?;
    q.add("d5", json!({ "jobId": "d5", "delay": 100, "lifo": true }))
        .await?;
    q.add("d1", json!({ "jobId": "d1", "delay": 200 })).await?;
    q.add("d2", json!({ "jobId": "d2", "delay": 300, "priority": 5 }))
        .await?;
    q.add("d3", json!({ "jobId": "d3", "delay": 400, "priority": 1 }))
        .await?;
    q.add("far", json!({ "jobId": "far", "delay": 60_000 }))
        .await?;
    q.add_all(&["w1", "w2"]).await?;
    q.pass(400).await?;
    q.fetch_job("t", "w1").await?;
    q.expect("wait", json!(["d1", "d5", "d4", "w2"])).await?;
    let scores = json!(["d3", "4294967299", "p5", "21474836481", "d2", "21474836482"]);
    q.expect("prioritized", scores).await?;
    for id in ["w2", "d4", "d5", "d1", "d3", "p5", "d2"] {
        q.fetch_job("t", id).await?;
    }
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

async fn empty_queue_forgets_its_priority_counter(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "priority": 3 })).await?;
    q.fetch_job("t", "a").await?;
    q.expect("pc", json!("1")).await?;
    q.fetch("t").await?;
    q.expect("pc", json!(null)).await
}

async fn delayed_jobs_are_announced_by_their_due_time(q: &mut Driver) -> TestResult {
    q.add("late", json!({ "jobId": "late", "delay": 9000 }))
        .await?;
    q.add("soon", json!({ "jobId": "soon", "delay": 50 }))
        .await?;
    q.add("soon", json!({ "jobId": "soon too", "delay": 50 }))
        .await?;
    q.expect("marker", json!(["1", "1700000000050"])).await?;
    q.redis(&["ZREM", "delayed", "soon"]).await?;
    q.add("later", json!({ "jobId": "later", "delay": 10_000 }))
        .await?;
    q.expect("marker", json!(["1", "1700000000050.0002"]))
        .await?;
    // One millisecond early nothing starts.
    q.pass(49).await?;
    assert!(q.fetch("t").await?.is_null());
    q.pass(1).await?;
    q.fetch_job("t", "soon too").await
}

async fn start_leaves_a_wake_up_even_for_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.fetch_job("t", "a").await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn worker_s_name_is_stored_and_stays(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.worker("named", json!({ "name": "W" }));
    q.fetch_job("t", "a").await?;
    q.expect_field("a", "pb", json!("W")).await?;
    q.fail("a", "t").await?;
    q.worker("unnamed", json!(null));
    q.fetch_job("t", "a").await?;
    q.expect_field("a", "pb", json!("W")).await
}

async fn token_zero_takes_no_lock(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("0", "a").await?;
    q.expect("a:lock", json!(null)).await?;
    q.complete("a", "0").await?;
    // It ends a job that another worker has locked, and leaves the lock.
    q.fetch_job("t", "b").await?;
    q.complete("b", "0").await?;
    q.expect("b:lock", json!("t")).await
}

async fn lock_lasts_as_long_as_the_worker_says(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.worker("patient", json!({ "lockDuration": 600_000 }));
    q.fetch_job("t", "a").await?;
    q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    q.expect("b:lock", json!("t")).await
}

async fn due_jobs_move_while_the_queue_is_paused(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "delay": 10 })).await?;
    q.add("b", json!({ "jobId": "b", "delay": 10, "priority": 3 }))
        .await?;
    q.node("queue.pause", json!({})).await?;
    q.pass(10).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("wait", json!(["a"])).await?;
    q.expect("marker", json!(null)).await
}

async fn due_jobs_move_while_the_queue_is_full(q: &mut Driver) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.add_all(&["a"]).await?;
    q.add("b", json!({ "jobId": "b", "delay": 10 })).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.pass(10).await?;
    assert!(q.fetch("t2").await?.is_null());
    q.expect("wait", json!(["b"])).await?;
    q.expect("marker", json!(null)).await
}

async fn legacy_wake_ups_are_dropped(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["RPUSH", "wait", "0:0"]).await?;
    q.fetch_job("t", "a").await?;
    q.add("p", json!({ "jobId": "p", "priority": 2 })).await?;
    q.redis(&["RPUSH", "wait", "0:123456"]).await?;
    q.fetch_job("t", "p").await?;
    q.expect("wait", json!(null)).await
}

async fn delayed_job_forgets_lifo(q: &mut Driver) -> TestResult {
    q.add(
        "late",
        json!({ "jobId": "late", "delay": 10, "lifo": true }),
    )
    .await?;
    q.add_all(&["plain"]).await?;
    q.pass(10).await?;
    q.fetch_job("t", "plain").await?;
    q.fetch_job("t", "late").await
}

async fn next_job_starts_with_the_end_of_the_last(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.add("late", json!({ "jobId": "late", "delay": 10 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.pass(10).await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!("r"))).await?;
    assert_eq!(next["id"], "b");
    q.expect("b:lock", json!("t")).await?;
    q.end_and_fetch("b", "t", End::Complete(json!("r"))).await?;
    q.end_and_fetch("c", "t", End::Complete(json!("r"))).await?;
    let next = q
        .end_and_fetch("late", "t", End::Complete(json!("r")))
        .await?;
    assert!(next.is_null());
    Ok(())
}

async fn job_with_a_deferred_failure_carries_it(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 5 })).await?;
    q.redis(&["HSET", "a", "defa", "child x failed"]).await?;
    let started = q.fetch("t").await?;
    assert_eq!(started["deferred"], "child x failed");
    let (message, fatal) = ("child x failed".to_owned(), true);
    q.end("a", "t", End::Fail { message, fatal }).await?;
    q.expect_field("a", "defa", json!(null)).await
}
