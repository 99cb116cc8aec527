//! New jobs: `docs/protocol.md#adding-jobs`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    one_job_is_added_started_and_completed,
    each_kind_of_job_goes_where_its_options_say,
    paused_queue_takes_jobs_without_waking_anybody,
    full_queue_takes_jobs_without_waking_anybody,
    every_option_is_stored,
    odd_names_and_data_survive,
    delays_to_one_millisecond_keep_their_order,
    equal_priorities_keep_their_order,
    bulk_adds_are_adds_in_a_row,
    large_bulk_keeps_its_order,
    existing_id_changes_nothing,
    children_join_their_parents,
    child_of_a_missing_parent_is_refused,
    existing_job_joins_a_parent,
    existing_completed_job_counts_for_its_new_parent,
    existing_completed_job_releases_its_new_parent,
    existing_failed_job_becomes_pending,
    existing_child_changes_only_a_dead_parent,
    event_stream_is_cut_to_the_queue_s_length,
    missing_stream_length_is_written,
);

async fn one_job_is_added_started_and_completed(q: &mut Driver) -> TestResult {
    q.add_data("a", json!({ "x": 1 }), json!({})).await?;
    q.expect("wait", json!(["1"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.pass(5).await?;
    q.fetch_job("t", "1").await?;
    q.pass(5).await?;
    q.complete("1", "t").await?;
    q.expect("completed", json!(["1", "1700000000010"])).await
}

async fn each_kind_of_job_goes_where_its_options_say(q: &mut Driver) -> TestResult {
    q.add("fifo", json!({})).await?;
    q.add("delayed", json!({ "delay": 5000 })).await?;
    q.add("prioritized", json!({ "priority": 7 })).await?;
    q.add("both", json!({ "delay": 9000, "priority": 7 }))
        .await?;
    q.add("lifo", json!({ "lifo": true })).await?;
    q.add("custom", json!({ "jobId": "cust" })).await?;
    q.add("again", json!({ "jobId": "cust" })).await?;
    q.add("last", json!({})).await?;
    q.expect("wait", json!(["8", "cust", "1", "5"])).await?;
    q.expect("prioritized", json!(["3", "30064771073"])).await?;
    q.expect("pc", json!("1")).await?;
    q.expect("id", json!("8")).await
}

async fn paused_queue_takes_jobs_without_waking_anybody(q: &mut Driver) -> TestResult {
    q.node("queue.pause", json!({})).await?;
    q.add("a", json!({})).await?;
    q.add("b", json!({ "priority": 2 })).await?;
    q.expect("marker", json!(null)).await?;
    q.add("c", json!({ "delay": 700 })).await?;
    q.expect("marker", json!(["1", "1700000000700"])).await
}

async fn full_queue_takes_jobs_without_waking_anybody(q: &mut Driver) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.add("a", json!({})).await?;
    q.fetch_job("t", "1").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.add("b", json!({})).await?;
    q.add("c", json!({ "priority": 2 })).await?;
    q.expect("marker", json!(null)).await?;
    q.add("d", json!({ "delay": 700 })).await?;
    q.expect("marker", json!(["1", "1700000000700"])).await
}

async fn every_option_is_stored(q: &mut Driver) -> TestResult {
    let all = json!({
        "jobId": "a:b:c", "delay": 100, "priority": 3, "lifo": true, "attempts": 4,
        "backoff": { "type": "exponential", "delay": 1000, "jitter": 0.5 },
        "removeOnComplete": 100, "removeOnFail": { "age": 3600, "count": 50, "limit": 10 },
        "keepLogs": 7, "stackTraceLimit": 2, "sizeLimit": 1000, "timestamp": 1_699_999_999_000u64,
        "telemetry": { "metadata": "m", "omitContext": true },
    });
    q.add("all", all).await?;
    q.add(
        "zero",
        json!({ "delay": 0, "priority": 0, "lifo": false, "attempts": 1 }),
    )
    .await?;
    q.add("plain backoff", json!({ "backoff": 1000 })).await?;
    q.add("own backoff", json!({ "backoff": { "type": "mine" } }))
        .await?;
    q.add(
        "no keep",
        json!({ "removeOnComplete": true, "removeOnFail": false }),
    )
    .await?;
    q.add("context", json!({ "telemetry": { "omitContext": false } }))
        .await?;
    q.fetch("t").await?;
    Ok(())
}

async fn odd_names_and_data_survive(q: &mut Driver) -> TestResult {
    let odd = "é / \"quoted\" \\ \n\t\u{7f}\u{1}";
    q.add_data("", json!(true), json!({})).await?;
    q.add_data(odd, json!(odd), json!({ "jobId": "x y/é" }))
        .await?;
    q.add_data("list", json!([]), json!({})).await?;
    let nested = json!({ "nest": { "k": null, "arr": [], "x": "y" }, "n": [1, null, 1.5, -7] });
    q.add_data("nested", nested, json!({})).await?;
    q.add_data("number", json!(0), json!({ "jobId": ":a:" }))
        .await?;
    for token in ["1", "2", "3", "4", "5"] {
        q.fetch(token).await?;
    }
    Ok(())
}

async fn delays_to_one_millisecond_keep_their_order(q: &mut Driver) -> TestResult {
    for name in ["a", "b", "c"] {
        q.add(name, json!({ "jobId": name, "delay": 1000 })).await?;
    }
    let scores = json!([
        "a",
        "6963200004096000",
        "b",
        "6963200004096001",
        "c",
        "6963200004096002"
    ]);
    q.expect("delayed", scores).await?;
    // A full millisecond: further jobs share its last place.
    q.redis(&["ZADD", "delayed", "6963200004100095", "c"])
        .await?;
    q.add("d", json!({ "jobId": "d", "delay": 1000 })).await?;
    q.add("e", json!({ "jobId": "e", "delay": 999 })).await?;
    q.add("f", json!({ "jobId": "f", "delay": 1001 })).await?;
    q.pass(1000).await?;
    for token in ["1", "2", "3", "4", "5", "6"] {
        q.fetch(token).await?;
    }
    Ok(())
}

async fn equal_priorities_keep_their_order(q: &mut Driver) -> TestResult {
    for (name, priority) in [("a", 7), ("b", 2), ("c", 7), ("d", 2), ("e", 2_097_151)] {
        q.add(name, json!({ "jobId": name, "priority": priority }))
            .await?;
    }
    q.add("f", json!({ "jobId": "f", "priority": 2 })).await?;
    for token in ["1", "2", "3", "4", "5", "6", "7"] {
        q.fetch(token).await?;
    }
    q.expect("pc", json!(null)).await
}

async fn bulk_adds_are_adds_in_a_row(q: &mut Driver) -> TestResult {
    let missing = json!({ "parent": { "id": "nope", "queue": "$P:q" } });
    let added = q
        .add_bulk(&[
            ("a", json!({})),
            ("b", json!({ "delay": 100 })),
            ("c", missing.clone()),
            ("d", json!({ "jobId": "cid" })),
            ("e", json!({ "jobId": "cid" })),
            ("f", json!({ "lifo": true })),
            ("g", json!({ "priority": 4 })),
            ("h", json!({})),
            ("i", missing),
            ("j", json!({ "lifo": true })),
            ("k", json!({ "parent": { "id": "cid", "queue": "$P:q" } })),
        ])
        .await?;
    let refused = json!({ "refused": -5 });
    assert_eq!(
        added,
        json!([
            "1", "2", refused, "cid", "cid", "5", "6", "7", refused, "8", "9"
        ])
    );
    q.expect("wait", json!(["9", "7", "cid", "1", "5", "8"]))
        .await
}

async fn large_bulk_keeps_its_order(q: &mut Driver) -> TestResult {
    let ids: Vec<String> = (0..1050).map(|n| format!("j{n}")).collect();
    let jobs: Vec<_> = ids
        .iter()
        .map(|id| (id.as_str(), json!({ "jobId": id })))
        .collect();
    q.add_bulk(&jobs).await?;
    let newest_first: Vec<_> = ids.iter().rev().collect();
    q.expect("wait", json!(newest_first)).await
}

async fn existing_id_changes_nothing(q: &mut Driver) -> TestResult {
    q.add("first", json!({ "jobId": "k1" })).await?;
    q.add("second", json!({ "jobId": "k1", "delay": 1000 }))
        .await?;
    q.add("third", json!({ "jobId": "k1", "priority": 5 }))
        .await?;
    q.add("fourth", json!({ "jobId": "k1", "lifo": true }))
        .await?;
    q.expect("id", json!("4")).await?;
    q.expect("delayed", json!(null)).await?;
    q.work_off("k1").await?;
    q.add("fifth", json!({ "jobId": "k1" })).await?;
    q.expect_field("k1", "name", json!("first")).await?;
    q.expect("wait", json!(null)).await
}

async fn children_join_their_parents(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["P1"]).await?;
    q.go("c").await?;
    let parent = json!({ "id": "P1", "queue": "$P:p" });
    q.add("plain", json!({ "jobId": "k0", "parent": parent }))
        .await?;
    for (id, policy) in [
        ("k1", "failParentOnFailure"),
        ("k2", "continueParentOnFailure"),
        ("k3", "ignoreDependencyOnFailure"),
        ("k4", "removeDependencyOnFailure"),
    ] {
        q.add(id, json!({ "jobId": id, "parent": parent, policy: true }))
            .await?;
    }
    q.add(
        "late",
        json!({ "jobId": "k5", "parent": parent, "delay": 10, "priority": 2 }),
    )
    .await?;
    let link = json!({ "id": "P1", "queueKey": "P:p", "fpof": true });
    q.expect_field("k1", "parent", link).await?;
    q.expect_field("k1", "parentKey", json!("P:p:P1")).await
}

async fn child_of_a_missing_parent_is_refused(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "k", "parent": { "id": "nope", "queue": "$P:p" } });
    let answer = q.add("k", opts).await?;
    assert_eq!(answer, json!({ "refused": -5 }));
    q.expect("id", json!(null)).await?;
    q.add("next", json!({})).await?;
    q.expect("id", json!("1")).await
}

async fn existing_job_joins_a_parent(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["P2"]).await?;
    q.go("c").await?;
    q.add("solo", json!({ "jobId": "solo" })).await?;
    let parent = json!({ "id": "P2", "queue": "$P:p" });
    let opts =
        json!({ "jobId": "solo", "parent": parent, "ignoreDependencyOnFailure": true, "delay": 5 });
    q.add("other", opts).await?;
    // Once more with the same parent and another policy.
    q.add(
        "third",
        json!({ "jobId": "solo", "parent": parent, "failParentOnFailure": true }),
    )
    .await?;
    let link = json!({ "id": "P2", "queueKey": "P:p", "fpof": true });
    q.expect_field("solo", "parent", link).await?;
    q.go("p").await?;
    q.expect("P2:dependencies", json!(["P:c:solo"])).await
}

async fn existing_completed_job_counts_for_its_new_parent(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.add_all(&["S1"]).await?;
    q.work_off("S1").await?;
    q.go("p").await?;
    let pending = json!([{ "name": "pending", "queueName": "c", "opts": { "jobId": "S2" } }]);
    q.flow("P3", json!({}), pending).await?;
    q.go("c").await?;
    q.add(
        "S1",
        json!({ "jobId": "S1", "parent": { "id": "P3", "queue": "$P:p" } }),
    )
    .await?;
    q.go("p").await?;
    q.expect("P3:processed", json!({ "P:c:S1": "{\"ok\":\"S1\"}" }))
        .await?;
    q.expect("wait", json!(null)).await
}

async fn existing_completed_job_releases_its_new_parent(q: &mut Driver) -> TestResult {
    q.go("c").await?;
    q.add_all(&["S1"]).await?;
    q.work_off("S1").await?;
    q.go("p").await?;
    let pending = json!([{ "name": "pending", "queueName": "c", "opts": { "jobId": "S2" } }]);
    q.flow("P4", json!({ "priority": 2 }), pending).await?;
    q.redis(&["DEL", "P4:dependencies"]).await?;
    q.go("c").await?;
    q.pass(100).await?;
    q.add(
        "S1",
        json!({ "jobId": "S1", "parent": { "id": "P4", "queue": "$P:p" } }),
    )
    .await?;
    q.go("p").await?;
    q.expect("prioritized", json!(["P4", "8589934593"])).await
}

async fn existing_failed_job_becomes_pending(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["PP"]).await?;
    q.go("c").await?;
    q.add_all(&["F1"]).await?;
    q.fetch_job("t", "F1").await?;
    q.fail("F1", "t").await?;
    q.add(
        "F1",
        json!({ "jobId": "F1", "parent": { "id": "PP", "queue": "$P:p" } }),
    )
    .await?;
    q.go("p").await?;
    q.expect("PP:dependencies", json!(["P:c:F1"])).await
}

async fn existing_child_changes_only_a_dead_parent(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    q.add_all(&["P1", "P2"]).await?;
    q.go("c").await?;
    q.add(
        "C1",
        json!({ "jobId": "C1", "parent": { "id": "P1", "queue": "$P:p" } }),
    )
    .await?;
    let other = json!({ "jobId": "C1", "parent": { "id": "P2", "queue": "$P:p" } });
    let answer = q.add("C1", other.clone()).await?;
    assert_eq!(answer, json!({ "refused": -7 }));
    q.expect("id", json!("2")).await?;
    q.go("p").await?;
    q.redis(&["DEL", "P1"]).await?;
    q.go("c").await?;
    q.add("C1", other).await?;
    q.expect_field("C1", "parentKey", json!("P:p:P2")).await
}

/// Redis cuts whole nodes, whose borders depend on when entries came: only the length is bounded.
async fn event_stream_is_cut_to_the_queue_s_length(q: &mut Driver) -> TestResult {
    q.redis(&["HSET", "meta", "opts.maxLenEvents", "5"]).await?;
    for _ in 0..120 {
        q.add("a", json!({})).await?;
    }
    for n in 1..=120 {
        let id = n.to_string();
        q.fetch_job("t", &id).await?;
        q.end(&id, "t", End::Complete(json!(n))).await?;
    }
    let events = q.snapshot().await?.value("q:events");
    let left = events.as_array().map_or(0, Vec::len);
    assert!((5..=110).contains(&left), "{left} events are left");
    q.redis(&["DEL", "events"]).await
}

async fn missing_stream_length_is_written(q: &mut Driver) -> TestResult {
    q.redis(&["HDEL", "meta", "opts.maxLenEvents"]).await?;
    q.add("a", json!({})).await?;
    q.expect("meta", json!({ "opts.maxLenEvents": "10000" }))
        .await
}
