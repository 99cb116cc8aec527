//! Jobs of workers that vanished: `docs/protocol.md#stalled-jobs`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    first_check_remembers_and_second_hands_back,
    checks_keep_their_distance,
    job_with_a_lock_is_left_alone,
    job_that_stalls_too_often_fails,
    no_stall_is_tolerated_on_request,
    stalled_job_of_a_paused_queue_wakes_nobody,
    finished_job_is_not_handed_back,
    handed_back_job_goes_on_counting,
);

async fn first_check_remembers_and_second_hands_back(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "k", "w"]).await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tk", "k").await?;
    q.check_stalled(1).await?;
    q.expect("stalled", json!(["a", "k"])).await?;
    q.expect("stalled-check", json!("1700000000000")).await?;
    q.redis(&["DEL", "a:lock"]).await?;
    q.redis(&["DEL", "stalled-check"]).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.pass(30_000).await?;
    let back = q.check_stalled(1).await?;
    assert_eq!(back, json!(["a"]));
    q.expect("wait", json!(["w", "a"])).await?;
    q.expect("stalled", json!(["k"])).await?;
    q.expect_field("a", "stc", json!("1")).await
}

async fn checks_keep_their_distance(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.check_stalled(1).await?;
    q.redis(&["DEL", "a:lock"]).await?;
    assert_eq!(q.check_stalled(1).await?, json!([]));
    q.expect("active", json!(["a"])).await
}

async fn job_with_a_lock_is_left_alone(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    assert_eq!(q.stall(&[], 1).await?, json!([]));
    q.expect("stalled", json!(["a"])).await
}

async fn job_that_stalls_too_often_fails(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a" })).await?;
    for _ in 0..2 {
        q.fetch_job("t", "a").await?;
        q.redis(&["DEL", "stalled-check"]).await?;
        assert_eq!(q.stall(&["a"], 1).await?, json!(["a"]));
    }
    let started = q.fetch("t").await?;
    let message = "job stalled more than allowable limit".to_owned();
    assert_eq!(started["deferred"], message);
    q.end(
        "a",
        "t",
        End::Fail {
            message,
            fatal: true,
        },
    )
    .await?;
    q.expect_field("a", "stc", json!("2")).await?;
    q.expect_field("a", "ats", json!("3")).await
}

async fn no_stall_is_tolerated_on_request(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 5 })).await?;
    q.fetch_job("t", "a").await?;
    q.stall(&["a"], 0).await?;
    q.expect_field("a", "defa", json!("job stalled more than allowable limit"))
        .await
}

async fn stalled_job_of_a_paused_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.node("queue.pause", json!({})).await?;
    q.stall(&["a"], 1).await?;
    q.expect("wait", json!(["a"])).await?;
    q.expect("marker", json!(null)).await
}

async fn finished_job_is_not_handed_back(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.check_stalled(1).await?;
    q.complete("a", "t").await?;
    q.redis(&["DEL", "stalled-check"]).await?;
    // Another worker recorded it meanwhile.
    q.redis(&["SADD", "stalled", "a"]).await?;
    assert_eq!(q.check_stalled(1).await?, json!([]));
    q.expect("stalled", json!(null)).await
}

async fn handed_back_job_goes_on_counting(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.fetch_job("old", "a").await?;
    q.stall(&["a"], 1).await?;
    q.fetch_job("new", "a").await?;
    // The worker that was taken for dead cannot end it any more.
    assert_eq!(q.complete("a", "old").await?, json!({ "refused": -6 }));
    q.fail("a", "new").await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    q.expect_field("a", "ats", json!("3")).await?;
    q.expect_field("a", "atm", json!("2")).await
}
