//! Jobs of workers that vanished.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(own:
    stalled_prioritized_job_keeps_its_priority,
    stalled_ids_without_a_job_are_dropped,
    iteration_that_stalls_too_often_fails,
    retried_job_may_stall_again,
    stalled_jobs_run_again_in_their_order,
);

/// In `wait` it would overtake jobs of higher priority.
async fn stalled_prioritized_job_keeps_its_priority(q: &mut Driver) -> TestResult {
    for (id, priority) in [("a", 4), ("b", 4), ("c", 9)] {
        q.add(id, json!({ "jobId": id, "priority": priority }))
            .await?;
    }
    q.fetch_job("t", "a").await?;
    q.add("urgent", json!({ "jobId": "urgent", "priority": 1 }))
        .await?;
    q.redis(&["DEL", "marker"]).await?;
    assert_eq!(q.stall(&["a"], 1).await?, json!(["a"]));
    q.expect("wait", json!(null)).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    for id in ["urgent", "a", "b", "c"] {
        q.fetch_job("t", id).await?;
    }
    Ok(())
}

async fn stalled_ids_without_a_job_are_dropped(q: &mut Driver) -> TestResult {
    q.redis(&["LPUSH", "active", "ghost"]).await?;
    assert_eq!(q.stall(&[], 1).await?, json!([]));
    q.expect("active", json!(null)).await?;
    q.expect("wait", json!(null)).await?;
    q.expect("ghost", json!(null)).await
}

/// BullMQ starts an iteration of a live scheduler without limit, however many workers it has killed.
async fn iteration_that_stalls_too_often_fails(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 60_000 })).await?;
    let first = format!("repeat:s:{}", q.now());
    for _ in 0..2 {
        q.fetch_job("t", &first).await?;
        q.redis(&["DEL", "stalled-check"]).await?;
        let back = q.stall(&[&first], 1).await?;
        assert_eq!(back, json!([first]));
    }
    let reason = "job stalled more than allowable limit";
    q.expect_field(&first, "defa", json!(reason)).await?;
    let started = q.fetch("t").await?;
    assert_eq!(started["deferred"], reason);
    // The schedule goes on all the same.
    let next = format!("repeat:s:{}", q.now() + 60_000);
    q.expect_field(&next, "rjk", json!("s")).await
}

/// BullMQ keeps the stalls of a job's earlier life, so that it fails again at the first one, and
/// a deferred failure that it still had.
async fn retried_job_may_stall_again(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a" })).await?;
    q.fetch_job("t", "a").await?;
    q.stall(&["a"], 0).await?;
    let message = q.fetch("t").await?["deferred"].to_string();
    let fatal = true;
    q.end("a", "t", End::Fail { message, fatal }).await?;
    // As a child that failed meanwhile leaves it.
    q.redis(&["HSET", "a", "defa", "child b failed"]).await?;
    q.act(Step::Retry {
        id: "a".to_owned(),
        completed: false,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.expect_field("a", "stc", json!(null)).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "stalled-check"]).await?;
    q.stall(&["a"], 1).await?;
    q.expect_field("a", "stc", json!("1")).await?;
    q.expect_field("a", "defa", json!(null)).await?;
    // Its counters of attempts are another matter: there are options for them.
    q.expect_field("a", "ats", json!("3")).await
}

/// Jobs that stalled together start again in the order in which they had started.
async fn stalled_jobs_run_again_in_their_order(q: &mut Driver) -> TestResult {
    let ids = ["a", "b", "c", "d", "e", "f"];
    q.add_all(&ids).await?;
    for id in ids {
        q.fetch_job("t", id).await?;
    }
    q.stall(&ids, 1).await?;
    for id in ids {
        q.fetch_job("u", id).await?;
    }
    Ok(())
}
