//! Adds under a deduplication id.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(own:
    odd_deduplication_key_does_not_keep_a_job_from_ending,
    odd_deduplication_key_does_not_keep_a_job_from_leaving,
    replaced_job_leaves_its_parent,
    owner_that_has_ended_does_not_block_its_id,
    kept_add_overwrites_no_job,
    kept_add_waits_for_its_own_owner,
    long_numbers_in_kept_adds_stay_exact,
    odd_deduplication_keys_stop_a_bulk_before_it_begins,
);

async fn odd_deduplication_key_does_not_keep_a_job_from_ending(q: &mut Driver) -> TestResult {
    q.node_add("a", json!({ "jobId": "a", "deduplication": { "id": "k" } }))
        .await?;
    q.redis(&["DEL", "de:k"]).await?;
    q.redis(&["HSET", "de:k", "odd", "1"]).await?;
    q.work_off("a").await?;
    q.expect("completed", json!(["a", "1700000000000"])).await
}

async fn odd_deduplication_key_does_not_keep_a_job_from_leaving(q: &mut Driver) -> TestResult {
    for id in ["a", "b"] {
        q.add(id, json!({ "jobId": id, "deduplication": { "id": id } }))
            .await?;
        let key = format!("de:{id}");
        q.redis(&["DEL", &key]).await?;
        q.redis(&["HSET", &key, "odd", "1"]).await?;
    }
    let (id, children) = ("a".to_owned(), true);
    q.act(Step::Remove { id, children }).await?;
    q.act(Step::Drain { delayed: false }).await?;
    q.expect("a", json!(null)).await?;
    q.expect("b", json!(null)).await
}

/// An add of BullMQ can take the time limit off an owner that has ended, which then nothing frees.
async fn owner_that_has_ended_does_not_block_its_id(q: &mut Driver) -> TestResult {
    let timed = json!({ "id": "k", "ttl": 90_000 });
    q.add("a", json!({ "jobId": "a", "deduplication": timed }))
        .await?;
    q.work_off("a").await?;
    let taking = json!({ "id": "k", "ttl": 90_000, "extend": true, "keepLastIfActive": true });
    let node = q.node_add("b", json!({ "deduplication": taking })).await?;
    assert_eq!(node, "a");
    let ours = q
        .add("c", json!({ "jobId": "c", "deduplication": timed }))
        .await?;
    assert_eq!(ours, "c");
    q.expect("de:k", json!("c")).await
}

/// A parent must not wait for a child that was deleted.
async fn replaced_job_leaves_its_parent(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "replace": true });
    q.add(
        "a",
        json!({ "jobId": "a", "delay": 60_000, "deduplication": dedup }),
    )
    .await?;
    q.add_all(&["par"]).await?;
    q.add(
        "a",
        json!({ "jobId": "a", "parent": { "queue": "$P:q", "id": "par" } }),
    )
    .await?;
    q.fetch_job("t", "par").await?;
    q.end("par", "t", End::WaitForChildren).await?;
    q.add(
        "b",
        json!({ "jobId": "b", "delay": 60_000, "deduplication": dedup }),
    )
    .await?;
    q.expect("waiting-children", json!(null)).await?;
    q.work_off("par").await
}

/// The id that a kept add was to have belongs to another job by now.
async fn kept_add_overwrites_no_job(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    q.add("own", json!({ "jobId": "own", "deduplication": dedup }))
        .await?;
    q.fetch_job("t", "own").await?;
    q.add("kept", json!({ "jobId": "cust", "deduplication": dedup }))
        .await?;
    q.add("other", json!({ "jobId": "cust" })).await?;
    q.complete("own", "t").await?;
    q.expect("wait", json!(["4", "cust"])).await?;
    q.expect_field("cust", "name", json!("other")).await?;
    q.expect_field("4", "name", json!("kept")).await?;
    q.expect("de:k", json!("4")).await
}

/// A job that owned the id before ends while its present owner runs.
async fn kept_add_waits_for_its_own_owner(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    q.add("old", json!({ "jobId": "old", "deduplication": dedup }))
        .await?;
    q.fetch_job("t", "old").await?;
    let (id, owner) = ("k".to_owned(), None);
    q.act(Step::ReleaseDeduplication { id, owner }).await?;
    q.add("own", json!({ "jobId": "own", "deduplication": dedup }))
        .await?;
    q.fetch_job("t", "own").await?;
    q.add("kept", json!({ "jobId": "kept", "deduplication": dedup }))
        .await?;
    q.complete("old", "t").await?;
    q.expect("de:k", json!("own")).await?;
    q.expect("wait", json!(null)).await?;
    q.complete("own", "t").await?;
    q.expect("wait", json!(["kept"])).await?;
    q.expect("de:k", json!("kept")).await
}

async fn long_numbers_in_kept_adds_stay_exact(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    q.add("own", json!({ "jobId": "own", "deduplication": dedup }))
        .await?;
    q.fetch_job("t", "own").await?;
    let delay = 123_456_789_012_345u64;
    q.add(
        "kept",
        json!({ "jobId": "kept", "delay": delay, "deduplication": dedup }),
    )
    .await?;
    q.complete("own", "t").await?;
    q.expect_field("kept", "delay", json!("123456789012345"))
        .await?;
    let job = q.node("queue.getJob", json!({ "id": "kept" })).await?;
    assert_eq!(job["opts"]["delay"], delay);
    Ok(())
}

/// A script error rolls nothing back, so it must come before the first write.
async fn odd_deduplication_keys_stop_a_bulk_before_it_begins(q: &mut Driver) -> TestResult {
    for key in ["de:k", "dn:k", "active"] {
        q.redis(&["DEL", "de:k"]).await?;
        q.redis(&["XADD", key, "*", "odd", "1"]).await?;
        let before = q.snapshot().await?;
        let dedup = json!({ "deduplication": { "id": "k", "keepLastIfActive": true } });
        let jobs = [("plain", json!({})), ("odd", dedup)];
        assert!(q.add_bulk(&jobs).await.is_err());
        assert_eq!(q.snapshot().await?.difference(&before), None);
        q.redis(&["DEL", key]).await?;
    }
    Ok(())
}
