//! Deleting jobs: `docs/protocol.md#removing-jobs`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{Step, locked};

scenarios!(everyone:
    job_of_any_state_is_removed,
    unknown_job_is_removed_already,
    locked_job_stays,
    active_job_without_a_lock_is_removed,
    children_go_with_their_parent,
    large_flow_goes_as_a_small_one_does,
    children_stay_on_request,
    locked_child_keeps_its_parent,
    last_pending_child_releases_its_parent,
    pending_iteration_of_a_scheduler_stays,
    removed_job_frees_its_deduplication_id,
    drain_empties_what_waits,
    drain_empties_what_is_delayed_on_request,
    drain_frees_deduplication_ids,
    drained_child_takes_its_parent_along,
    drained_child_releases_a_parent_elsewhere,
    drained_children_release_their_parents_in_order,
);

fn remove(id: &str) -> Step {
    Step::Remove {
        id: id.to_owned(),
        children: true,
    }
}

async fn job_of_any_state_is_removed(q: &mut Driver) -> TestResult {
    q.add_all(&["jc", "jf"]).await?;
    q.work_off("jc").await?;
    q.fetch_job("t", "jf").await?;
    q.fail("jf", "t").await?;
    q.add_all(&["jw"]).await?;
    q.add("jd", json!({ "jobId": "jd", "delay": 10 })).await?;
    q.add("jp", json!({ "jobId": "jp", "priority": 10 }))
        .await?;
    q.redis(&["LPUSH", "paused", "legacy"]).await?;
    q.redis(&["HSET", "legacy", "name", "x"]).await?;
    q.redis(&["HSET", "stray", "name", "x"]).await?;
    q.node("queue.log", json!({ "id": "jw", "line": "row" }))
        .await?;
    for id in ["jc", "jf", "jw", "jd", "jp", "legacy", "stray"] {
        q.act(remove(id)).await?;
        q.expect(id, json!(null)).await?;
    }
    q.expect("jw:logs", json!(null)).await
}

async fn unknown_job_is_removed_already(q: &mut Driver) -> TestResult {
    q.act(remove("nobody")).await?;
    q.expect("events", json!(null)).await
}

async fn locked_job_stays(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    assert_eq!(q.act(remove("a")).await?, locked());
    q.expect("active", json!(["a"])).await
}

async fn active_job_without_a_lock_is_removed(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "a:lock"]).await?;
    q.act(remove("a")).await?;
    q.expect("active", json!(null)).await
}

async fn children_go_with_their_parent(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("q").await?;
    let children = json!([
        { "name": "k1", "queueName": "c", "opts": { "jobId": "k1" } },
        { "name": "k3", "queueName": "c", "opts": { "jobId": "k3" },
          "children": [{ "name": "g1", "queueName": "c", "opts": { "jobId": "g1", "delay": 9000 } }] },
    ]);
    q.flow("par", json!({}), children).await?;
    q.go("c").await?;
    q.work_off("k1").await?;
    q.go("q").await?;
    q.act(remove("par")).await?;
    q.expect("par", json!(null)).await?;
    q.go("c").await?;
    for id in ["k1", "k3", "g1"] {
        q.expect(id, json!(null)).await?;
    }
    Ok(())
}

/// Too many jobs for one step; only the order of their events may differ.
async fn large_flow_goes_as_a_small_one_does(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("q").await?;
    let mut children: Vec<_> = (0..150)
        .map(|n| json!({ "name": "w", "queueName": "c", "opts": { "jobId": format!("w{n}") } }))
        .collect();
    children
        .push(json!({ "name": "d", "queueName": "c", "opts": { "jobId": "d", "delay": 9000 } }));
    children
        .push(json!({ "name": "p", "queueName": "c", "opts": { "jobId": "p", "priority": 4 } }));
    children.push(
        json!({ "name": "mid", "queueName": "c", "opts": { "jobId": "mid" },
        "children": [{ "name": "g", "queueName": "q", "opts": { "jobId": "g" } }] }),
    );
    q.flow("par", json!({}), json!(children)).await?;
    q.add_all(&["other"]).await?;
    q.go("c").await?;
    q.work_off("w0").await?;
    q.fetch_job("t", "w1").await?;
    q.go("q").await?;
    assert_eq!(q.act(remove("par")).await?, locked());
    q.expect("waiting-children", json!(["par", "1700000000000"]))
        .await?;
    q.go("c").await?;
    q.fail("w1", "t").await?;
    q.go("q").await?;
    q.act(remove("par")).await?;
    q.redis(&["DEL", "events"]).await?;
    for key in [
        "par",
        "par:dependencies",
        "par:processed",
        "par:unsuccessful",
        "waiting-children",
    ] {
        q.expect(key, json!(null)).await?;
    }
    q.expect("wait", json!(["other"])).await?;
    q.go("c").await?;
    q.redis(&["DEL", "events"]).await?;
    for key in [
        "wait",
        "delayed",
        "prioritized",
        "waiting-children",
        "failed",
        "w0",
        "w1",
        "w149",
        "mid",
    ] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

async fn children_stay_on_request(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "k1", "queueName": "q", "opts": { "jobId": "k1" } }]);
    q.flow("par", json!({}), children).await?;
    q.act(Step::Remove {
        id: "par".to_owned(),
        children: false,
    })
    .await?;
    // The orphan ends without effect.
    q.work_off("k1").await
}

async fn locked_child_keeps_its_parent(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "k1", "queueName": "q", "opts": { "jobId": "k1" } }]);
    q.flow("par", json!({}), children).await?;
    q.fetch_job("t", "k1").await?;
    assert_eq!(q.act(remove("par")).await?, locked());
    q.act(Step::Remove {
        id: "par".to_owned(),
        children: false,
    })
    .await?;
    q.expect("par", json!(null)).await
}

async fn last_pending_child_releases_its_parent(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.go("q").await?;
    let children = json!([
        { "name": "k1", "queueName": "c", "opts": { "jobId": "k1" } },
        { "name": "k2", "queueName": "c", "opts": { "jobId": "k2" } },
    ]);
    q.flow("par", json!({ "priority": 3, "delay": 20_000 }), children)
        .await?;
    q.go("c").await?;
    q.act(remove("k1")).await?;
    q.go("q").await?;
    q.expect("wait", json!(null)).await?;
    q.go("c").await?;
    q.act(remove("k2")).await?;
    q.go("q").await?;
    q.expect("wait", json!(["par"])).await
}

async fn pending_iteration_of_a_scheduler_stays(q: &mut Driver) -> TestResult {
    let every = json!({ "id": "sid", "repeat": { "every": 60_000 } });
    let job = q.node("queue.upsertJobScheduler", every).await?;
    let id = job["id"].as_str().unwrap_or_default().to_owned();
    let answer = q.act(remove(&id)).await?;
    assert_eq!(answer, json!({ "refused": -8 }));
    Ok(())
}

async fn removed_job_frees_its_deduplication_id(q: &mut Driver) -> TestResult {
    q.node_add(
        "a",
        json!({ "jobId": "a", "deduplication": { "id": "k", "ttl": 90_000 } }),
    )
    .await?;
    q.node_add("b", json!({ "jobId": "b", "deduplication": { "id": "m" } }))
        .await?;
    q.redis(&["SET", "de:m", "other"]).await?;
    q.act(remove("a")).await?;
    q.act(remove("b")).await?;
    q.expect("de:k", json!(null)).await?;
    q.expect("de:m", json!("other")).await
}

async fn drain_empties_what_waits(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.add("p", json!({ "jobId": "p", "priority": 2 })).await?;
    q.add("d", json!({ "jobId": "d", "delay": 10 })).await?;
    q.redis(&["LPUSH", "paused", "legacy"]).await?;
    q.redis(&["HSET", "legacy", "name", "x"]).await?;
    q.fetch_job("t", "a").await?;
    q.act(Step::Drain { delayed: false }).await?;
    for key in ["b", "p", "legacy", "wait", "prioritized", "paused"] {
        q.expect(key, json!(null)).await?;
    }
    q.expect("active", json!(["a"])).await
}

async fn drain_empties_what_is_delayed_on_request(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 10 })).await?;
    q.act(Step::Drain { delayed: true }).await?;
    q.expect("delayed", json!(null)).await?;
    q.expect("d", json!(null)).await
}

async fn drain_frees_deduplication_ids(q: &mut Driver) -> TestResult {
    q.node_add("a", json!({ "jobId": "a", "deduplication": { "id": "k" } }))
        .await?;
    q.act(Step::Drain { delayed: false }).await?;
    q.expect("de:k", json!(null)).await
}

async fn drained_child_takes_its_parent_along(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "mid", "queueName": "q", "opts": { "jobId": "mid" },
        "children": [{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }] }]);
    q.flow("top", json!({}), children).await?;
    q.act(Step::Drain { delayed: false }).await?;
    for key in ["top", "mid", "kid", "waiting-children"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

async fn drained_child_releases_a_parent_elsewhere(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    let children = json!([{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }]);
    q.flow("par", json!({ "priority": 4 }), children).await?;
    q.go("q").await?;
    q.act(Step::Drain { delayed: false }).await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

async fn drained_children_release_their_parents_in_order(q: &mut Driver) -> TestResult {
    for (parent, opts) in [
        ("late", json!({ "delay": 2000 })),
        ("urgent", json!({ "priority": 4 })),
        ("first", json!({})),
        ("soon", json!({ "delay": 1000 })),
        ("second", json!({})),
    ] {
        q.go("p").await?;
        let mut opts = opts;
        opts["jobId"] = format!("child of {parent}").into();
        let child = json!([{ "name": "k", "queueName": "q", "opts": opts }]);
        q.flow(parent, json!({}), child).await?;
    }
    q.go("q").await?;
    let delayed = true;
    q.act(Step::Drain { delayed }).await?;
    q.go("p").await?;
    q.expect("wait", json!(["second", "first", "soon", "late", "urgent"]))
        .await
}
