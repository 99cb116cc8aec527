//! The end of deduplicated jobs that BullMQ added: `docs/protocol.md#deduplication`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;

scenarios!(everyone:
    completed_owner_frees_its_id,
    failed_owner_frees_its_id,
    retried_owner_keeps_its_id,
    id_with_a_time_limit_stays_until_it_passes,
    id_of_another_owner_stays,
    pruned_owner_keeps_its_id,
    waiting_add_follows_its_owner,
    waiting_delayed_add_follows_its_owner,
    waiting_prioritized_add_follows_its_owner,
    waiting_lifo_add_follows_its_owner,
    waiting_add_follows_on_a_paused_queue,
    waiting_add_with_odd_numbers_follows_its_owner,
    waiting_add_is_next_for_its_owner_s_worker,
    waiting_add_wakes_a_worker,
    waiting_add_claims_its_id_for_a_time,
    waiting_child_joins_its_parent,
);

async fn add(q: &mut Driver, id: &str, dedup: Value) -> TestResult {
    q.node_add(id, json!({ "jobId": id, "deduplication": dedup }))
        .await?;
    Ok(())
}

async fn completed_owner_frees_its_id(q: &mut Driver) -> TestResult {
    add(q, "a", json!({ "id": "k" })).await?;
    add(q, "b", json!({ "id": "k" })).await?;
    q.work_off("a").await?;
    q.expect("de:k", json!(null)).await?;
    add(q, "c", json!({ "id": "k" })).await?;
    q.expect("de:k", json!("c")).await
}

async fn failed_owner_frees_its_id(q: &mut Driver) -> TestResult {
    add(q, "a", json!({ "id": "a:b" })).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("de:a:b", json!(null)).await
}

async fn retried_owner_keeps_its_id(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "a", "attempts": 2, "deduplication": { "id": "k" } });
    q.node_add("a", opts).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("de:k", json!("a")).await
}

async fn id_with_a_time_limit_stays_until_it_passes(q: &mut Driver) -> TestResult {
    add(q, "a", json!({ "id": "k", "ttl": 90_000 })).await?;
    q.work_off("a").await?;
    q.expect("de:k", json!("a")).await?;
    add(q, "b", json!({ "id": "k", "ttl": 90_000 })).await?;
    q.expect("b", json!(null)).await
}

async fn id_of_another_owner_stays(q: &mut Driver) -> TestResult {
    add(q, "a", json!({ "id": "k" })).await?;
    q.redis(&["SET", "de:k", "other"]).await?;
    q.work_off("a").await?;
    q.expect("de:k", json!("other")).await
}

async fn pruned_owner_keeps_its_id(q: &mut Driver) -> TestResult {
    add(q, "a", json!({ "id": "k", "ttl": 90_000 })).await?;
    q.work_off("a").await?;
    q.add("b", json!({ "jobId": "b", "removeOnComplete": 1 }))
        .await?;
    q.work_off("b").await?;
    q.expect("a", json!(null)).await?;
    q.expect("de:k", json!("a")).await
}

/// Starts an owner, then adds `opts` under its id, which has to wait; ends the owner.
async fn follow(q: &mut Driver, opts: Value) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    add(q, "own", dedup.clone()).await?;
    q.fetch_job("t", "own").await?;
    let mut opts = opts;
    opts["deduplication"] = dedup;
    q.node_add("waits", opts).await?;
    q.expect("de:k", json!("own")).await?;
    q.pass(25).await?;
    q.complete("own", "t").await?;
    q.expect("dn:k", json!(null)).await
}

async fn waiting_add_follows_its_owner(q: &mut Driver) -> TestResult {
    q.add_all(&["older"]).await?;
    q.redis(&["DEL", "wait"]).await?;
    follow(q, json!({ "jobId": "cust", "attempts": 3 })).await?;
    q.expect("wait", json!(["cust"])).await?;
    q.expect("de:k", json!("cust")).await?;
    q.work_off("cust").await
}

async fn waiting_delayed_add_follows_its_owner(q: &mut Driver) -> TestResult {
    follow(q, json!({ "delay": 5000 })).await?;
    q.expect("de:k", json!("2")).await
}

async fn waiting_prioritized_add_follows_its_owner(q: &mut Driver) -> TestResult {
    follow(q, json!({ "priority": 3 })).await?;
    q.expect("prioritized", json!(["2", "12884901889"])).await
}

async fn waiting_lifo_add_follows_its_owner(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    add(q, "own", dedup.clone()).await?;
    q.add_all(&["other"]).await?;
    q.fetch_job("t", "own").await?;
    q.node_add("waits", json!({ "lifo": true, "deduplication": dedup }))
        .await?;
    q.fail("own", "t").await?;
    q.fetch_job("t", "3").await
}

async fn waiting_add_follows_on_a_paused_queue(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    add(q, "own", dedup.clone()).await?;
    q.fetch_job("t", "own").await?;
    q.node_add("waits", json!({ "deduplication": dedup }))
        .await?;
    q.node("queue.pause", json!({})).await?;
    q.complete("own", "t").await?;
    q.expect("wait", json!(["2"])).await?;
    q.expect("marker", json!(null)).await
}

async fn waiting_add_with_odd_numbers_follows_its_owner(q: &mut Driver) -> TestResult {
    follow(q, json!({ "priority": -1 })).await?;
    q.expect("wait", json!(["2"])).await?;
    q.work_off("2").await?;
    q.redis(&["DEL", "own"]).await?;
    follow(q, json!({ "delay": -5 })).await
}

async fn waiting_add_is_next_for_its_owner_s_worker(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    add(q, "own", dedup.clone()).await?;
    q.fetch_job("t", "own").await?;
    let opts = json!({ "jobId": "cust", "deduplication": dedup });
    q.node_add("waits", opts).await?;
    let end = crate::step::End::Complete(json!(1));
    let next = q.end_and_fetch("own", "t", end).await?;
    assert_eq!(next["id"], "cust");
    Ok(())
}

async fn waiting_add_wakes_a_worker(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "keepLastIfActive": true });
    add(q, "own", dedup.clone()).await?;
    q.fetch_job("t", "own").await?;
    q.node_add("waits", json!({ "deduplication": dedup }))
        .await?;
    q.redis(&["DEL", "marker"]).await?;
    q.complete("own", "t").await?;
    q.expect("marker", json!(["0", "0"])).await
}

/// Starts an owner and ends it with a stored add that no current call makes.
async fn follow_stored(q: &mut Driver, fields: &[&str]) -> TestResult {
    add(q, "own", json!({ "id": "k" })).await?;
    q.fetch_job("t", "own").await?;
    let mut command = vec!["HSET", "dn:k", "name", "stored", "data", "{}"];
    command.extend(fields);
    q.redis(&command).await?;
    q.complete("own", "t").await?;
    q.expect("dn:k", json!(null)).await
}

async fn waiting_add_claims_its_id_for_a_time(q: &mut Driver) -> TestResult {
    let opts = r#"{"attempts":0,"de":{"id":"k","ttl":90000}}"#;
    follow_stored(q, &["opts", opts, "jid", "s"]).await?;
    q.expect("de:k", json!("s")).await
}

async fn waiting_child_joins_its_parent(q: &mut Driver) -> TestResult {
    q.add_all(&["par"]).await?;
    q.redis(&["DEL", "wait"]).await?;
    let link = r#"{"id":"par","queueKey":"$P:q"}"#;
    let opts = r#"{"attempts":0,"de":{"id":"k","keepLastIfActive":true}}"#;
    let parent = ["pk", "$P:q:par", "pd", link, "pdk", "$P:q:par:dependencies"];
    let mut fields = vec!["opts", opts, "jid", "s"];
    fields.extend(parent);
    follow_stored(q, &fields).await?;
    q.expect("par:dependencies", json!(["P:q:s"])).await?;
    q.expect_field("s", "parentKey", json!("P:q:par")).await
}
