//! Ends of attempts that the queue refuses to a real worker, and what becomes of the attempt and
//! of its neighbours: `docs/protocol.md#refusals`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    pending_child_fails_the_attempt_only,
    pending_child_leaves_the_backoff_to_the_job,
    pending_child_uses_up_the_attempts,
    pending_child_lets_retention_apply,
    pending_child_counts_started_attempts,
    pending_child_leaves_the_neighbour_alone,
    failed_child_fails_its_parent_permanently,
    failed_child_lets_retention_apply,
    removed_job_s_end_is_dropped,
    end_without_a_lock_is_dropped,
    end_under_a_foreign_lock_is_dropped,
    failure_without_a_lock_is_dropped,
    deferral_without_a_lock_is_dropped,
    gate_holds_a_handler,
);

/// Adds a child that does not end by itself, and returns.
fn returns_too_early() -> Value {
    json!([["child", "kid", { "delay": 100_000 }], ["return", "early"]])
}

async fn pending_child_fails_the_attempt_only(q: &mut Driver) -> TestResult {
    q.add("par", json!({ "jobId": "par", "attempts": 5 }))
        .await?;
    let script = json!({ "par": [returns_too_early(), [["children"]], [["return", "done"]]] });
    q.work(script).await?;
    q.expect_field("par", "atm", "1".into()).await?;
    q.expect("waiting-children", json!(["par", "1700000000000"]))
        .await?;
    q.pass(100_000).await?;
    q.work(json!({ "par": [[["return", "done"]]] })).await?;
    q.expect_field("par", "atm", "2".into()).await?;
    q.expect_field("par", "returnvalue", "done".into()).await
}

async fn pending_child_leaves_the_backoff_to_the_job(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "par", "attempts": 5, "backoff": 1000 });
    q.add("par", opts).await?;
    q.work(json!({ "par": [returns_too_early()] })).await?;
    q.expect("failed", Value::Null).await?;
    q.expect_field("par", "delay", "1000".into()).await?;
    q.pass(1000).await?;
    q.work(json!({ "par": [[["fail", "for another reason"]]] }))
        .await?;
    q.expect_field("par", "atm", "2".into()).await
}

async fn pending_child_uses_up_the_attempts(q: &mut Driver) -> TestResult {
    q.add("par", json!({ "jobId": "par", "attempts": 3 }))
        .await?;
    q.work(json!({ "par": [returns_too_early()] })).await?;
    q.expect_field("par", "atm", "3".into()).await?;
    q.expect_field(
        "par",
        "failedReason",
        "Job par has pending dependencies. moveToFinished".into(),
    )
    .await
}

async fn pending_child_lets_retention_apply(q: &mut Driver) -> TestResult {
    q.add("par", json!({ "jobId": "par", "removeOnFail": true }))
        .await?;
    q.work(json!({ "par": [returns_too_early()] })).await?;
    q.expect("par", Value::Null).await
}

async fn pending_child_counts_started_attempts(q: &mut Driver) -> TestResult {
    q.add("par", json!({ "jobId": "par", "attempts": 5 }))
        .await?;
    q.add_all(&["b"]).await?;
    q.worker("strict", json!({ "maxStartedAttempts": 1 }));
    q.work(json!({ "par": [returns_too_early()] })).await?;
    q.expect_field("par", "ats", "1".into()).await?;
    q.expect_field("b", "ats", "1".into()).await?;
    q.expect_field("b", "returnvalue", json!({ "ok": "b" }))
        .await
}

async fn pending_child_leaves_the_neighbour_alone(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "par", "attempts": 2, "backoff": 1000, "priority": 1 });
    q.add("par", opts).await?;
    for id in ["b", "c"] {
        q.add(id, json!({ "jobId": id, "priority": 2 })).await?;
    }
    q.work(json!({ "par": [returns_too_early()] })).await?;
    for id in ["b", "c"] {
        q.expect_field(id, "ats", "1".into()).await?;
        q.expect_field(id, "atm", "1".into()).await?;
    }
    Ok(())
}

/// A parent whose child has failed while it runs.
async fn parent_of_a_failed_child(q: &mut Driver, opts: Value) -> TestResult {
    q.add("par", opts).await?;
    q.add_all(&["b"]).await?;
    let adds = json!([["child", "kid", { "lifo": true, "failParentOnFailure": true }],
        ["gate", "child"], ["return", "early"]]);
    q.start_work(json!({ "par": [adds] })).await?;
    q.reach("child").await?;
    q.fetch_job("t", "kid").await?;
    q.fail("kid", "t").await?;
    q.open_gate("child").await?;
    q.end_work(&[]).await?;
    Ok(())
}

async fn failed_child_fails_its_parent_permanently(q: &mut Driver) -> TestResult {
    parent_of_a_failed_child(q, json!({ "jobId": "par", "attempts": 5 })).await?;
    q.expect_field("par", "atm", "1".into()).await?;
    q.expect_field(
        "par",
        "failedReason",
        "Cannot complete job par because it has at least one failed child. moveToFinished".into(),
    )
    .await
}

async fn failed_child_lets_retention_apply(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "par", "attempts": 5, "removeOnFail": true });
    parent_of_a_failed_child(q, opts).await?;
    q.expect("par", Value::Null).await
}

/// Starts a worker whose handler of `a` ends with `end` after something has happened to the job.
async fn meddle(q: &mut Driver, end: Value, commands: &[&[&str]], left: &[&str]) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.add_all(&["b"]).await?;
    q.start_work(json!({ "a": [[["gate", "in"], end]] }))
        .await?;
    q.reach("in").await?;
    for command in commands {
        q.redis(command).await?;
    }
    if left.is_empty() {
        let id = "a".to_owned();
        let children = true;
        q.act(Step::Remove { id, children }).await?;
    }
    q.open_gate("in").await?;
    q.end_work(left).await?;
    q.expect_field("b", "ats", "1".into()).await?;
    q.expect_field("b", "returnvalue", json!({ "ok": "b" }))
        .await
}

async fn removed_job_s_end_is_dropped(q: &mut Driver) -> TestResult {
    meddle(q, json!(["return", 1]), &[&["DEL", "a:lock"]], &[]).await?;
    q.expect("a", Value::Null).await
}

async fn end_without_a_lock_is_dropped(q: &mut Driver) -> TestResult {
    meddle(q, json!(["return", 1]), &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

async fn end_under_a_foreign_lock_is_dropped(q: &mut Driver) -> TestResult {
    let foreign: &[&str] = &["SET", "a:lock", "foreign"];
    meddle(q, json!(["return", 1]), &[foreign], &["a"]).await?;
    q.expect("a:lock", "foreign".into()).await
}

async fn failure_without_a_lock_is_dropped(q: &mut Driver) -> TestResult {
    let end = json!(["fail", "too late"]);
    meddle(q, end, &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

async fn deferral_without_a_lock_is_dropped(q: &mut Driver) -> TestResult {
    meddle(q, json!(["delay", 5000]), &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

/// What others do while a handler runs is seen by its end.
async fn gate_holds_a_handler(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.start_work(json!({ "a": [[["gate", "in"], ["fail", "after all"]]] }))
        .await?;
    q.reach("in").await?;
    q.add("b", json!({ "jobId": "b", "priority": 3 })).await?;
    q.add("c", json!({ "jobId": "c" })).await?;
    q.act(Step::Pause).await?;
    q.open_gate("in").await?;
    q.end_work(&[]).await?;
    q.expect("wait", json!(["c"])).await
}
