//! Operations on many jobs: `docs/protocol.md#many-jobs`.

use oxbull::JobState;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::{Driver, START};
use crate::fixture::scenarios;
use crate::many::{Many, clean};
use crate::step::Step;

scenarios!(everyone:
    clean_deletes_old_finished_jobs,
    clean_of_a_state_leaves_the_others,
    clean_with_a_limit_deletes_the_oldest,
    clean_without_anything_old_changes_nothing,
    clean_leaves_what_is_young,
    clean_deletes_what_was_parked,
    cleaned_active_jobs_are_those_without_a_lock,
    cleaned_parent_leaves_its_children,
    cleaned_child_takes_its_parent_along,
    cleaned_children_release_parents_elsewhere,
    cleaned_job_frees_its_deduplication_id,
    clean_spares_pending_iterations,
    large_clean_says_so_for_every_ten_thousand,
    obliterate_deletes_all_there_is,
    obliterate_with_active_jobs_needs_to_be_told,
    obliterated_children_release_parents_elsewhere,
    failed_jobs_run_again_in_their_order,
    completed_jobs_run_again_up_to_a_time,
    retried_jobs_of_a_paused_queue_wake_nobody,
    retried_children_are_pending_again,
    promoted_jobs_wait_in_their_order,
    promoted_jobs_of_a_full_queue_wake_nobody,
    orphans_are_removed,
    logs_are_cleared,
);

async fn fail_all(q: &mut Driver, ids: &[&str]) -> TestResult {
    for id in ids {
        q.add(id, json!({ "jobId": id })).await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
        q.pass(10).await?;
    }
    Ok(())
}

async fn clean_deletes_old_finished_jobs(q: &mut Driver) -> TestResult {
    for id in ["a", "b", "c"] {
        q.add_all(&[id]).await?;
        q.work_off(id).await?;
        q.node("queue.log", json!({ "id": id, "line": "row" }))
            .await?;
        q.pass(1000).await?;
    }
    let gone = q.act(clean(JobState::Completed, 2000, 0)).await?;
    assert_eq!(gone, json!(["a", "b"]));
    q.expect("a:logs", json!(null)).await?;
    q.expect("c:logs", json!(["row"])).await?;
    fail_all(q, &["x", "y"]).await?;
    assert_eq!(
        q.act(clean(JobState::Failed, 0, 0)).await?,
        json!(["x", "y"])
    );
    q.expect("completed", json!(["c", "1700000002000"])).await
}

async fn clean_of_a_state_leaves_the_others(q: &mut Driver) -> TestResult {
    q.add_all(&["w1", "w2"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.add("p", json!({ "jobId": "p", "priority": 7 })).await?;
    q.pass(10).await?;
    for (state, gone) in [
        (JobState::Prioritized, json!(["p"])),
        (JobState::Delayed, json!(["d"])),
        (JobState::Waiting, json!(["w1", "w2"])),
    ] {
        assert_eq!(q.act(clean(state, 0, 0)).await?, gone);
    }
    q.expect("wait", json!(null)).await
}

async fn clean_with_a_limit_deletes_the_oldest(q: &mut Driver) -> TestResult {
    fail_all(q, &["f1", "f2"]).await?;
    assert_eq!(q.act(clean(JobState::Failed, 0, 1)).await?, json!(["f1"]));
    q.add_all(&["w1", "w2", "w3"]).await?;
    assert_eq!(
        q.act(clean(JobState::Waiting, 0, 2)).await?,
        json!(["w1", "w2"])
    );
    q.expect("wait", json!(["w3"])).await?;
    for n in [3, 1, 2] {
        let id = format!("p{n}");
        q.add(&id, json!({ "jobId": id, "priority": n })).await?;
        q.add(
            &format!("d{n}"),
            json!({ "jobId": format!("d{n}"), "delay": n }),
        )
        .await?;
    }
    assert_eq!(
        q.act(clean(JobState::Prioritized, 0, 2)).await?,
        json!(["p1", "p2"])
    );
    assert_eq!(
        q.act(clean(JobState::Delayed, 0, 2)).await?,
        json!(["d1", "d2"])
    );
    Ok(())
}

async fn clean_without_anything_old_changes_nothing(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    for state in JobState::ALL {
        assert_eq!(q.act(clean(state, 10_000, 0)).await?, json!([]));
    }
    q.expect("wait", json!(["a"])).await
}

async fn clean_leaves_what_is_young(q: &mut Driver) -> TestResult {
    q.add_all(&["old"]).await?;
    q.add("dold", json!({ "jobId": "dold", "delay": 90_000 }))
        .await?;
    q.add("pold", json!({ "jobId": "pold", "priority": 9 }))
        .await?;
    q.pass(5000).await?;
    q.add_all(&["young"]).await?;
    q.add("lifo", json!({ "jobId": "lifo", "lifo": true }))
        .await?;
    q.add("dyoung", json!({ "jobId": "dyoung", "delay": 10_000 }))
        .await?;
    q.add("pyoung", json!({ "jobId": "pyoung", "priority": 1 }))
        .await?;
    for (state, gone) in [
        (JobState::Waiting, "old"),
        (JobState::Delayed, "dold"),
        (JobState::Prioritized, "pold"),
    ] {
        assert_eq!(q.act(clean(state, 4000, 0)).await?, json!([gone]));
    }
    q.expect("wait", json!(["young", "lifo"])).await
}

async fn clean_deletes_what_was_parked(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add_all(&["b", "c"]).await?;
    for id in ["b", "c"] {
        q.redis(&["LREM", "wait", "0", id]).await?;
        q.redis(&["LPUSH", "paused", id]).await?;
    }
    let gone = q
        .act(Step::Many(Many::Clean {
            state: JobState::Waiting,
            grace: 0,
            limit: 0,
            parked: true,
        }))
        .await?;
    assert_eq!(gone, json!(["a", "b", "c"]));
    q.expect("paused", json!(null)).await
}

async fn cleaned_active_jobs_are_those_without_a_lock(q: &mut Driver) -> TestResult {
    q.add_all(&["held", "gone"]).await?;
    q.fetch_job("t", "held").await?;
    q.fetch_job("u", "gone").await?;
    q.redis(&["DEL", "gone:lock"]).await?;
    q.pass(10).await?;
    assert_eq!(q.act(clean(JobState::Active, 0, 0)).await?, json!(["gone"]));
    q.expect("active", json!(["held"])).await
}

async fn cleaned_parent_leaves_its_children(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "k1", "queueName": "q", "opts": { "jobId": "k1" } }]);
    q.flow("par", json!({}), children).await?;
    q.pass(10).await?;
    assert_eq!(
        q.act(clean(JobState::WaitingChildren, 0, 0)).await?,
        json!(["par"])
    );
    q.expect("par:dependencies", json!(null)).await?;
    // The orphan ends without effect.
    q.work_off("k1").await
}

async fn cleaned_child_takes_its_parent_along(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "mid", "queueName": "q", "opts": { "jobId": "mid" },
        "children": [{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }] }]);
    q.flow("top", json!({}), children).await?;
    assert_eq!(q.act(clean(JobState::Waiting, 0, 0)).await?, json!(["kid"]));
    for key in ["top", "mid", "kid", "waiting-children"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

async fn cleaned_children_release_parents_elsewhere(q: &mut Driver) -> TestResult {
    for (parent, opts) in [
        ("first", json!({})),
        ("second", json!({})),
        ("third", json!({})),
    ] {
        q.go("p").await?;
        let mut opts = opts;
        opts["jobId"] = format!("child of {parent}").into();
        let child = json!([{ "name": "k", "queueName": "q", "opts": opts }]);
        q.flow(parent, json!({ "priority": 4 }), child).await?;
    }
    q.go("q").await?;
    q.act(clean(JobState::Waiting, 0, 0)).await?;
    q.go("p").await?;
    q.expect("waiting-children", json!(null)).await
}

async fn cleaned_job_frees_its_deduplication_id(q: &mut Driver) -> TestResult {
    q.node_add("a", json!({ "jobId": "a", "deduplication": { "id": "k" } }))
        .await?;
    q.act(clean(JobState::Waiting, 0, 0)).await?;
    q.expect("de:k", json!(null)).await
}

async fn clean_spares_pending_iterations(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let every = json!({ "id": "sid", "repeat": { "every": 60_000 } });
    let job = q.node("queue.upsertJobScheduler", every).await?;
    let id = job["id"].clone();
    q.add_all(&["b"]).await?;
    q.pass(10).await?;
    assert_eq!(
        q.act(clean(JobState::Waiting, 0, 0)).await?,
        json!(["a", "b"])
    );
    q.expect("wait", json!([id])).await?;
    let later = json!({ "id": "later", "repeat": { "pattern": "0 0 1 1 *" } });
    q.node("queue.upsertJobScheduler", later).await?;
    q.pass(10).await?;
    assert_eq!(q.act(clean(JobState::Delayed, 0, 0)).await?, json!([]));
    Ok(())
}

/// BullMQ deletes 10,000 jobs in one script; only its events show it.
async fn large_clean_says_so_for_every_ten_thousand(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["DEL", "events"]).await?;
    for from in (0..10_500).step_by(500) {
        let mut add = vec!["ZADD".to_owned(), "completed".to_owned()];
        for n in from..from + 500 {
            add.extend([n.to_string(), format!("c{n}")]);
        }
        let add: Vec<&str> = add.iter().map(String::as_str).collect();
        q.redis(&add).await?;
    }
    q.act(clean(JobState::Completed, 0, 0)).await?;
    let said = ["event cleaned count 10000", "event cleaned count 500"];
    q.expect("events", json!(said)).await
}

/// Jobs in every state, and a schedule.
async fn fill(driver: &mut Driver) -> TestResult {
    driver.add_all(&["done", "lost", "held"]).await?;
    driver.work_off("done").await?;
    driver.fetch_job("t", "lost").await?;
    driver.fail("lost", "t").await?;
    driver.fetch_job("t", "held").await?;
    driver.add_all(&["w1", "w2"]).await?;
    driver
        .add("d", json!({ "jobId": "d", "delay": 9000 }))
        .await?;
    driver
        .add("p", json!({ "jobId": "p", "priority": 7 }))
        .await?;
    driver
        .add(
            "once",
            json!({ "jobId": "once", "deduplication": { "id": "k" } }),
        )
        .await?;
    let every = json!({ "id": "sid", "repeat": { "every": 60_000 } });
    driver.node("queue.upsertJobScheduler", every).await?;
    let children = json!([{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }]);
    driver.flow("par", json!({}), children).await
}

async fn obliterate_deletes_all_there_is(q: &mut Driver) -> TestResult {
    fill(q).await?;
    q.redis(&["LPUSH", "paused", "legacy"]).await?;
    q.redis(&["HSET", "legacy", "name", "x"]).await?;
    q.redis(&["HSET", "metrics:completed", "count", "1"])
        .await?;
    q.act(Step::Many(Many::Obliterate { force: true })).await?;
    for key in [
        "w1",
        "held",
        "held:lock",
        "meta",
        "events",
        "repeat",
        "legacy",
        "par",
        "de:k",
    ] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

async fn obliterate_with_active_jobs_needs_to_be_told(q: &mut Driver) -> TestResult {
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    // BullMQ pauses the queue before it refuses; this library does not.
    q.act(Step::Pause).await?;
    q.act(Step::Many(Many::Obliterate { force: false })).await?;
    q.expect("wait", json!(["b"])).await?;
    q.redis(&["DEL", "events"]).await?;
    q.end("a", "t", crate::step::End::Complete(json!(1)))
        .await?;
    q.act(Step::Many(Many::Obliterate { force: false })).await?;
    for key in ["a", "b", "meta", "id", "completed", "wait"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

async fn obliterated_children_release_parents_elsewhere(q: &mut Driver) -> TestResult {
    q.go("p").await?;
    let children = json!([{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }]);
    q.flow("par", json!({}), children).await?;
    q.go("q").await?;
    q.act(Step::Many(Many::Obliterate { force: false })).await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

async fn failed_jobs_run_again_in_their_order(q: &mut Driver) -> TestResult {
    fail_all(q, &["f1", "f2", "f3"]).await?;
    q.add_all(&["w"]).await?;
    let now = q.now();
    let all = Many::Retry {
        completed: false,
        until: now,
    };
    q.act(Step::Many(all)).await?;
    q.expect("wait", json!(["f3", "f2", "f1", "w"])).await?;
    q.expect_field("f1", "failedReason", Value::Null).await?;
    q.expect_field("f1", "atm", json!("1")).await
}

async fn completed_jobs_run_again_up_to_a_time(q: &mut Driver) -> TestResult {
    for id in ["a", "b", "c"] {
        q.add_all(&[id]).await?;
        q.work_off(id).await?;
        q.pass(1000).await?;
    }
    let early = Many::Retry {
        completed: true,
        until: START + 1000,
    };
    q.act(Step::Many(early)).await?;
    q.expect("wait", json!(["b", "a"])).await?;
    q.expect_field("a", "returnvalue", Value::Null).await
}

async fn retried_jobs_of_a_paused_queue_wake_nobody(q: &mut Driver) -> TestResult {
    fail_all(q, &["f1"]).await?;
    q.act(Step::Pause).await?;
    let until = q.now();
    let completed = false;
    q.act(Step::Many(Many::Retry { completed, until })).await?;
    q.expect("marker", json!(null)).await?;
    q.expect("wait", json!(["f1"])).await
}

async fn retried_children_are_pending_again(q: &mut Driver) -> TestResult {
    for (id, opts) in [
        ("fpof", json!({ "failParentOnFailure": true })),
        ("idof", json!({ "ignoreDependencyOnFailure": true })),
    ] {
        q.go("p").await?;
        let mut opts = opts;
        opts["jobId"] = id.into();
        let child = json!([{ "name": id, "queueName": "q", "opts": opts }]);
        q.flow(&format!("of {id}"), json!({}), child).await?;
        q.go("q").await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
    }
    let until = q.now();
    let completed = false;
    q.act(Step::Many(Many::Retry { completed, until })).await?;
    q.go("p").await?;
    q.expect("of fpof:dependencies", json!(["P:q:fpof"]))
        .await?;
    q.expect("of idof:failed", json!(null)).await
}

async fn promoted_jobs_wait_in_their_order(q: &mut Driver) -> TestResult {
    q.add_all(&["w"]).await?;
    for (id, delay) in [("late", 3000), ("soon", 1000), ("then", 2000)] {
        q.add(id, json!({ "jobId": id, "delay": delay })).await?;
    }
    // Only this library sets the delays to 0.
    q.act(Step::Many(Many::Promote)).await?;
    for id in ["late", "soon", "then"] {
        q.redis(&["HSET", id, "delay", "0"]).await?;
    }
    q.expect("wait", json!(["late", "then", "soon", "w"])).await
}

async fn promoted_jobs_of_a_full_queue_wake_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.limit(crate::step::Limit::SetConcurrency(1)).await?;
    q.add("d", json!({ "jobId": "d", "delay": 3000 })).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(Step::Many(Many::Promote)).await?;
    q.redis(&["HSET", "d", "delay", "0"]).await?;
    q.expect("marker", json!(null)).await
}

async fn orphans_are_removed(q: &mut Driver) -> TestResult {
    fill(q).await?;
    q.redis(&["HSET", "o1", "name", "x", "data", "{}"]).await?;
    q.redis(&["RPUSH", "o1:logs", "row"]).await?;
    q.redis(&["RPUSH", "o2:logs", "row"]).await?;
    q.redis(&["SET", "o3:lock", "token"]).await?;
    q.redis(&["SADD", "o4:dependencies", "P:q:x"]).await?;
    q.redis(&["HSET", "o4:processed", "P:q:y", "1"]).await?;
    q.redis(&["SET", "o5:weird", "x"]).await?;
    q.redis(&["SET", "de:x", "w1"]).await?;
    q.redis(&["HSET", "a:b:c", "name", "x"]).await?;
    assert_eq!(q.act(Step::Many(Many::RemoveOrphans)).await?, json!(4));
    q.expect("o1", json!(null)).await
}

async fn logs_are_cleared(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    for id in ["a", "b"] {
        for row in ["1", "2", "3"] {
            q.redis(&["RPUSH", &format!("{id}:logs"), row]).await?;
        }
    }
    let (id, keep) = ("a".to_owned(), 0);
    q.act(Step::Many(Many::ClearLogs { id, keep })).await?;
    q.expect("a:logs", json!(null)).await?;
    for keep in [2, 9] {
        let id = "b".to_owned();
        q.act(Step::Many(Many::ClearLogs { id, keep })).await?;
    }
    q.expect("b:logs", json!(["2", "3"])).await
}
