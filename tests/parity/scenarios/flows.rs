//! What parents know of their children, and what separates them: `docs/protocol.md#flows`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, FlowStep, Step};

scenarios!(everyone:
    parents_know_what_became_of_their_children,
    children_of_a_missing_parent_are_unknown,
    flow_is_read_over_queues_and_prefixes,
    flow_shows_removed_children_as_missing,
    handlers_read_the_results_of_their_children,
    handler_adds_children_and_waits_for_their_results,
    handler_continues_without_the_other_children,
    every_policy_moves_three_levels,
    unlinked_child_lets_its_parent_go,
    unlinked_child_leaves_the_others_pending,
    child_without_a_parent_cannot_be_unlinked,
    unprocessed_children_are_removed,
    unprocessed_children_take_their_own_along,
    unprocessed_children_that_are_gone_free_their_parent,
    many_unprocessed_children_are_removed,
    nothing_unprocessed_is_removed_from_a_missing_parent,
);

fn children(id: &str) -> Step {
    Step::Flow(FlowStep::Children { id: id.to_owned() })
}

fn tree(id: &str, depth: u32) -> Step {
    Step::Flow(FlowStep::Tree {
        id: id.to_owned(),
        depth,
        max_children: 20,
    })
}

fn remove_unprocessed(id: &str) -> Step {
    Step::Flow(FlowStep::RemoveUnprocessed { id: id.to_owned() })
}

fn unlink(id: &str) -> Step {
    Step::Flow(FlowStep::Unlink { id: id.to_owned() })
}

/// A child for `flow`, in a queue, with options and children.
fn node(id: &str, queue: &str, mut opts: Value, children: Value) -> Value {
    opts["jobId"] = id.into();
    let mut node = json!({ "name": id, "queueName": queue, "opts": opts });
    node["children"] = children;
    node
}

fn leaf(id: &str, queue: &str, opts: Value) -> Value {
    node(id, queue, opts, json!([]))
}

async fn fail(q: &mut Driver, id: &str) -> TestResult {
    q.fetch_job("t", id).await?;
    q.pass(10).await?;
    q.fail(id, "t").await?;
    Ok(())
}

/// A parent `par` in `p` with children of every kind in `c`: done, nothing (no result), failed, ignored,
/// removed, kept (failed without a policy), left.
async fn every_kind(both: &mut Driver) -> TestResult {
    both.go("c").await?;
    both.go("p").await?;
    let family = json!([
        leaf("done", "c", json!({ "removeOnComplete": true })),
        leaf("nothing", "c", json!({})),
        leaf("broken", "c", json!({ "failParentOnFailure": true })),
        leaf("ignored", "c", json!({ "ignoreDependencyOnFailure": true })),
        leaf("removed", "c", json!({ "removeDependencyOnFailure": true })),
        leaf("kept", "c", json!({})),
        leaf("left", "c", json!({})),
    ]);
    both.flow("par", json!({}), family).await?;
    both.go("c").await?;
    both.work_off("done").await?;
    both.fetch_job("t", "nothing").await?;
    both.end("nothing", "t", End::Complete(json!(null))).await?;
    for id in ["broken", "ignored", "removed", "kept"] {
        fail(both, id).await?;
    }
    both.go("p").await
}

async fn parents_know_what_became_of_their_children(q: &mut Driver) -> TestResult {
    every_kind(q).await?;
    let known = q.act(children("par")).await?;
    let known = q.neutral(known);
    let all = json!({
        "processed": { "P:c:done": { "ok": "done" }, "P:c:nothing": null },
        "unprocessed": ["P:c:kept", "P:c:left"], "failed": ["P:c:broken"],
        "ignored": { "P:c:ignored": "ignored went wrong" },
    });
    assert_eq!(known["all"], all);
    assert_eq!(known["values"], all["processed"]);
    assert_eq!(known["ignored"], all["ignored"]);
    let counts = json!({ "processed": 2.0, "unprocessed": 2.0, "failed": 1.0, "ignored": 1.0 });
    assert_eq!(known["counts"], counts);
    q.go("c").await?;
    // A job that has none.
    q.act(children("left")).await?;
    Ok(())
}

async fn children_of_a_missing_parent_are_unknown(q: &mut Driver) -> TestResult {
    assert_eq!(q.act(children("nobody")).await?, json!({ "refused": -1 }));
    assert_eq!(q.act(tree("nobody", 10)).await?, json!(null));
    Ok(())
}

async fn flow_is_read_over_queues_and_prefixes(q: &mut Driver) -> TestResult {
    let mut far = leaf("far", "c", json!({}));
    far["prefix"] = json!("$P:zz");
    let family = json!([
        node(
            "mid",
            "c",
            json!({}),
            json!([leaf("low", "q", json!({})), far])
        ),
        leaf("k", "c", json!({})),
    ]);
    q.go("c").await?;
    q.go("q").await?;
    q.flow("par", json!({}), family).await?;
    q.go("c").await?;
    q.work_off("k").await?;
    q.go("q").await?;
    for depth in 1..=4 {
        let flow = q.act(tree("par", depth)).await?;
        let levels = 1 + usize::from(flow["children"] != json!([]));
        assert_eq!(levels, depth.min(2) as usize);
    }
    let flow = q.act(tree("par", 3)).await?;
    let text = q.neutral(flow).to_string();
    assert!(text.contains("P:zz") && text.contains("far"), "{text}");
    Ok(())
}

async fn flow_shows_removed_children_as_missing(q: &mut Driver) -> TestResult {
    every_kind(q).await?;
    let flow = q.act(tree("par", 10)).await?;
    let shown = flow["children"].as_array().map_or(0, Vec::len);
    let missing = flow["children"].as_array().into_iter().flatten();
    assert_eq!(shown, 6);
    assert_eq!(missing.filter(|child| child.is_null()).count(), 1);
    Ok(())
}

/// What the handlers of a parent that Node added can read.
async fn handlers_read_the_results_of_their_children(q: &mut Driver) -> TestResult {
    let family = json!([
        leaf("a", "q", json!({})),
        leaf("b", "q", json!({ "ignoreDependencyOnFailure": true })),
        leaf("c", "q", json!({ "removeOnComplete": true })),
    ]);
    q.flow("par", json!({}), family).await?;
    q.add("other", json!({ "jobId": "other" })).await?;
    q.work(json!({
        "a": [[["return", { "n": 5 }]]], "b": [[["fail", "sick"]]],
        "c": [[["return", "text"]]], "par": [[["values"]]], "other": [[["values"]]],
    }))
    .await?;
    let values = q.snapshot().await?.value("q:par");
    let values = values["returnvalue"].to_string();
    assert!(
        values.contains("{\"n\":5") || values.contains("\\\"n\\\""),
        "{values}"
    );
    Ok(())
}

async fn handler_adds_children_and_waits_for_their_results(q: &mut Driver) -> TestResult {
    q.add_all(&["par"]).await?;
    let step = json!([
        ["child", "k1", {}],
        ["child", "k2", { "ignoreDependencyOnFailure": true }],
        ["data", { "step": 2 }],
        ["children"],
    ]);
    q.work(json!({
        "par": [step, [["log", "again"], ["ignored"]]],
        "k1": [[["return", 1]]], "k2": [[["fail", "not today"]]],
    }))
    .await?;
    q.expect_field("par", "ats", json!("2")).await?;
    q.expect_field("par", "atm", json!("1")).await
}

async fn handler_continues_without_the_other_children(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    let policy = || json!({ "continueParentOnFailure": true });
    let family = json!([
        leaf("a", "c", policy()),
        leaf("b", "c", policy()),
        node("m", "c", policy(), json!([leaf("low", "c", json!({}))])),
    ]);
    q.go("q").await?;
    q.flow("par", json!({}), family).await?;
    q.go("c").await?;
    fail(q, "a").await?;
    q.go("q").await?;
    q.work(json!({ "par": [[["drop"], ["ignored"]]] })).await?;
    let reasons = json!({ "P:c:a": "a went wrong" });
    q.expect("par:failed", reasons).await?;
    q.expect("completed", json!(["par", q.now().to_string()]))
        .await?;
    q.go("c").await?;
    // The children are in no order.
    q.redis(&["DEL", "events"]).await?;
    q.expect("wait", json!(null)).await
}

/// A failure below passes through each policy of the middle level to the top, by real workers.
async fn every_policy_moves_three_levels(q: &mut Driver) -> TestResult {
    let policies = [
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
        "removeDependencyOnFailure",
        "priority",
    ];
    let mut script = json!({});
    for below in policies {
        for above in policies {
            let of = |policy: &str| json!({ policy: if policy == "priority" { json!(0) } else { json!(true) } });
            let id = |level: &str| format!("{level}-{below}-{above}");
            let low = json!([
                leaf(&id("low"), "q", of(below)),
                leaf(&id("well"), "q", json!({}))
            ]);
            let mid = json!([node(&id("mid"), "q", of(above), low)]);
            q.flow(&id("top"), json!({}), mid).await?;
            script[id("low")] = json!([[["fail", "sick"]]]);
            script[id("mid")] = json!([[["fail", "sick too"]]]);
            script[id("top")] = json!([[["ignored"]]]);
        }
    }
    q.work(script).await?;
    Ok(())
}

async fn unlinked_child_lets_its_parent_go(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let family = json!([leaf("k1", "c", json!({})), leaf("k2", "c", json!({}))]);
    q.flow("par", json!({ "priority": 3, "delay": 5000 }), family)
        .await?;
    q.go("c").await?;
    q.work_off("k1").await?;
    // A child that has ended is none that the parent waits for.
    assert_eq!(q.act(unlink("k1")).await?, json!(false));
    fail(q, "k2").await?;
    assert_eq!(q.act(unlink("k2")).await?, json!(true));
    q.expect_field("k2", "parentKey", json!(null)).await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    q.go("c").await?;
    assert_eq!(q.act(unlink("k2")).await?, json!({ "refused": -5 }));
    Ok(())
}

async fn unlinked_child_leaves_the_others_pending(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let family = json!([leaf("k1", "c", json!({})), leaf("k2", "c", json!({}))]);
    q.flow("par", json!({}), family).await?;
    q.go("c").await?;
    assert_eq!(q.act(unlink("k1")).await?, json!(true));
    q.go("p").await?;
    q.expect("wait", json!(null)).await?;
    q.go("c").await?;
    q.work_off("k1").await?;
    q.work_off("k2").await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

async fn child_without_a_parent_cannot_be_unlinked(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    q.flow("par", json!({}), json!([leaf("k", "c", json!({}))]))
        .await?;
    q.redis(&["DEL", "par"]).await?;
    q.go("c").await?;
    q.add_all(&["plain"]).await?;
    for (id, code) in [("k", -5), ("plain", -5), ("nobody", -1)] {
        assert_eq!(q.act(unlink(id)).await?, json!({ "refused": code }), "{id}");
    }
    Ok(())
}

async fn unprocessed_children_are_removed(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let family = json!([
        leaf("done", "c", json!({})),
        leaf("broken", "c", json!({})),
        leaf("held", "c", json!({})),
        leaf("waiting", "c", json!({})),
        leaf("late", "c", json!({ "delay": 5000 })),
        leaf("prior", "c", json!({ "priority": 2 })),
    ]);
    q.flow("par", json!({}), family).await?;
    q.go("c").await?;
    q.work_off("done").await?;
    fail(q, "broken").await?;
    q.fetch_job("t", "held").await?;
    q.go("p").await?;
    q.act(remove_unprocessed("par")).await?;
    q.expect("par:dependencies", json!(["P:c:broken", "P:c:held"]))
        .await?;
    q.expect("wait", json!(null)).await?;
    q.go("c").await?;
    q.expect("delayed", json!(null)).await?;
    q.complete("held", "t").await?;
    q.act(Step::Remove {
        id: "broken".to_owned(),
        children: true,
    })
    .await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await?;
    q.act(remove_unprocessed("par")).await?;
    // The children are in no order.
    q.go("c").await?;
    q.redis(&["DEL", "events"]).await
}

/// Children with children: those below go first, but for those that run or have failed.
async fn unprocessed_children_take_their_own_along(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    for (parent, ends) in [
        ("one", ""),
        ("two", "fail"),
        ("three", "hold"),
        ("four", "complete"),
    ] {
        let low = json!([leaf(&format!("low-{parent}"), "c", json!({}))]);
        let family = json!([node(&format!("mid-{parent}"), "c", json!({}), low)]);
        q.flow(parent, json!({}), family).await?;
        q.go("c").await?;
        let id = format!("low-{parent}");
        if !ends.is_empty() {
            // The one that is left waiting was added first.
            q.fetch("t").await?;
        }
        match ends {
            "fail" => {
                q.end_with(
                    &id,
                    "t",
                    End::Fail {
                        message: "no".into(),
                        fatal: true,
                    },
                    false,
                )
                .await?;
            }
            "complete" => {
                q.complete(&id, "t").await?;
            }
            _ => {}
        }
        q.go("p").await?;
    }
    for parent in ["one", "two", "three", "four"] {
        q.act(remove_unprocessed(parent)).await?;
    }
    q.expect("waiting-children", json!(null)).await
}

async fn unprocessed_children_that_are_gone_free_their_parent(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let family = json!([leaf("k1", "c", json!({})), leaf("k2", "c", json!({}))]);
    q.flow("par", json!({}), family).await?;
    q.go("c").await?;
    q.redis(&["DEL", "k1"]).await?;
    q.go("p").await?;
    q.act(remove_unprocessed("par")).await?;
    q.expect("wait", json!(["par"])).await
}

/// Too many jobs for one step; only the order of their events may differ.
async fn many_unprocessed_children_are_removed(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("p").await?;
    let mut family: Vec<_> = (0..300)
        .map(|n| leaf(&format!("w{n}"), "c", json!({})))
        .collect();
    let low: Vec<_> = (0..150)
        .map(|n| leaf(&format!("low{n}"), "c", json!({})))
        .collect();
    family.push(node("mid", "c", json!({}), json!(low)));
    q.flow("par", json!({}), json!(family)).await?;
    q.go("c").await?;
    q.add_all(&["other"]).await?;
    q.work_off("w0").await?;
    fail(q, "w1").await?;
    q.fetch_job("held", "w2").await?;
    q.go("p").await?;
    q.act(remove_unprocessed("par")).await?;
    q.expect("par:dependencies", json!(["P:c:w1", "P:c:w2"]))
        .await?;
    q.go("c").await?;
    q.redis(&["DEL", "events"]).await?;
    q.expect("wait", json!(["other"])).await?;
    q.expect("waiting-children", json!(null)).await
}

async fn nothing_unprocessed_is_removed_from_a_missing_parent(q: &mut Driver) -> TestResult {
    let answer = q.act(remove_unprocessed("nobody")).await?;
    assert_eq!(answer, json!({ "refused": -1 }));
    Ok(())
}
