//! What finished sets keep: `docs/protocol.md#retention`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(everyone:
    every_form_of_retention_deletes_the_same,
    every_form_applies_to_failed_jobs_too,
    age_deletes_the_newest_of_the_old_up_to_the_limit,
    old_age_goes_before_count,
    limit_of_zero_deletes_nothing_by_age,
    negative_count_keeps_all,
    job_decides_before_the_worker,
    worker_decides_where_the_job_does_not,
    pruned_job_loses_all_of_its_keys,
    pruned_children_leave_their_parent,
    removed_job_takes_its_keys_along,
    removed_child_without_policy_lets_its_parent_go_on,
    completed_child_that_is_removed_counts,
    large_set_shrinks_to_what_is_kept,
    large_set_grows_old,
);

/// Puts finished jobs into a set, a millisecond apart.
async fn finished_long_ago(q: &mut Driver, set: &str, jobs: i64) -> TestResult {
    for n in 0..jobs {
        let (id, at) = (format!("old{n}"), (q.now() - 100_000 + n).to_string());
        q.redis(&["HSET", &id, "name", "old"]).await?;
        q.redis(&["ZADD", set, &at, &id]).await?;
    }
    Ok(())
}

/// BullMQ deletes in one go, this library in bounded steps: what is left is the same.
async fn large_set_shrinks_to_what_is_kept(q: &mut Driver) -> TestResult {
    finished_long_ago(q, "completed", 650).await?;
    q.add("a", json!({ "jobId": "a", "removeOnComplete": 3 }))
        .await?;
    q.work_off("a").await?;
    let left = q.snapshot().await?.value("q:completed");
    let ids: Vec<_> = left.as_array().unwrap().iter().step_by(2).collect();
    assert_eq!(ids, ["old648", "old649", "a"]);
    Ok(())
}

async fn large_set_grows_old(q: &mut Driver) -> TestResult {
    finished_long_ago(q, "failed", 1250).await?;
    let rule = json!({ "age": 10, "count": 100 });
    q.add("a", json!({ "jobId": "a", "removeOnFail": rule }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    let left = q.snapshot().await?.value("q:failed");
    // The age deletes the newest 1000 of the old, then the number the oldest of the rest.
    assert_eq!(left.as_array().map(Vec::len), Some(200), "{left}");
    assert_eq!(left[0], "old151");
    Ok(())
}

/// Leaves three finished jobs a minute apart, the last a second ago.
async fn three_old_jobs(q: &mut Driver, fail: bool) -> TestResult {
    for id in ["old1", "old2", "old3"] {
        q.add(id, json!({ "jobId": id })).await?;
        q.fetch_job("t", id).await?;
        if fail {
            q.fail(id, "t").await?;
        } else {
            q.complete(id, "t").await?;
        }
        q.pass(60_000).await?;
    }
    q.pass(1000).await
}

fn forms() -> Vec<Value> {
    vec![
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(2),
        json!(100),
        json!({ "count": 0 }),
        json!({ "count": 2 }),
        json!({ "age": 61 }),
        json!({ "age": 60 }),
        json!({ "age": 0 }),
        json!({ "age": 1, "limit": 1 }),
        json!({ "age": 100, "count": 2 }),
        json!({}),
    ]
}

async fn every_form_of_retention_deletes_the_same(q: &mut Driver) -> TestResult {
    for (at, form) in forms().into_iter().enumerate() {
        q.go(&format!("q{at}")).await?;
        three_old_jobs(q, false).await?;
        q.add("new", json!({ "jobId": "new", "removeOnComplete": form }))
            .await?;
        q.work_off("new").await?;
    }
    Ok(())
}

async fn every_form_applies_to_failed_jobs_too(q: &mut Driver) -> TestResult {
    for (at, form) in forms().into_iter().enumerate() {
        q.go(&format!("q{at}")).await?;
        three_old_jobs(q, true).await?;
        q.add("new", json!({ "jobId": "new", "removeOnFail": form }))
            .await?;
        q.fetch_job("t", "new").await?;
        q.fail("new", "t").await?;
    }
    Ok(())
}

async fn age_deletes_the_newest_of_the_old_up_to_the_limit(q: &mut Driver) -> TestResult {
    for id in ["a0", "a1", "a2", "a3", "a4"] {
        q.add(id, json!({ "jobId": id })).await?;
        q.work_off(id).await?;
        q.pass(1000).await?;
    }
    q.pass(5000).await?;
    for id in ["b0", "b1"] {
        q.add(
            id,
            json!({ "jobId": id, "removeOnComplete": { "age": 1, "limit": 2 } }),
        )
        .await?;
        q.work_off(id).await?;
    }
    q.expect_field("a0", "name", json!("a0")).await?;
    q.expect_field("a2", "name", json!(null)).await
}

async fn old_age_goes_before_count(q: &mut Driver) -> TestResult {
    three_old_jobs(q, false).await?;
    q.add(
        "new",
        json!({ "jobId": "new", "removeOnComplete": { "age": 120, "count": 2, "limit": 5 } }),
    )
    .await?;
    q.work_off("new").await
}

async fn limit_of_zero_deletes_nothing_by_age(q: &mut Driver) -> TestResult {
    three_old_jobs(q, false).await?;
    q.add(
        "new",
        json!({ "jobId": "new", "removeOnComplete": { "age": 1, "limit": 0 } }),
    )
    .await?;
    q.work_off("new").await
}

async fn negative_count_keeps_all(q: &mut Driver) -> TestResult {
    three_old_jobs(q, false).await?;
    q.node_add("a", json!({ "jobId": "a", "removeOnComplete": -1 }))
        .await?;
    q.node_add(
        "b",
        json!({ "jobId": "b", "removeOnComplete": { "count": -5 } }),
    )
    .await?;
    q.work_off("a").await?;
    q.work_off("b").await
}

async fn job_decides_before_the_worker(q: &mut Driver) -> TestResult {
    q.worker("tidy", json!({ "removeOnComplete": { "count": 1 } }));
    for id in ["a", "b"] {
        q.add(id, json!({ "jobId": id, "removeOnComplete": false }))
            .await?;
        q.work_off(id).await?;
    }
    q.add("c", json!({ "jobId": "c", "removeOnComplete": 2 }))
        .await?;
    q.work_off("c").await
}

async fn worker_decides_where_the_job_does_not(q: &mut Driver) -> TestResult {
    q.worker(
        "tidy",
        json!({ "removeOnComplete": { "count": 1 }, "removeOnFail": { "age": 0 } }),
    );
    for id in ["a", "b", "c"] {
        q.add(id, json!({ "jobId": id })).await?;
        q.pass(10).await?;
        q.work_off(id).await?;
    }
    q.add("d", json!({ "jobId": "d" })).await?;
    q.fetch_job("t", "d").await?;
    q.fail("d", "t").await?;
    q.expect("failed", json!(null)).await?;
    q.expect("completed", json!(["c", "1700000000030"])).await
}

async fn pruned_job_loses_all_of_its_keys(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a" })).await?;
    q.act(Step::Log {
        id: "a".into(),
        row: "one".into(),
        keep: 0,
    })
    .await?;
    q.redis(&["HSET", "a:processed", "x", "1"]).await?;
    q.redis(&["HSET", "a:failed", "x", "1"]).await?;
    q.work_off("a").await?;
    q.pass(10).await?;
    q.add("b", json!({ "jobId": "b", "removeOnComplete": 1 }))
        .await?;
    q.work_off("b").await?;
    q.expect("a:logs", json!(null)).await
}

async fn pruned_children_leave_their_parent(q: &mut Driver) -> TestResult {
    let child = |id: &str, opts: Value| {
        let mut opts = opts;
        opts["jobId"] = id.into();
        json!({ "name": id, "queueName": "q", "data": {}, "opts": opts })
    };
    q.flow(
        "par",
        json!({}),
        json!([child("k1", json!({})), child("k2", json!({}))]),
    )
    .await?;
    q.fetch_job("t", "k1").await?;
    q.fail("k1", "t").await?;
    q.pass(10).await?;
    q.fetch_job("t", "k2").await?;
    q.complete("k2", "t").await?;
    // Both have ended; the failed one is still pending until retention deletes it.
    q.add("last", json!({ "jobId": "last", "removeOnFail": 1 }))
        .await?;
    q.fetch_job("t", "last").await?;
    q.fail("last", "t").await?;
    q.expect("waiting-children", json!(null)).await
}

async fn removed_job_takes_its_keys_along(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "removeOnComplete": true }))
        .await?;
    q.act(Step::Log {
        id: "a".into(),
        row: "one".into(),
        keep: 0,
    })
    .await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::Complete(json!(1))).await?;
    q.expect("completed", json!(null)).await?;
    q.expect("a", json!(null)).await
}

async fn removed_child_without_policy_lets_its_parent_go_on(q: &mut Driver) -> TestResult {
    let child = json!({ "name": "k", "queueName": "q", "data": {},
        "opts": { "jobId": "k", "removeOnFail": true } });
    q.flow("par", json!({ "priority": 3, "delay": 50 }), json!([child]))
        .await?;
    q.fetch_job("t", "k").await?;
    q.fail("k", "t").await?;
    q.expect("wait", json!(["par"])).await
}

async fn completed_child_that_is_removed_counts(q: &mut Driver) -> TestResult {
    let child = json!({ "name": "k", "queueName": "q", "data": {},
        "opts": { "jobId": "k", "removeOnComplete": true } });
    q.flow("par", json!({}), json!([child])).await?;
    q.fetch_job("t", "k").await?;
    q.complete("k", "t").await?;
    q.work_off("par").await
}
