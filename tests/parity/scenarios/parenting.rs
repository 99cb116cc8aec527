//! Children that end, and what that does to their parents: `docs/protocol.md#flows`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(everyone:
    completed_children_release_their_parent,
    prioritized_parent_is_released_by_priority,
    delayed_parent_is_released_with_its_delay,
    parent_of_a_paused_queue_is_released_quietly,
    parent_of_a_full_queue_is_released_quietly,
    released_parent_is_next,
    child_without_a_policy_keeps_its_parent_waiting,
    failing_child_fails_its_parent,
    failing_child_fails_its_delayed_parent,
    failing_child_pulls_its_parent_out_of_delayed,
    failing_child_marks_an_active_parent,
    failing_child_marks_a_waiting_parent,
    failing_child_of_a_failed_parent_is_only_recorded,
    failing_child_lets_its_parent_continue,
    ignored_children_release_their_parent,
    forgotten_children_release_their_parent,
    first_failure_of_a_child_has_no_effect,
    failure_climbs_one_level_a_start,
    removed_children_are_still_recorded,
    removed_failing_children_are_still_recorded,
    child_of_a_missing_parent_ends,
    child_with_only_a_parent_key_counts,
    retried_child_is_pending_again,
    retried_completed_child_is_pending_again,
    child_ends_twice_for_one_parent,
);

/// Makes a parent `par` in queue `p` with children in queue `c`, and goes to `c`.
async fn family(q: &mut Driver, opts: Value, children: &[&str], child_opts: Value) -> TestResult {
    q.go("p").await?;
    let children: Value = children
        .iter()
        .map(|id| {
            let mut opts = child_opts.clone();
            opts["jobId"] = (*id).into();
            json!({ "name": id, "queueName": "c", "opts": opts })
        })
        .collect();
    q.flow("par", opts, children).await?;
    q.go("c").await
}

async fn fail(q: &mut Driver, id: &str) -> TestResult {
    q.fetch_job("t", id).await?;
    q.pass(10).await?;
    q.fail(id, "t").await?;
    Ok(())
}

async fn completed_children_release_their_parent(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["other"]).await?;
    family(q, json!({}), &["k1", "k2"], json!({})).await?;
    q.work_off("k1").await?;
    q.go("p").await?;
    q.expect("par:dependencies", json!(["P:c:k2"])).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.go("c").await?;
    q.pass(50).await?;
    q.fetch_job("t", "k2").await?;
    q.end("k2", "t", End::Complete(json!(null))).await?;
    q.go("p").await?;
    q.expect("wait", json!(["other", "par"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    let values = json!({ "P:c:k1": "{\"ok\":\"k1\"}", "P:c:k2": "null" });
    q.expect("par:processed", values).await
}

async fn prioritized_parent_is_released_by_priority(q: &mut Driver) -> TestResult {
    family(q, json!({ "priority": 5, "lifo": true }), &["k"], json!({})).await?;
    q.work_off("k").await?;
    q.go("p").await?;
    q.expect("prioritized", json!(["par", "21474836481"])).await
}

async fn delayed_parent_is_released_with_its_delay(q: &mut Driver) -> TestResult {
    family(
        q,
        json!({ "delay": 5000, "priority": 2 }),
        &["k"],
        json!({}),
    )
    .await?;
    q.pass(100).await?;
    q.work_off("k").await?;
    q.go("p").await?;
    q.expect("delayed", json!(["par", "6963200020889600"]))
        .await?;
    q.expect("marker", json!(["1", "1700000005100"])).await?;
    q.pass(5000).await?;
    q.fetch_job("t", "par").await
}

async fn parent_of_a_paused_queue_is_released_quietly(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k"], json!({})).await?;
    q.go("p").await?;
    q.node("queue.pause", json!({})).await?;
    q.go("c").await?;
    q.work_off("k").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect("marker", json!(null)).await
}

async fn parent_of_a_full_queue_is_released_quietly(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k"], json!({})).await?;
    q.go("p").await?;
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 0 }))
        .await?;
    q.go("c").await?;
    q.work_off("k").await?;
    q.go("p").await?;
    q.expect("marker", json!(null)).await
}

async fn released_parent_is_next(q: &mut Driver) -> TestResult {
    let child = json!([{ "name": "k", "queueName": "q", "opts": { "jobId": "k" } }]);
    q.flow("par", json!({}), child).await?;
    q.add_all(&["other"]).await?;
    q.fetch_job("t", "k").await?;
    let next = q.end_and_fetch("k", "t", End::Complete(json!(1))).await?;
    assert_eq!(next["id"], "par");
    Ok(())
}

async fn child_without_a_policy_keeps_its_parent_waiting(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k1", "k2"], json!({})).await?;
    fail(q, "k1").await?;
    q.work_off("k2").await?;
    q.go("p").await?;
    q.expect("par:dependencies", json!(["P:c:k1"])).await?;
    q.expect("wait", json!(null)).await
}

async fn failing_child_fails_its_parent(q: &mut Driver) -> TestResult {
    let policy = json!({ "failParentOnFailure": true });
    family(q, json!({ "attempts": 5 }), &["k1", "k2"], policy).await?;
    fail(q, "k1").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    let started = q.fetch("t").await?;
    let message = started["deferred"].as_str().unwrap_or_default().to_owned();
    q.end(
        "par",
        "t",
        End::Fail {
            message,
            fatal: true,
        },
    )
    .await?;
    q.expect_field("par", "defa", json!(null)).await?;
    // The other child ends without moving anything.
    q.go("c").await?;
    fail(q, "k2").await
}

async fn failing_child_fails_its_delayed_parent(q: &mut Driver) -> TestResult {
    let policy = json!({ "failParentOnFailure": true });
    family(q, json!({ "delay": 30_000 }), &["k1"], policy).await?;
    fail(q, "k1").await?;
    q.go("p").await?;
    q.expect("wait", json!(null)).await?;
    q.expect_field("par", "delay", json!("30000")).await
}

async fn failing_child_pulls_its_parent_out_of_delayed(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    let children = json!([
        { "name": "k1", "queueName": "c", "opts": { "jobId": "k1", "continueParentOnFailure": true } },
        { "name": "k2", "queueName": "c", "opts": { "jobId": "k2", "failParentOnFailure": true } },
    ]);
    q.flow("par", json!({ "delay": 30_000 }), children).await?;
    q.go("c").await?;
    fail(q, "k1").await?;
    fail(q, "k2").await?;
    q.go("p").await?;
    q.expect("delayed", json!(null)).await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect_field("par", "delay", json!("0")).await
}

async fn failing_child_marks_an_active_parent(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["par"]).await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    let opts = json!({ "jobId": "k", "parent": { "id": "par", "queue": "$P:p" },
        "failParentOnFailure": true });
    q.add("k", opts).await?;
    fail(q, "k").await?;
    q.go("p").await?;
    q.expect_field("par", "defa", json!("child P:c:k failed"))
        .await?;
    q.expect("active", json!(["par"])).await
}

/// Wherever the parent is ready to run, it stays there.
async fn failing_child_marks_a_waiting_parent(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["plain"]).await?;
    q.add("prior", json!({ "jobId": "prior", "priority": 3 }))
        .await?;
    q.go("c").await?;
    for parent in ["plain", "prior"] {
        let id = format!("of-{parent}");
        let opts = json!({ "jobId": id, "parent": { "id": parent, "queue": "$P:p" },
            "failParentOnFailure": true });
        q.add("k", opts).await?;
        fail(q, &id).await?;
    }
    q.go("p").await?;
    q.expect("wait", json!(["plain"])).await?;
    q.expect_field("prior", "defa", json!("child P:c:of-prior failed"))
        .await
}

async fn failing_child_of_a_failed_parent_is_only_recorded(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["par"]).await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    let opts = json!({ "jobId": "k", "parent": { "id": "par", "queue": "$P:p" },
        "failParentOnFailure": true });
    q.add("k", opts).await?;
    q.go("p").await?;
    q.fail("par", "t").await?;
    q.go("c").await?;
    fail(q, "k").await?;
    q.go("p").await?;
    q.expect_field("par", "defa", json!(null)).await
}

async fn failing_child_lets_its_parent_continue(q: &mut Driver) -> TestResult {
    let policy = json!({ "continueParentOnFailure": true });
    family(q, json!({}), &["k1", "k2", "k3"], policy).await?;
    fail(q, "k1").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    q.go("c").await?;
    fail(q, "k2").await?;
    q.go("p").await?;
    q.expect("par:dependencies", json!(["P:c:k3"])).await?;
    q.fetch_job("t", "par").await?;
    let answer = q.complete("par", "t").await?;
    assert_eq!(answer, json!({ "refused": -4 }));
    Ok(())
}

async fn ignored_children_release_their_parent(q: &mut Driver) -> TestResult {
    let policy = json!({ "ignoreDependencyOnFailure": true });
    family(q, json!({ "priority": 2 }), &["k1", "k2"], policy).await?;
    fail(q, "k1").await?;
    q.go("p").await?;
    q.expect("prioritized", json!(null)).await?;
    q.go("c").await?;
    fail(q, "k2").await?;
    q.go("p").await?;
    let reasons = json!({ "P:c:k1": "k1 went wrong", "P:c:k2": "k2 went wrong" });
    q.expect("par:failed", reasons).await
}

async fn forgotten_children_release_their_parent(q: &mut Driver) -> TestResult {
    let policy = json!({ "removeDependencyOnFailure": true });
    family(q, json!({}), &["k1", "k2"], policy).await?;
    fail(q, "k1").await?;
    fail(q, "k2").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect("par:failed", json!(null)).await
}

async fn first_failure_of_a_child_has_no_effect(q: &mut Driver) -> TestResult {
    let policy = json!({ "failParentOnFailure": true, "attempts": 2 });
    family(q, json!({}), &["k"], policy).await?;
    fail(q, "k").await?;
    q.go("p").await?;
    q.expect("wait", json!(null)).await?;
    q.go("c").await?;
    fail(q, "k").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

async fn failure_climbs_one_level_a_start(q: &mut Driver) -> TestResult {
    let policy = |id: &str| json!({ "jobId": id, "failParentOnFailure": true });
    let children = json!([{ "name": "A", "queueName": "a", "opts": policy("A"), "children": [
        { "name": "X1", "queueName": "x", "opts": policy("X1") },
        { "name": "X2", "queueName": "x", "opts": policy("X2") },
    ] }]);
    for queue in ["x", "a", "r"] {
        q.go(queue).await?;
    }
    q.flow("R", json!({}), children).await?;
    q.go("x").await?;
    fail(q, "X1").await?;
    q.go("r").await?;
    q.expect("wait", json!(null)).await?;
    for (queue, id) in [("a", "A"), ("r", "R")] {
        q.go(queue).await?;
        let started = q.fetch("t").await?;
        let message = started["deferred"].as_str().unwrap_or_default().to_owned();
        q.end(
            id,
            "t",
            End::Fail {
                message,
                fatal: true,
            },
        )
        .await?;
    }
    q.expect_field("R", "failedReason", json!("child P:a:A failed"))
        .await
}

async fn removed_children_are_still_recorded(q: &mut Driver) -> TestResult {
    let opts = json!({ "removeOnComplete": true });
    family(q, json!({}), &["k1"], opts).await?;
    q.work_off("k1").await?;
    q.expect("k1", json!(null)).await?;
    q.go("p").await?;
    q.expect("par:processed", json!({ "P:c:k1": "{\"ok\":\"k1\"}" }))
        .await?;
    q.expect("wait", json!(["par"])).await
}

async fn removed_failing_children_are_still_recorded(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    for policy in [
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
        "removeDependencyOnFailure",
    ] {
        let opts = json!({ "jobId": policy, "removeOnFail": true, policy: true });
        let children = json!([{ "name": "k", "queueName": "c", "opts": opts }]);
        q.flow(&format!("of-{policy}"), json!({}), children).await?;
        q.go("c").await?;
        fail(q, policy).await?;
        q.expect(policy, json!(null)).await?;
        q.go("p").await?;
    }
    Ok(())
}

async fn child_of_a_missing_parent_ends(q: &mut Driver) -> TestResult {
    family(
        q,
        json!({}),
        &["k1", "k2"],
        json!({ "failParentOnFailure": true }),
    )
    .await?;
    q.go("p").await?;
    q.redis(&["DEL", "par"]).await?;
    q.redis(&["DEL", "waiting-children"]).await?;
    q.go("c").await?;
    q.work_off("k1").await?;
    fail(q, "k2").await
}

async fn child_with_only_a_parent_key_counts(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k"], json!({})).await?;
    q.redis(&["HDEL", "k", "parent"]).await?;
    q.work_off("k").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

async fn retried_child_is_pending_again(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let children = json!([
        { "name": "f", "queueName": "c", "opts": { "jobId": "f", "failParentOnFailure": true } },
        { "name": "i", "queueName": "c", "opts": { "jobId": "i", "ignoreDependencyOnFailure": true } },
        { "name": "r", "queueName": "c", "opts": { "jobId": "r", "removeDependencyOnFailure": true } },
        { "name": "n", "queueName": "c", "opts": { "jobId": "n" } },
    ]);
    q.flow("par", json!({}), children).await?;
    q.go("c").await?;
    for id in ["f", "i", "r", "n"] {
        fail(q, id).await?;
    }
    for id in ["f", "i", "r", "n"] {
        q.act(Step::Retry {
            id: id.to_owned(),
            completed: false,
            reset_made: false,
            reset_started: false,
        })
        .await?;
    }
    q.go("p").await?;
    q.expect("par:dependencies", json!(["P:c:f", "P:c:i", "P:c:n"]))
        .await?;
    q.expect("par:unsuccessful", json!(null)).await?;
    q.go("c").await?;
    for id in ["f", "i", "r", "n"] {
        q.work_off(id).await?;
    }
    Ok(())
}

async fn retried_completed_child_is_pending_again(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k1", "k2"], json!({})).await?;
    q.work_off("k1").await?;
    q.act(Step::Retry {
        id: "k1".to_owned(),
        completed: true,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.go("p").await?;
    q.expect("par:processed", json!(null)).await?;
    q.expect("par:dependencies", json!(["P:c:k1", "P:c:k2"]))
        .await
}

async fn child_ends_twice_for_one_parent(q: &mut Driver) -> TestResult {
    family(q, json!({}), &["k1"], json!({})).await?;
    q.work_off("k1").await?;
    q.go("p").await?;
    q.work_off("par").await?;
    q.go("c").await?;
    q.redis(&["ZREM", "completed", "k1"]).await?;
    q.redis(&["LPUSH", "wait", "k1"]).await?;
    q.work_off("k1").await?;
    q.go("p").await?;
    q.expect("wait", json!(null)).await
}
