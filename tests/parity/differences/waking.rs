//! Workers that are woken, or left alone.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Limit, Step};

scenarios!(own:
    released_prioritized_job_wakes_a_worker,
    job_made_first_of_its_equals_wakes_a_worker,
    legacy_wake_up_survives_a_promotion_harmlessly,
    place_that_becomes_free_wakes_a_worker,
    opened_gate_wakes_a_worker,
    closed_gate_wakes_nobody,
    first_limit_wakes_a_worker,
    bulk_leaves_no_wake_up_for_a_replaced_job,
);

/// Without a wake-up it waits for the next worker that looks by itself.
async fn released_prioritized_job_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "priority": 4 })).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.end("a", "t", End::Release).await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn job_made_first_of_its_equals_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(Step::ChangePriority {
        id: "a".to_owned(),
        priority: 4,
        lifo: true,
    })
    .await?;
    q.expect("prioritized", json!(["a", "17179869184"])).await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn legacy_wake_up_survives_a_promotion_harmlessly(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.redis(&["LPUSH", "wait", "0:123"]).await?;
    q.act(Step::Promote { id: "d".to_owned() }).await?;
    q.fetch_job("t", "d").await?;
    q.expect("wait", json!(null)).await
}

/// Its worker may be closing or held back by a limit; the others would sleep on.
async fn place_that_becomes_free_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(1)).await?;
    q.add_all(&["a", "b", "c"]).await?;
    for (id, end) in [
        ("a", End::Complete(json!(1))),
        ("b", End::DelayUntil(q.now() + 5000)),
    ] {
        q.fetch_job("t", id).await?;
        q.redis(&["DEL", "marker"]).await?;
        q.end(id, "t", end).await?;
        let marker = q.snapshot().await?.value("q:marker");
        assert_eq!(marker[0], "0", "after {id}: {marker}");
    }
    // With nothing left to start there is no worker to wake.
    q.fetch_job("t", "c").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.complete("c", "t").await?;
    q.expect("marker", json!(null)).await
}

async fn opened_gate_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(1)).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    for opening in [
        Limit::SetConcurrency(2),
        Limit::RemoveConcurrency,
        Limit::RemoveRate,
        Limit::Lift,
    ] {
        q.redis(&["DEL", "marker"]).await?;
        q.limit(opening).await?;
        q.expect("marker", json!(["0", "0"])).await?;
    }
    Ok(())
}

async fn closed_gate_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.limit(Limit::SetConcurrency(1)).await?;
    q.limit(Limit::SetRate(5, 1000)).await?;
    q.limit(Limit::Lift).await?;
    q.act(Step::Pause).await?;
    q.limit(Limit::RemoveConcurrency).await?;
    q.expect("marker", json!(null)).await
}

/// Whether a change lets jobs start is not worked out: a needless wake-up costs one look.
async fn first_limit_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    for limit in [Limit::SetConcurrency(3), Limit::SetRate(3, 1000)] {
        q.redis(&["DEL", "marker"]).await?;
        q.limit(limit).await?;
        q.expect("marker", json!(["0", "0"])).await?;
    }
    Ok(())
}

/// Jobs of one call are announced together, once it is known which of them are left.
async fn bulk_leaves_no_wake_up_for_a_replaced_job(q: &mut Driver) -> TestResult {
    let replacing = json!({ "id": "k", "replace": true });
    let first = json!({ "jobId": "a", "delay": 1000, "deduplication": replacing });
    let second = json!({ "jobId": "b", "deduplication": replacing });
    q.add_bulk(&[("a", first), ("b", second)]).await?;
    q.expect("delayed", json!(null)).await?;
    q.expect("marker", json!(["0", "0"])).await
}
