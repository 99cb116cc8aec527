//! Active jobs that go back without an ended attempt, and their locks: `docs/protocol.md#locks`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    active_job_is_delayed,
    job_delayed_to_the_past_is_due,
    jobs_delayed_to_one_millisecond_keep_their_order,
    released_job_is_next,
    released_prioritized_job_is_first_of_its_equals,
    released_job_of_a_paused_queue_wakes_nobody,
    rate_limited_job_is_next_and_the_queue_waits,
    parent_waits_for_its_children,
    parent_that_waits_for_a_failed_child_is_refused,
    renewed_lock_lasts_and_clears_the_stall,
    foreign_lock_is_not_renewed,
    deferral_without_the_lock_is_refused,
);

async fn active_job_is_delayed(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.end("a", "t", End::DelayUntil(q.now() + 4000)).await?;
    q.expect("marker", json!(["1", "1700000004000"])).await?;
    q.expect_field("a", "delay", json!("4000")).await?;
    q.expect_field("a", "atm", json!(null)).await?;
    q.pass(4000).await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    Ok(())
}

async fn job_delayed_to_the_past_is_due(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::DelayUntil(q.now() - 5000)).await?;
    q.expect_field("a", "delay", json!("0")).await?;
    q.expect("delayed", json!(["a", "6963200000000000"]))
        .await?;
    q.fetch_job("t", "a").await
}

async fn jobs_delayed_to_one_millisecond_keep_their_order(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    for id in ["a", "b", "c"] {
        q.fetch_job("t", id).await?;
        q.end(id, "t", End::DelayUntil(q.now() + 10)).await?;
    }
    q.pass(10).await?;
    for id in ["a", "b", "c"] {
        q.fetch_job("t", id).await?;
    }
    Ok(())
}

async fn released_job_is_next(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.end("a", "t", End::Release).await?;
    q.expect("wait", json!(["c", "b", "a"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.expect_field("a", "atm", json!(null)).await?;
    q.fetch_job("t", "a").await
}

async fn released_prioritized_job_is_first_of_its_equals(q: &mut Driver) -> TestResult {
    for id in ["p1", "p2"] {
        q.add(id, json!({ "jobId": id, "priority": 5 })).await?;
    }
    q.fetch_job("t", "p1").await?;
    q.end("p1", "t", End::Release).await?;
    q.expect(
        "prioritized",
        json!(["p1", "21474836480", "p2", "21474836482"]),
    )
    .await
}

async fn released_job_of_a_paused_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.node("queue.pause", json!({})).await?;
    q.end("a", "t", End::Release).await?;
    q.expect("wait", json!(["a"])).await?;
    q.expect("marker", json!(null)).await
}

async fn rate_limited_job_is_next_and_the_queue_waits(q: &mut Driver) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 10, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::RateLimited(120_000)).await?;
    q.expect("limiter", json!("9007199254740991")).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("wait", json!(["b", "a"])).await
}

async fn parent_waits_for_its_children(q: &mut Driver) -> TestResult {
    q.add_all(&["par"]).await?;
    q.fetch_job("t", "par").await?;
    let parent = json!({ "id": "par", "queue": "$P:q" });
    q.add("kid", json!({ "jobId": "kid", "parent": parent }))
        .await?;
    let answer = q.complete("par", "t").await?;
    assert_eq!(answer, json!({ "refused": -4 }));
    q.pass(10).await?;
    q.end("par", "t", End::WaitForChildren).await?;
    q.expect("waiting-children", json!(["par", "1700000000010"]))
        .await?;
    q.fetch_job("k", "kid").await?;
    q.complete("kid", "k").await?;
    q.expect("wait", json!(["par"])).await?;
    q.fetch_job("t", "par").await?;
    q.complete("par", "t").await?;
    q.expect_field("par", "ats", json!("2")).await?;
    q.expect_field("par", "atm", json!("1")).await
}

async fn parent_that_waits_for_a_failed_child_is_refused(q: &mut Driver) -> TestResult {
    q.add_all(&["par"]).await?;
    q.fetch_job("t", "par").await?;
    for id in ["k1", "k2"] {
        let opts = json!({ "jobId": id, "parent": { "id": "par", "queue": "$P:q" },
            "failParentOnFailure": true });
        q.add(id, opts).await?;
    }
    q.fetch_job("k", "k1").await?;
    q.fail("k1", "k").await?;
    let answer = q.complete("par", "t").await?;
    assert_eq!(answer, json!({ "refused": -4 }));
    let answer = q.end("par", "t", End::WaitForChildren).await?;
    assert_eq!(answer, json!({ "refused": -9 }));
    q.fetch_job("k", "k2").await?;
    q.complete("k2", "k").await?;
    let answer = q.complete("par", "t").await?;
    assert_eq!(answer, json!({ "refused": -9 }));
    q.expect_field("par", "defa", json!("child P:q:k1 failed"))
        .await?;
    q.expect("par:lock", json!("t")).await
}

async fn renewed_lock_lasts_and_clears_the_stall(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.check_stalled(1).await?;
    let answer = q.extend_lock("a", "t", 900_000).await?;
    assert_eq!(answer, json!({ "kept": true }));
    q.expect("stalled", json!(null)).await
}

async fn foreign_lock_is_not_renewed(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.check_stalled(1).await?;
    for (id, token) in [("a", "other"), ("b", "t"), ("b", "0")] {
        let answer = q.extend_lock(id, token, 900_000).await?;
        assert_eq!(answer, json!({ "kept": false }));
    }
    q.expect("stalled", json!(["a"])).await
}

async fn deferral_without_the_lock_is_refused(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "a:lock"]).await?;
    let gone = json!({ "refused": -2 });
    assert_eq!(q.end("a", "t", End::Release).await?, gone);
    assert_eq!(q.end("a", "t", End::DelayUntil(q.now())).await?, gone);
    q.redis(&["SADD", "a:dependencies", "$P:q:x"]).await?;
    assert_eq!(q.end("a", "t", End::WaitForChildren).await?, gone);
    Ok(())
}
