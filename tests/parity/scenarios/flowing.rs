//! Flows that are added: `docs/protocol.md#adding-flows`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(everyone:
    flow_spans_two_queues,
    flow_of_three_levels_is_stored_level_by_level,
    every_job_may_have_a_prefix,
    defaults_apply_by_queue,
    every_policy_is_stored,
    children_go_where_their_options_say,
    parents_keep_their_options_for_their_release,
    root_joins_an_existing_parent,
    root_of_a_missing_parent_is_refused,
    many_flows_are_stored_level_by_level,
    flow_without_children_is_a_job,
    paused_and_full_queues_take_flows_quietly,
    existing_child_joins_its_parent,
    existing_child_of_a_dead_parent_joins_another,
    existing_failed_child_becomes_pending,
    existing_completed_child_counts,
    existing_completed_children_release_their_parent,
    existing_completed_children_release_a_delayed_parent,
    existing_completed_root_releases_its_parent,
    existing_parent_gets_further_children,
    flow_may_be_added_twice,
    flow_runs_from_its_leaves_to_its_root,
);

/// A job of a flow, with the given id as its name.
fn job(queue: &str, id: &str, opts: Value) -> Value {
    let mut opts = opts;
    opts["jobId"] = id.into();
    json!({ "name": id, "queueName": queue, "data": { "n": id }, "opts": opts })
}

/// The same with children.
fn parent(queue: &str, id: &str, opts: Value, children: Value) -> Value {
    let mut job = job(queue, id, opts);
    job["children"] = children;
    job
}

fn plain(queue: &str, id: &str) -> Value {
    job(queue, id, json!({}))
}

async fn open(both: &mut Driver) -> TestResult {
    both.go("c").await?;
    both.go("p").await
}

async fn flow_spans_two_queues(q: &mut Driver) -> TestResult {
    open(q).await?;
    let children = json!([plain("c", "k1"), plain("c", "k2"), plain("p", "k3")]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.expect("root:dependencies", json!(["P:c:k1", "P:c:k2", "P:p:k3"]))
        .await?;
    q.expect("wait", json!(["k3"])).await
}

async fn flow_of_three_levels_is_stored_level_by_level(q: &mut Driver) -> TestResult {
    open(q).await?;
    let a1 = parent("p", "a1", json!({}), json!([plain("p", "a1x")]));
    let children = json!([
        parent("p", "a", json!({}), json!([a1, plain("p", "a2")])),
        parent(
            "p",
            "b",
            json!({}),
            json!([plain("p", "b1"), plain("p", "b2")])
        ),
        plain("p", "c"),
    ]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.expect("wait", json!(["a1x", "b2", "b1", "a2", "c"]))
        .await
}

async fn every_job_may_have_a_prefix(q: &mut Driver) -> TestResult {
    open(q).await?;
    let mut middle = parent("c", "mid", json!({}), json!([plain("c", "leaf")]));
    middle["prefix"] = "$P:other".into();
    q.add_flow(parent("p", "root", json!({}), json!([middle])))
        .await?;
    q.expect("root:dependencies", json!(["P:other:c:mid"]))
        .await
}

async fn defaults_apply_by_queue(q: &mut Driver) -> TestResult {
    open(q).await?;
    let defaults = json!({
        "p": { "attempts": 7, "priority": 3 },
        "c": { "removeOnComplete": true, "attempts": 9, "backoff": 500 },
    });
    let children = json!([plain("c", "k"), job("c", "l", json!({ "attempts": 1 }))]);
    let flow = parent("p", "root", json!({ "attempts": 2 }), children);
    q.add_flow_with(flow, defaults).await.map(drop)
}

async fn every_policy_is_stored(q: &mut Driver) -> TestResult {
    open(q).await?;
    let children = json!([
        plain("c", "wait1"),
        job("c", "fail", json!({ "failParentOnFailure": true })),
        job("c", "continue", json!({ "continueParentOnFailure": true })),
        job("c", "ignore", json!({ "ignoreDependencyOnFailure": true })),
        job("c", "remove", json!({ "removeDependencyOnFailure": true })),
    ]);
    q.add_flow(parent("p", "root", json!({}), children))
        .await
        .map(drop)
}

async fn children_go_where_their_options_say(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["old"]).await?;
    let children = json!([
        job("c", "late", json!({ "delay": 5000 })),
        job("c", "late2", json!({ "delay": 5000, "priority": 2 })),
        job("c", "first", json!({ "lifo": true })),
        job("c", "low", json!({ "priority": 5 })),
        job("c", "low2", json!({ "priority": 5, "lifo": true })),
        job("c", "then", json!({ "timestamp": 1_600_000_000_000u64 })),
        plain("c", "last"),
    ]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.expect("wait", json!(["last", "then", "old", "first"]))
        .await
}

async fn parents_keep_their_options_for_their_release(q: &mut Driver) -> TestResult {
    open(q).await?;
    let kid = |id: &str| json!([plain("c", id)]);
    let options = [
        ("late", json!({ "delay": 5000 })),
        ("low", json!({ "priority": 5 })),
        ("first", json!({ "lifo": true })),
    ];
    for (id, opts) in options {
        q.add_flow(parent("p", id, opts, kid(&format!("{id}-kid"))))
            .await?;
    }
    q.go("c").await?;
    for id in ["late-kid", "low-kid", "first-kid"] {
        q.work_off(id).await?;
    }
    Ok(())
}

async fn root_joins_an_existing_parent(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.add_all(&["top"]).await?;
    q.fetch_job("t", "top").await?;
    let opts = json!({ "parent": { "id": "top", "queue": "$P:p" }, "failParentOnFailure": true });
    q.add_flow(parent("c", "mid", opts, json!([plain("c", "leaf")])))
        .await?;
    q.expect("top:dependencies", json!(["P:c:mid"])).await?;
    q.end("top", "t", End::WaitForChildren).await?;
    q.go("c").await?;
    q.work_off("leaf").await?;
    q.work_off("mid").await?;
    q.go("p").await?;
    q.expect("wait", json!(["top"])).await
}

async fn root_of_a_missing_parent_is_refused(q: &mut Driver) -> TestResult {
    open(q).await?;
    let opts = json!({ "parent": { "id": "nobody", "queue": "$P:p" } });
    let flow = parent("c", "mid", opts, json!([plain("c", "leaf")]));
    let answer = q.add_flow(flow).await?;
    assert_eq!(answer, json!({ "refused": -5 }));
    Ok(())
}

async fn many_flows_are_stored_level_by_level(q: &mut Driver) -> TestResult {
    open(q).await?;
    let flows = vec![
        parent("p", "r1", json!({}), json!([plain("p", "k1")])),
        parent(
            "p",
            "r2",
            json!({}),
            json!([plain("p", "k2"), plain("c", "k3")]),
        ),
        plain("p", "r3"),
    ];
    q.act(Step::AddFlows(flows)).await?;
    q.act(Step::AddFlows(Vec::new())).await?;
    q.expect("wait", json!(["k2", "k1", "r3"])).await
}

async fn flow_without_children_is_a_job(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.add_flow(job("p", "a", json!({ "delay": 50 }))).await?;
    q.add_flow(parent("p", "b", json!({}), json!([])))
        .await
        .map(drop)
}

async fn paused_and_full_queues_take_flows_quietly(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.act(Step::Pause).await?;
    q.go("c").await?;
    q.limit(crate::step::Limit::SetConcurrency(1)).await?;
    q.add_all(&["running"]).await?;
    q.fetch_job("t", "running").await?;
    q.redis(&["DEL", "marker"]).await?;
    let children = json!([
        plain("c", "k1"),
        job("c", "k2", json!({ "priority": 1 })),
        job("c", "k3", json!({ "delay": 100 })),
        plain("p", "k4"),
    ]);
    q.add_flow(parent("p", "root", json!({}), children))
        .await
        .map(drop)
}

async fn existing_child_joins_its_parent(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["k1", "k2"]).await?;
    q.pass(10).await?;
    let children = json!([
        job(
            "c",
            "k1",
            json!({ "failParentOnFailure": true, "delay": 10 })
        ),
        plain("c", "k3"),
    ]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.work_off("k1").await
}

async fn existing_child_of_a_dead_parent_joins_another(q: &mut Driver) -> TestResult {
    open(q).await?;
    let children = json!([job("c", "k1", json!({ "failParentOnFailure": true }))]);
    q.add_flow(parent("p", "old", json!({}), children)).await?;
    q.redis(&["DEL", "old"]).await?;
    q.pass(10).await?;
    let children = json!([job("c", "k1", json!({ "ignoreDependencyOnFailure": true }))]);
    q.add_flow(parent("p", "new", json!({}), children))
        .await
        .map(drop)
}

async fn existing_failed_child_becomes_pending(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["k1"]).await?;
    q.fetch_job("t", "k1").await?;
    q.fail("k1", "t").await?;
    q.pass(10).await?;
    q.add_flow(parent("p", "root", json!({}), json!([plain("c", "k1")])))
        .await?;
    q.go("p").await?;
    q.expect("root:dependencies", json!(["P:c:k1"])).await
}

async fn existing_completed_child_counts(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["done"]).await?;
    q.work_off("done").await?;
    q.pass(10).await?;
    let children = json!([plain("c", "done"), plain("c", "fresh")]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.go("p").await?;
    q.expect("root:processed", json!({ "P:c:done": "{\"ok\":\"done\"}" }))
        .await?;
    q.expect("root:dependencies", json!(["P:c:fresh"])).await
}

async fn existing_completed_children_release_their_parent(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["d1", "d2"]).await?;
    q.work_off("d1").await?;
    q.work_off("d2").await?;
    q.pass(10).await?;
    let children = json!([plain("c", "d1"), plain("c", "d2")]);
    let middle = parent("p", "mid", json!({ "priority": 4 }), children);
    q.add_flow(parent("p", "root", json!({}), json!([middle])))
        .await?;
    q.go("p").await?;
    q.expect("prioritized", json!(["mid", "17179869185"])).await
}

async fn existing_completed_children_release_a_delayed_parent(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.go("c").await?;
    q.add_all(&["d1"]).await?;
    q.work_off("d1").await?;
    q.pass(10).await?;
    let opts = json!({ "delay": 1000, "timestamp": 1_600_000_000_000u64 });
    q.add_flow(parent("p", "root", opts, json!([plain("c", "d1")])))
        .await
        .map(drop)
}

async fn existing_completed_root_releases_its_parent(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.add_flow(parent("p", "top", json!({}), json!([plain("c", "gone")])))
        .await?;
    q.go("c").await?;
    q.add_all(&["mid"]).await?;
    q.redis(&["LREM", "wait", "0", "gone"]).await?;
    q.work_off("mid").await?;
    q.go("p").await?;
    q.redis(&["DEL", "top:dependencies"]).await?;
    let opts = json!({ "parent": { "id": "top", "queue": "$P:p" } });
    q.add_flow(parent("c", "mid", opts, json!([plain("c", "leaf")])))
        .await?;
    q.expect("wait", json!(["top"])).await
}

async fn existing_parent_gets_further_children(q: &mut Driver) -> TestResult {
    open(q).await?;
    q.add_all(&["par"]).await?;
    q.pass(10).await?;
    q.add_flow(parent("p", "par", json!({}), json!([plain("c", "k1")])))
        .await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect("par:dependencies", json!(["P:c:k1"])).await
}

async fn flow_may_be_added_twice(q: &mut Driver) -> TestResult {
    open(q).await?;
    let flow = || {
        let children = json!([plain("c", "k1"), plain("c", "k2")]);
        parent("p", "root", json!({}), children)
    };
    q.add_flow(flow()).await?;
    q.go("c").await?;
    q.work_off("k1").await?;
    q.pass(10).await?;
    q.add_flow(flow()).await.map(drop)
}

async fn flow_runs_from_its_leaves_to_its_root(q: &mut Driver) -> TestResult {
    open(q).await?;
    let middle = parent(
        "p",
        "mid",
        json!({}),
        json!([plain("c", "k1"), plain("c", "k2")]),
    );
    let children = json!([middle, plain("c", "k3")]);
    q.add_flow(parent("p", "root", json!({}), children)).await?;
    q.go("c").await?;
    for id in ["k3", "k1", "k2"] {
        q.pass(10).await?;
        q.work_off(id).await?;
    }
    q.go("p").await?;
    q.work_off("mid").await?;
    q.work_off("root").await
}
