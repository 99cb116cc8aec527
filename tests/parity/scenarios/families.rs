//! Parents and children: spec flows §3 to §6 and §9, producing §4 and §5.

use serde_json::{Value, json};

use crate::TestResult;
use crate::driver::{End, Step, refused};
use crate::player::Player;
use crate::stage::play;

play!(everyone:
    child_is_linked_to_an_active_parent,
    every_policy_is_stored_with_the_child,
    child_of_nobody_is_refused,
    child_of_another_living_parent_is_refused,
    child_of_a_parent_that_is_gone_gets_another,
    existing_job_becomes_a_child,
    existing_job_of_the_same_parent_stays_its_child,
    completed_job_becomes_a_processed_child,
    completed_job_releases_a_parent_that_waits_for_nothing,
    failed_job_becomes_a_pending_child,
    completed_children_release_their_parent,
    children_live_in_other_queues,
    released_parent_keeps_its_priority,
    released_parent_waits_for_its_delay,
    parent_in_a_paused_queue_wakes_nobody,
    failed_child_without_policy_keeps_its_parent_waiting,
    fpof_fails_the_parent,
    fpof_fails_a_parent_with_a_delay,
    fpof_fails_a_delayed_parent,
    fpof_fails_a_waiting_parent,
    fpof_fails_a_prioritized_parent,
    fpof_of_an_active_parent_is_found_when_it_completes,
    fpof_climbs_a_chain_one_activation_at_a_time,
    fpof_stops_where_no_policy_is,
    fpof_after_the_parent_failed_is_recorded,
    fpof_waits_for_the_last_attempt,
    cpof_releases_at_once_and_once,
    idof_releases_when_nothing_is_pending,
    rdof_forgets_the_child,
    removed_failed_children_leave_their_mark,
    removed_children_that_may_fail_leave_their_mark,
    parent_completes_only_without_pending_children,
    parent_with_a_failed_child_cannot_complete,
    active_parent_waits_for_its_children,
    waiting_for_children_is_refused_after_a_failure,
    waiting_for_children_is_refused_without_the_lock,
    retried_child_is_pending_again,
    retried_completed_child_is_pending_again,
    retried_ignored_child_is_pending_again,
    child_outlives_its_parent,
    child_with_a_key_only_finds_its_parent,
    flow_of_three_levels_runs_bottom_up,
);

fn child(queue: &str, id: &str, opts: Value) -> Value {
    let mut opts = opts;
    opts["jobId"] = id.into();
    json!({ "name": id, "queueName": queue, "data": {}, "opts": opts })
}

fn parent(queue: &str, id: &str) -> Value {
    json!({ "id": id, "queue": format!("$P:{queue}") })
}

/// Fetches a job of another queue and fails it.
async fn fail_in(q: &mut Player, queue: &str, id: &str) -> TestResult {
    q.go(queue).await?;
    q.fetch_job("child", id).await?;
    q.fail(id, "child").await?;
    q.go("q").await
}

/// Fetches a job of another queue and completes it.
async fn complete_in(q: &mut Player, queue: &str, id: &str) -> TestResult {
    q.go(queue).await?;
    q.fetch_job("child", id).await?;
    q.complete(id, "child").await?;
    q.go("q").await
}

async fn child_is_linked_to_an_active_parent(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
        .await?;
    q.add(
        "later",
        json!({ "jobId": "later", "delay": 50, "parent": parent("q", "par") }),
    )
    .await?;
    q.add(
        "less",
        json!({ "jobId": "less", "priority": 5, "parent": parent("q", "par") }),
    )
    .await?;
    q.go("q").await?;
    q.expect(
        "par:dependencies",
        json!(["P:c:k", "P:c:later", "P:c:less"]),
    )
    .await
}

async fn every_policy_is_stored_with_the_child(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    for policy in [
        "failParentOnFailure",
        "continueParentOnFailure",
        "ignoreDependencyOnFailure",
        "removeDependencyOnFailure",
    ] {
        let mut opts = json!({ "jobId": policy, "parent": parent("q", "par") });
        opts[policy] = true.into();
        q.add("k", opts).await?;
    }
    Ok(())
}

async fn child_of_nobody_is_refused(q: &mut Player) -> TestResult {
    let answer = q
        .add("k", json!({ "parent": parent("q", "nobody") }))
        .await?;
    assert_eq!(answer, refused(-5));
    q.expect("id", json!(null)).await
}

async fn child_of_another_living_parent_is_refused(q: &mut Player) -> TestResult {
    q.add_all(&["p1", "p2"]).await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "p1") }))
        .await?;
    let answer = q
        .add("k", json!({ "jobId": "k", "parent": parent("q", "p2") }))
        .await?;
    assert_eq!(answer, refused(-7));
    q.expect("p2:dependencies", json!(null)).await
}

async fn child_of_a_parent_that_is_gone_gets_another(q: &mut Player) -> TestResult {
    q.add_all(&["p1", "p2"]).await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "p1") }))
        .await?;
    q.act(Step::Remove {
        id: "p1".into(),
        children: false,
    })
    .await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "p2") }))
        .await?;
    q.expect("p2:dependencies", json!(["P:q:k"])).await
}

async fn existing_job_becomes_a_child(q: &mut Player) -> TestResult {
    q.add_all(&["par", "solo"]).await?;
    let opts =
        json!({ "jobId": "solo", "ignoreDependencyOnFailure": true, "parent": parent("q", "par") });
    q.add("again", opts).await?;
    q.expect_field(
        "solo",
        "parent",
        json!({ "id": "par", "queueKey": "P:q", "idof": true }),
    )
    .await
}

async fn existing_job_of_the_same_parent_stays_its_child(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    for _ in 0..2 {
        q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
            .await?;
    }
    q.expect("par:dependencies", json!(["P:q:k"])).await
}

async fn completed_job_becomes_a_processed_child(q: &mut Player) -> TestResult {
    q.add("k", json!({ "jobId": "k" })).await?;
    q.work_off("k").await?;
    q.flow("par", json!({}), json!([child("q", "other", json!({}))]))
        .await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
        .await?;
    q.expect("par:processed", json!({ "P:q:k": "{\"ok\":\"k\"}" }))
        .await
}

async fn completed_job_releases_a_parent_that_waits_for_nothing(q: &mut Player) -> TestResult {
    q.add("k", json!({ "jobId": "k" })).await?;
    q.work_off("k").await?;
    q.flow("par", json!({}), json!([child("q", "other", json!({}))]))
        .await?;
    q.redis(&["DEL", "par:dependencies"]).await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
        .await?;
    q.expect("waiting-children", json!(null)).await
}

async fn failed_job_becomes_a_pending_child(q: &mut Player) -> TestResult {
    q.add("k", json!({ "jobId": "k" })).await?;
    q.fetch_job("t", "k").await?;
    q.fail("k", "t").await?;
    q.add("par", json!({ "jobId": "par" })).await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
        .await?;
    q.expect("par:dependencies", json!(["P:q:k"])).await
}

async fn completed_children_release_their_parent(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([child("q", "k1", json!({})), child("q", "k2", json!({}))]),
    )
    .await?;
    q.work_off("k1").await?;
    q.expect("wait", json!(["k2"])).await?;
    q.add("behind", json!({ "jobId": "behind" })).await?;
    q.work_off("k2").await?;
    q.expect("wait", json!(["behind", "par"])).await?;
    q.work_off("par").await
}

async fn children_live_in_other_queues(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([child("c", "k1", json!({})), child("d", "k2", json!({}))]),
    )
    .await?;
    complete_in(q, "c", "k1").await?;
    complete_in(q, "d", "k2").await?;
    q.work_off("par").await
}

async fn released_parent_keeps_its_priority(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({ "priority": 4 }),
        json!([child("q", "k1", json!({}))]),
    )
    .await?;
    q.work_off("k1").await?;
    q.expect("prioritized", json!(["par", "17179869185"])).await
}

async fn released_parent_waits_for_its_delay(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({ "delay": 5000 }),
        json!([child("q", "k1", json!({}))]),
    )
    .await?;
    q.pass(100).await?;
    q.work_off("k1").await?;
    q.expect("delayed", json!(["par", "6963200020889600"]))
        .await?;
    q.pass(5000).await?;
    q.work_off("par").await
}

async fn parent_in_a_paused_queue_wakes_nobody(q: &mut Player) -> TestResult {
    q.flow("par", json!({}), json!([child("c", "k1", json!({}))]))
        .await?;
    q.act(Step::Pause).await?;
    complete_in(q, "c", "k1").await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect("marker", json!(null)).await
}

async fn failed_child_without_policy_keeps_its_parent_waiting(q: &mut Player) -> TestResult {
    q.flow("par", json!({}), json!([child("c", "k1", json!({}))]))
        .await?;
    fail_in(q, "c", "k1").await?;
    q.expect("par:dependencies", json!(["P:c:k1"])).await
}

fn fpof() -> Value {
    json!({ "failParentOnFailure": true })
}

/// Lets a worker find the deferred failure of a job, as the library's workers do.
async fn fail_deferred(q: &mut Player, id: &str) -> TestResult {
    let job = q.fetch("deferred").await?;
    assert_eq!(job["id"], id);
    let message = job["deferred"].as_str().unwrap_or("no failure").to_owned();
    let end = End::Fail {
        message,
        fatal: true,
    };
    q.end(id, "deferred", end).await.map(drop)
}

async fn fpof_fails_the_parent(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({ "attempts": 5 }),
        json!([child("c", "k1", fpof()), child("c", "k2", fpof())]),
    )
    .await?;
    q.pass(7).await?;
    fail_in(q, "c", "k1").await?;
    q.expect_field("par", "defa", json!("child P:c:k1 failed"))
        .await?;
    fail_deferred(q, "par").await?;
    q.expect_field("par", "defa", json!(null)).await
}

async fn fpof_fails_a_parent_with_a_delay(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({ "delay": 30_000 }),
        json!([child("c", "k1", fpof())]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    q.expect("delayed", json!(["par", "6963200122880000"]))
        .await
}

/// A parent that was released by other means and waits for a time.
async fn fpof_fails_a_delayed_parent(q: &mut Player) -> TestResult {
    q.add(
        "par",
        json!({ "jobId": "par", "delay": 60_000, "priority": 2 }),
    )
    .await?;
    q.go("c").await?;
    let mut opts = fpof();
    opts["jobId"] = "k1".into();
    opts["parent"] = parent("q", "par");
    q.add("k1", opts).await?;
    fail_in(q, "c", "k1").await?;
    q.expect_field("par", "delay", json!("0")).await?;
    q.expect("prioritized", json!(["par", "8589934593"])).await
}

async fn fpof_of(q: &mut Player, opts: Value) -> TestResult {
    q.add("par", opts).await?;
    q.go("c").await?;
    let mut opts = fpof();
    opts["jobId"] = "k1".into();
    opts["parent"] = parent("q", "par");
    q.add("k1", opts).await?;
    fail_in(q, "c", "k1").await?;
    q.expect_field("par", "defa", json!("child P:c:k1 failed"))
        .await?;
    fail_deferred(q, "par").await
}

async fn fpof_fails_a_waiting_parent(q: &mut Player) -> TestResult {
    fpof_of(q, json!({ "jobId": "par" })).await
}

async fn fpof_fails_a_prioritized_parent(q: &mut Player) -> TestResult {
    fpof_of(q, json!({ "jobId": "par", "priority": 6 })).await
}

async fn fpof_of_an_active_parent_is_found_when_it_completes(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par", "attempts": 3 }))
        .await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    let mut opts = fpof();
    opts["jobId"] = "k1".into();
    opts["parent"] = parent("q", "par");
    q.add("k1", opts).await?;
    fail_in(q, "c", "k1").await?;
    assert_eq!(q.complete("par", "t").await?, refused(-9));
    let end = End::Fail {
        message: "has a failed child".into(),
        fatal: true,
    };
    q.end("par", "t", end).await.map(drop)
}

async fn fpof_climbs_a_chain_one_activation_at_a_time(q: &mut Player) -> TestResult {
    let mut middle = child("q", "mid", fpof());
    middle["children"] = json!([child("c", "x1", fpof()), child("c", "x2", json!({}))]);
    q.flow("root", json!({}), json!([middle])).await?;
    fail_in(q, "c", "x1").await?;
    q.expect_field("root", "defa", json!(null)).await?;
    fail_deferred(q, "mid").await?;
    q.expect_field("root", "defa", json!("child P:q:mid failed"))
        .await?;
    fail_deferred(q, "root").await
}

async fn fpof_stops_where_no_policy_is(q: &mut Player) -> TestResult {
    let mut middle = child("q", "mid", json!({}));
    middle["children"] = json!([child("c", "x1", fpof())]);
    q.flow("root", json!({}), json!([middle])).await?;
    fail_in(q, "c", "x1").await?;
    fail_deferred(q, "mid").await?;
    q.expect("root:dependencies", json!(["P:q:mid"])).await
}

async fn fpof_after_the_parent_failed_is_recorded(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([child("c", "k1", fpof()), child("c", "k2", fpof())]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    fail_deferred(q, "par").await?;
    q.pass(5).await?;
    fail_in(q, "c", "k2").await?;
    q.expect_field("par", "defa", json!(null)).await
}

async fn fpof_waits_for_the_last_attempt(q: &mut Player) -> TestResult {
    let opts = json!({ "failParentOnFailure": true, "attempts": 2 });
    q.flow("par", json!({}), json!([child("c", "k1", opts)]))
        .await?;
    fail_in(q, "c", "k1").await?;
    q.expect_field("par", "defa", json!(null)).await?;
    fail_in(q, "c", "k1").await?;
    q.expect_field("par", "defa", json!("child P:c:k1 failed"))
        .await
}

async fn cpof_releases_at_once_and_once(q: &mut Player) -> TestResult {
    let opts = || json!({ "continueParentOnFailure": true });
    q.flow(
        "par",
        json!({}),
        json!([
            child("c", "k1", opts()),
            child("c", "k2", opts()),
            child("c", "k3", opts())
        ]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    q.expect("wait", json!(["par"])).await?;
    fail_in(q, "c", "k2").await?;
    q.expect("wait", json!(["par"])).await?;
    q.expect("par:dependencies", json!(["P:c:k3"])).await?;
    q.fetch_job("t", "par").await?;
    assert_eq!(q.complete("par", "t").await?, refused(-4));
    complete_in(q, "c", "k3").await?;
    q.complete("par", "t").await.map(drop)
}

async fn idof_releases_when_nothing_is_pending(q: &mut Player) -> TestResult {
    let opts = || json!({ "ignoreDependencyOnFailure": true });
    q.flow(
        "par",
        json!({}),
        json!([child("c", "k1", opts()), child("c", "k2", opts())]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    q.expect("wait", json!(null)).await?;
    fail_in(q, "c", "k2").await?;
    q.work_off("par").await
}

async fn rdof_forgets_the_child(q: &mut Player) -> TestResult {
    let opts = || json!({ "removeDependencyOnFailure": true });
    q.flow(
        "par",
        json!({}),
        json!([child("c", "k1", opts()), child("c", "k2", opts())]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    fail_in(q, "c", "k2").await?;
    q.expect("par:failed", json!(null)).await?;
    q.work_off("par").await
}

async fn removed_failed_children_leave_their_mark(q: &mut Player) -> TestResult {
    let opts = json!({ "failParentOnFailure": true, "removeOnFail": true });
    q.flow("par", json!({}), json!([child("c", "k1", opts)]))
        .await?;
    fail_in(q, "c", "k1").await?;
    fail_deferred(q, "par").await
}

async fn removed_children_that_may_fail_leave_their_mark(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([
            child(
                "c",
                "k1",
                json!({ "continueParentOnFailure": true, "removeOnFail": true })
            ),
            child(
                "c",
                "k2",
                json!({ "ignoreDependencyOnFailure": true, "removeOnFail": true })
            ),
        ]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    fail_in(q, "c", "k2").await?;
    q.work_off("par").await
}

async fn parent_completes_only_without_pending_children(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par", "attempts": 2 }))
        .await?;
    q.fetch_job("t", "par").await?;
    q.add(
        "k",
        json!({ "jobId": "k", "delay": 50, "parent": parent("q", "par") }),
    )
    .await?;
    assert_eq!(q.complete("par", "t").await?, refused(-4));
    q.fail("par", "t").await?;
    q.fetch_job("t", "par").await?;
    q.fail("par", "t").await.map(drop)
}

async fn parent_with_a_failed_child_cannot_complete(q: &mut Player) -> TestResult {
    q.flow("par", json!({}), json!([child("c", "k1", fpof())]))
        .await?;
    fail_in(q, "c", "k1").await?;
    fail_deferred(q, "par").await?;
    q.act(retry("par", false)).await?;
    q.fetch_job("t", "par").await?;
    assert_eq!(q.complete("par", "t").await?, refused(-9));
    q.go("c").await?;
    q.act(retry("k1", false)).await?;
    q.go("q").await?;
    assert_eq!(q.complete("par", "t").await?, refused(-4));
    q.end("par", "t", End::WaitForChildren).await?;
    complete_in(q, "c", "k1").await?;
    q.work_off("par").await
}

async fn active_parent_waits_for_its_children(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    q.add("k", json!({ "jobId": "k", "parent": parent("q", "par") }))
        .await?;
    q.go("q").await?;
    q.pass(9).await?;
    q.end("par", "t", End::WaitForChildren).await?;
    q.expect("waiting-children", json!(["par", "1700000000009"]))
        .await?;
    complete_in(q, "c", "k").await?;
    let job = q.fetch("t").await?;
    assert_eq!((&job["made"], &job["started"]), (&json!(0), &json!(2)));
    q.complete("par", "t").await.map(drop)
}

async fn waiting_for_children_is_refused_after_a_failure(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    q.fetch_job("t", "par").await?;
    q.go("c").await?;
    let mut opts = fpof();
    opts["jobId"] = "k1".into();
    opts["parent"] = parent("q", "par");
    q.add("k1", opts).await?;
    q.add("k2", json!({ "jobId": "k2", "parent": parent("q", "par") }))
        .await?;
    fail_in(q, "c", "k1").await?;
    assert_eq!(q.end("par", "t", End::WaitForChildren).await?, refused(-9));
    assert_eq!(q.complete("par", "t").await?, refused(-4));
    q.expect("active", json!(["par"])).await
}

async fn waiting_for_children_is_refused_without_the_lock(q: &mut Player) -> TestResult {
    q.add("par", json!({ "jobId": "par" })).await?;
    q.fetch_job("t", "par").await?;
    q.add(
        "k",
        json!({ "jobId": "k", "delay": 9, "parent": parent("q", "par") }),
    )
    .await?;
    assert_eq!(
        q.end("par", "other", End::WaitForChildren).await?,
        refused(-6)
    );
    q.redis(&["DEL", "par:lock"]).await?;
    assert_eq!(q.end("par", "t", End::WaitForChildren).await?, refused(-2));
    q.expect("active", json!(["par"])).await
}

fn retry(id: &str, completed: bool) -> Step {
    Step::Retry {
        id: id.into(),
        completed,
        reset_made: false,
        reset_started: false,
    }
}

async fn retried_child_is_pending_again(q: &mut Player) -> TestResult {
    q.flow("par", json!({}), json!([child("c", "k1", fpof())]))
        .await?;
    fail_in(q, "c", "k1").await?;
    q.go("c").await?;
    q.act(retry("k1", false)).await?;
    q.go("q").await?;
    q.expect("par:dependencies", json!(["P:c:k1"])).await?;
    q.expect("par:unsuccessful", json!(null)).await?;
    complete_in(q, "c", "k1").await?;
    q.expect("par:processed", json!({ "P:c:k1": "{\"ok\":\"k1\"}" }))
        .await
}

async fn retried_completed_child_is_pending_again(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([child("c", "k1", json!({})), child("c", "k2", json!({}))]),
    )
    .await?;
    complete_in(q, "c", "k1").await?;
    q.go("c").await?;
    q.act(retry("k1", true)).await?;
    q.go("q").await?;
    q.expect("par:processed", json!(null)).await?;
    q.expect("par:dependencies", json!(["P:c:k1", "P:c:k2"]))
        .await
}

async fn retried_ignored_child_is_pending_again(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([
            child("c", "k1", json!({ "ignoreDependencyOnFailure": true })),
            child("c", "k2", json!({ "removeDependencyOnFailure": true })),
            child("c", "k3", json!({ "delay": 5 })),
        ]),
    )
    .await?;
    fail_in(q, "c", "k1").await?;
    fail_in(q, "c", "k2").await?;
    q.go("c").await?;
    q.act(retry("k1", false)).await?;
    q.act(retry("k2", false)).await?;
    q.go("q").await?;
    q.expect("par:dependencies", json!(["P:c:k1", "P:c:k3"]))
        .await?;
    complete_in(q, "c", "k1").await?;
    complete_in(q, "c", "k2").await?;
    q.expect("par:processed", json!({ "P:c:k1": "{\"ok\":\"k1\"}" }))
        .await
}

async fn child_outlives_its_parent(q: &mut Player) -> TestResult {
    q.flow(
        "par",
        json!({}),
        json!([
            child("c", "k1", json!({})),
            child("c", "k2", fpof()),
            child("c", "k3", json!({ "continueParentOnFailure": true })),
            child("c", "k4", json!({ "ignoreDependencyOnFailure": true })),
        ]),
    )
    .await?;
    q.act(Step::Remove {
        id: "par".into(),
        children: false,
    })
    .await?;
    complete_in(q, "c", "k1").await?;
    fail_in(q, "c", "k2").await?;
    fail_in(q, "c", "k3").await?;
    fail_in(q, "c", "k4").await?;
    q.expect("par:processed", json!(null)).await
}

/// Very old jobs carry no `parent` field.
async fn child_with_a_key_only_finds_its_parent(q: &mut Player) -> TestResult {
    q.flow("par", json!({}), json!([child("c", "k1", json!({}))]))
        .await?;
    q.go("c").await?;
    q.redis(&["HDEL", "k1", "parent"]).await?;
    complete_in(q, "c", "k1").await?;
    q.expect("wait", json!(["par"])).await
}

async fn flow_of_three_levels_runs_bottom_up(q: &mut Player) -> TestResult {
    let mut middle = child("c", "mid", json!({ "priority": 2 }));
    middle["children"] = json!([child("d", "x1", json!({})), child("d", "x2", json!({}))]);
    q.flow(
        "root",
        json!({}),
        json!([middle, child("c", "leaf", json!({}))]),
    )
    .await?;
    complete_in(q, "d", "x1").await?;
    complete_in(q, "d", "x2").await?;
    complete_in(q, "c", "leaf").await?;
    complete_in(q, "c", "mid").await?;
    q.work_off("root").await
}
