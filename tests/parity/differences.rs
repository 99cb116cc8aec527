//! Where this library differs from BullMQ on purpose, because the original loses, strands or
//! distorts jobs there. Each test shows the behaviour chosen instead; `docs/differences.md` has
//! the reasons.

use oxbull::JobId;
use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Limit, Step, refused};

scenarios!(own:
    long_numbers_in_options_stay_exact,
    stalled_prioritized_job_keeps_its_priority,
    released_prioritized_job_wakes_a_worker,
    job_made_first_of_its_equals_wakes_a_worker,
    due_jobs_move_in_bounded_steps,
    legacy_ids_in_a_row_are_all_dropped,
    legacy_wake_up_survives_a_promotion_and_harms_nobody,
    ids_without_a_job_are_dropped,
    stalled_ids_without_a_job_are_dropped,
    unknown_backoff_strategy_fails_the_job,
    job_that_is_not_active_keeps_its_lock,
    refused_retry_moves_no_due_jobs,
    scheduled_iterations_survive_a_drain,
    nothing_to_wait_for_puts_a_parent_back,
    limit_without_a_window_does_not_apply,
    count_that_never_ends_is_replaced,
    limit_imposed_for_longer_is_not_shortened,
    odd_counter_stops_an_end_before_it_begins,
    fractions_and_endless_windows_of_others_are_understood,
    place_that_becomes_free_wakes_a_worker,
    opened_gate_wakes_a_worker,
    closed_gate_wakes_nobody,
    promotion_of_a_missing_job_says_so,
    odd_key_stops_an_end_before_it_begins,
    odd_parent_does_not_keep_its_child_from_ending,
    odd_deduplication_key_does_not_keep_a_job_from_ending,
    odd_deduplication_key_does_not_keep_a_job_from_leaving,
    replaced_job_leaves_its_parent,
    owner_that_has_ended_does_not_block_its_id,
    kept_add_overwrites_no_job,
    kept_add_waits_for_its_own_owner,
    long_numbers_in_kept_adds_stay_exact,
    odd_deduplication_keys_stop_a_bulk_before_it_begins,
    odd_counters_do_not_keep_a_job_from_running,
    stack_trace_has_the_error_its_place_and_causes,
    counter_of_priorities_may_pass_its_range,
    iteration_that_stalls_too_often_fails,
    retried_job_may_stall_again,
    parent_with_colons_is_released_by_a_removal,
    first_limit_wakes_a_worker,
    retried_end_fetches_the_next_job,
    jobs_that_are_each_other_s_parents_are_removed,
    bulk_leaves_no_wake_up_for_a_replaced_job,
    deferred_job_trims_no_events,
    parent_that_goes_with_its_drained_child_frees_its_id,
    stalled_jobs_run_again_in_their_order,
);

/// Redis turns BullMQ's numbers of more than 14 digits into rounded ones.
async fn long_numbers_in_options_stay_exact(q: &mut Driver) -> TestResult {
    q.add(
        "a",
        json!({ "jobId": "a", "delay": 123_456_789_012_345u64 }),
    )
    .await?;
    let stored = json!({ "attempts": 0.0, "jobId": "a", "delay": 123_456_789_012_345.0 });
    q.expect_field("a", "opts", stored).await?;
    let job = q.node("queue.getJob", json!({ "id": "a" })).await?;
    assert_eq!(job["opts"]["delay"], 123_456_789_012_345u64);
    Ok(())
}

/// In `wait` it would overtake jobs of higher priority.
async fn stalled_prioritized_job_keeps_its_priority(q: &mut Driver) -> TestResult {
    for (id, priority) in [("a", 4), ("b", 4), ("c", 9)] {
        q.add(id, json!({ "jobId": id, "priority": priority }))
            .await?;
    }
    q.fetch_job("t", "a").await?;
    q.add("urgent", json!({ "jobId": "urgent", "priority": 1 }))
        .await?;
    q.redis(&["DEL", "marker"]).await?;
    assert_eq!(q.stall(&["a"], 1).await?, json!(["a"]));
    q.expect("wait", json!(null)).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    for id in ["urgent", "a", "b", "c"] {
        q.fetch_job("t", id).await?;
    }
    Ok(())
}

/// Without a wake-up it waits for the next worker that looks by itself.
async fn released_prioritized_job_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "priority": 4 })).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.end("a", "t", End::Release).await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn job_made_first_of_its_equals_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(Step::ChangePriority {
        id: "a".to_owned(),
        priority: 4,
        lifo: true,
    })
    .await?;
    q.expect("prioritized", json!(["a", "17179869184"])).await?;
    q.expect("marker", json!(["0", "0"])).await
}

/// A thousand jobs due at once must not hold up the server in one call; their order is kept.
async fn due_jobs_move_in_bounded_steps(q: &mut Driver) -> TestResult {
    let jobs: Vec<String> = (0..450).map(|n| format!("d{n}")).collect();
    let jobs: Vec<_> = jobs
        .iter()
        .map(|id| (id.as_str(), json!({ "jobId": id, "delay": 10 })))
        .collect();
    q.add_bulk(&jobs).await?;
    q.pass(10).await?;
    let mut left = Vec::new();
    for (id, _) in &jobs {
        q.fetch_job("t", id).await?;
        let delayed = q.snapshot().await?.value("q:delayed");
        left.push(delayed.as_array().map_or(0, |all| all.len() / 2));
        if left.len() == 4 {
            break;
        }
    }
    assert_eq!(left, [250, 50, 0, 0]);
    for (id, _) in jobs.iter().skip(4) {
        q.fetch_job("t", id).await?;
    }
    Ok(())
}

/// BullMQ would process a job `0:5`.
async fn legacy_ids_in_a_row_are_all_dropped(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.redis(&["RPUSH", "wait", "0:6", "0:5", "0:0"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["RPUSH", "wait", "0:6", "0:5"]).await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    assert!(next.is_null());
    q.expect("wait", json!(null)).await?;
    q.expect("active", json!(null)).await
}

async fn legacy_wake_up_survives_a_promotion_and_harms_nobody(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.redis(&["LPUSH", "wait", "0:123"]).await?;
    q.act(Step::Promote { id: "d".to_owned() }).await?;
    q.fetch_job("t", "d").await?;
    q.expect("wait", json!(null)).await
}

/// BullMQ activates such an id, which then haunts the queue as a job without a name.
async fn ids_without_a_job_are_dropped(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add("b", json!({ "jobId": "b", "delay": 10 })).await?;
    q.redis(&["RPUSH", "wait", "ghost"]).await?;
    q.redis(&["ZADD", "delayed", "1", "late ghost"]).await?;
    q.redis(&["ZADD", "prioritized", "1", "prior ghost"])
        .await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("active", json!(["a"])).await?;
    q.expect("prioritized", json!(null)).await?;
    for id in ["ghost", "late ghost", "prior ghost"] {
        q.expect(id, json!(null)).await?;
    }
    Ok(())
}

async fn stalled_ids_without_a_job_are_dropped(q: &mut Driver) -> TestResult {
    q.redis(&["LPUSH", "active", "ghost"]).await?;
    assert_eq!(q.stall(&[], 1).await?, json!([]));
    q.expect("active", json!(null)).await?;
    q.expect("wait", json!(null)).await?;
    q.expect("ghost", json!(null)).await
}

/// BullMQ leaves the job active until it stalls, again and again.
async fn unknown_backoff_strategy_fails_the_job(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "a", "attempts": 3, "backoff": { "type": "mine" } });
    q.add("a", opts).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("failed", json!(["a", "1700000000000"])).await?;
    let job = q.snapshot().await?.value("q:a");
    let reason = job["failedReason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("a went wrong") && reason.contains("backoff strategy"),
        "{reason}"
    );
    Ok(())
}

/// BullMQ deletes the lock and stores the failure before it finds out.
async fn job_that_is_not_active_keeps_its_lock(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "active"]).await?;
    let before = q.snapshot().await?;
    assert_eq!(q.complete("a", "t").await?, refused(-3));
    assert_eq!(q.fail("a", "t").await?, refused(-3));
    assert_eq!(q.end("a", "t", End::Release).await?, refused(-3));
    let at = End::DelayUntil(q.now() + 5);
    assert_eq!(q.end("a", "t", at).await?, refused(-3));
    assert_eq!(q.snapshot().await?.difference(&before), None);
    Ok(())
}

async fn refused_retry_moves_no_due_jobs(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.add("due", json!({ "jobId": "due", "delay": 10 })).await?;
    q.fetch_job("t", "a").await?;
    q.pass(10).await?;
    q.redis(&["DEL", "a:lock"]).await?;
    let before = q.snapshot().await?;
    assert_eq!(q.fail("a", "t").await?, refused(-2));
    assert_eq!(q.snapshot().await?.difference(&before), None);
    Ok(())
}

/// BullMQ cuts the list by a number of entries, and may lose the iteration's place in it.
async fn scheduled_iterations_survive_a_drain(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let every = json!({ "id": "sid", "repeat": { "every": 60_000 } });
    let job = q.node("queue.upsertJobScheduler", every).await?;
    let id = job["id"].as_str().unwrap_or_default().to_owned();
    q.add_all(&["b", "c"]).await?;
    q.act(Step::Drain { delayed: true }).await?;
    q.expect("wait", json!([id])).await?;
    for id in ["a", "b", "c"] {
        q.expect(id, json!(null)).await?;
    }
    Ok(())
}

/// BullMQ answers `false` and leaves the job active: there, the handler has to look.
async fn nothing_to_wait_for_puts_a_parent_back(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::WaitForChildren).await?;
    q.expect("wait", json!(["b", "a"])).await?;
    q.fetch_job("t", "a").await
}

/// BullMQ's first start of a window ends in an error with the id already in `active`.
async fn limit_without_a_window_does_not_apply(q: &mut Driver) -> TestResult {
    q.redis(&["HSET", "meta", "max", "1"]).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("t", "b").await
}

/// BullMQ says that it is not delayed.
async fn promotion_of_a_missing_job_says_so(q: &mut Driver) -> TestResult {
    let id = "nobody".to_owned();
    assert_eq!(q.act(Step::Promote { id }).await?, refused(-1));
    Ok(())
}

/// A key of the wrong type aborts BullMQ's step half way: the lock is gone, the job still active.
async fn odd_key_stops_an_end_before_it_begins(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.fetch_job("t", "a").await?;
    for key in [
        "completed",
        "failed",
        "wait",
        "prioritized",
        "delayed",
        "stalled",
    ] {
        q.redis(&["DEL", key]).await?;
        q.redis(&["SET", key, "odd"]).await?;
        let before = q.snapshot().await?;
        assert!(q.complete("a", "t").await.is_err(), "{key}");
        assert!(q.fail("a", "t").await.is_err(), "{key}");
        assert_eq!(q.snapshot().await?.difference(&before), None, "{key}");
        q.redis(&["DEL", key]).await?;
    }
    q.complete("a", "t").await?;
    Ok(())
}

/// Whatever is wrong with a parent's keys, its child must not be left between two states.
async fn odd_parent_does_not_keep_its_child_from_ending(q: &mut Driver) -> TestResult {
    q.add_all(&["par"]).await?;
    q.redis(&["DEL", "wait"]).await?;
    for (n, key) in (0..).zip(["processed", "failed", "unsuccessful", "dependencies"]) {
        for policy in [
            "ignoreDependencyOnFailure",
            "failParentOnFailure",
            "continueParentOnFailure",
        ] {
            let (a, b) = (format!("a{n}-{policy}"), format!("b{n}-{policy}"));
            for id in [&a, &b] {
                let opts = json!({ "jobId": id, "parent": { "id": "par", "queue": "$P:q" },
                    policy: true, "removeOnFail": true });
                q.add(id, opts).await?;
            }
            let key = format!("par:{key}");
            q.redis(&["DEL", &key]).await?;
            q.redis(&["SET", &key, "odd"]).await?;
            q.work_off(&a).await?;
            q.fetch_job("t", &b).await?;
            q.fail(&b, "t").await?;
            q.expect("active", json!(null)).await?;
            q.expect(&format!("{a}:lock"), json!(null)).await?;
            q.expect(&b, json!(null)).await?;
            q.redis(&["DEL", &key]).await?;
        }
    }
    let left = q.snapshot().await?.value("q:completed");
    assert_eq!(left.as_array().map(Vec::len), Some(24), "{left}");
    Ok(())
}

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

async fn odd_counters_do_not_keep_a_job_from_running(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 3 })).await?;
    q.redis(&["HSET", "a", "ats", "odd", "atm", "odd", "stc", "odd"])
        .await?;
    q.fetch_job("t", "a").await?;
    q.stall(&["a"], 1).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.fetch_job("t", "a").await?;
    q.complete("a", "t").await?;
    q.expect("completed", json!(["a", "1700000000000"])).await
}

/// Other languages' stacks are theirs; this library stores the error, the place where it was made
/// and what caused it.
async fn stack_trace_has_the_error_its_place_and_causes(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    let job = q.node("queue.getJob", json!({ "id": "a" })).await?;
    let trace = job["stacktrace"][0].as_str().unwrap_or_default();
    // The message, the line that made the error, and no cause: it has none.
    let place = trace.strip_prefix("Error: a went wrong\n    at ");
    let place = place.and_then(|place| place.strip_prefix("tests/parity/ox.rs:"));
    assert!(place.is_some_and(|rest| !rest.contains('\n')), "{trace}");
    Ok(())
}

/// Such ids overwrite a key of the queue, or are taken for a signal or an iteration.
#[test]
fn reserved_ids_are_refused() {
    for id in [
        "wait",
        "active",
        "paused",
        "prioritized",
        "pc",
        "delayed",
        "waiting-children",
        "completed",
        "failed",
        "id",
        "meta",
        "events",
        "marker",
        "stalled",
        "stalled-check",
        "limiter",
        "repeat",
        "de",
        "metrics:completed:data",
        "metrics:failed:data",
        "repeat:sid:1700000000000",
        "de:a:b",
        "dn:a:b",
        "0",
        "0:1:2",
        "42",
        "a:b",
        "",
    ] {
        assert!(JobId::new(id).is_err(), "{id}");
    }
}

/// It is left over from a start that failed half way; BullMQ never limits again.
async fn count_that_never_ends_is_replaced(q: &mut Driver) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 2, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b", "c", "d"]).await?;
    for odd in ["99", "no number", "-3", "1.5"] {
        q.redis(&["SET", "limiter", odd]).await?;
        q.fetch_job("t", "a").await?;
        q.expect("limiter", json!("1")).await?;
        q.end("a", "t", End::Release).await?;
    }
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

/// Whoever asked for the longer time, such as an API, relies on it.
async fn limit_imposed_for_longer_is_not_shortened(q: &mut Driver) -> TestResult {
    q.limit(Limit::Impose(600_000)).await?;
    q.limit(Limit::Impose(1000)).await?;
    assert!(q.lasts("limiter").await? > 500_000);
    q.limit(Limit::Lift).await?;
    // Nor is a window in which no more jobs may start, by the worker's limit or the global one.
    let limiter = json!({ "limiter": { "max": 1, "duration": 600_000 } });
    q.worker("limited", limiter);
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::RateLimited(1000)).await?;
    assert!(q.lasts("limiter").await? > 500_000);
    q.limit(Limit::Lift).await?;
    q.fetch_job("t", "a").await?;
    q.limit(Limit::Impose(1000)).await?;
    assert!(q.lasts("limiter").await? <= 1000);
    q.limit(Limit::Lift).await?;
    q.limit(Limit::SetRate(1, 1000)).await?;
    q.end("a", "t", End::Release).await?;
    q.fetch_job("t", "a").await?;
    q.limit(Limit::Impose(1000)).await?;
    assert!(q.lasts("limiter").await? > 500_000);
    q.expect("limiter", json!("9007199254740991")).await
}

/// A script error rolls nothing back.
async fn odd_counter_stops_an_end_before_it_begins(q: &mut Driver) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 9, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "limiter"]).await?;
    q.redis(&["LPUSH", "limiter", "x"]).await?;
    let before = q.snapshot().await?;
    let ended = q.end_and_fetch("a", "t", End::Complete(json!(1))).await;
    assert!(ended.is_err(), "{ended:?}");
    for limit in [Limit::Impose(1000), Limit::State(None)] {
        let answer = q.limit(limit).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(q.snapshot().await?.difference(&before), None);
    Ok(())
}

/// Other clients check nothing: BullMQ would fail each start with its job active.
async fn fractions_and_endless_windows_of_others_are_understood(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c", "d"]).await?;
    q.redis(&["HSET", "meta", "max", "1.5", "duration", "1e300"])
        .await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tb", "b").await?;
    assert!(q.fetch("tc").await?.is_null());
    q.limit(Limit::RemoveRate).await?;
    q.redis(&["HSET", "meta", "concurrency", "2.5"]).await?;
    assert_eq!(q.limit(Limit::Concurrency).await?, json!(3));
    q.fetch_job("tc", "c").await?;
    assert!(q.fetch("td").await?.is_null());
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(true));
    q.redis(&["HSET", "meta", "concurrency", "0"]).await?;
    assert_eq!(q.limit(Limit::Concurrency).await?, json!(0));
    q.redis(&["HSET", "meta", "concurrency", "many"]).await?;
    assert_eq!(q.limit(Limit::Concurrency).await?, json!(null));
    q.fetch_job("td", "d").await
}

/// Its worker may be closing or held back by a limit; the others would sleep on.
async fn place_that_becomes_free_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(1)).await?;
    q.add_all(&["a", "b", "c"]).await?;
    for (id, end) in [
        ("a", End::Complete(json!(1))),
        ("b", End::DelayUntil(q.now() + 5000)),
    ] {
        q.fetch_job("t", id).await?;
        q.redis(&["DEL", "marker"]).await?;
        q.end(id, "t", end).await?;
        let marker = q.snapshot().await?.value("q:marker");
        assert_eq!(marker[0], "0", "after {id}: {marker}");
    }
    // With nothing left to start there is nobody to wake.
    q.fetch_job("t", "c").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.complete("c", "t").await?;
    q.expect("marker", json!(null)).await
}

async fn opened_gate_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(1)).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    for opening in [
        Limit::SetConcurrency(2),
        Limit::RemoveConcurrency,
        Limit::RemoveRate,
        Limit::Lift,
    ] {
        q.redis(&["DEL", "marker"]).await?;
        q.limit(opening).await?;
        q.expect("marker", json!(["0", "0"])).await?;
    }
    Ok(())
}

async fn closed_gate_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.limit(Limit::SetConcurrency(1)).await?;
    q.limit(Limit::SetRate(5, 1000)).await?;
    q.limit(Limit::Lift).await?;
    q.act(Step::Pause).await?;
    q.limit(Limit::RemoveConcurrency).await?;
    q.expect("marker", json!(null)).await
}

/// BullMQ starts an iteration of a living scheduler for ever, however many workers it has killed.
async fn iteration_that_stalls_too_often_fails(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 60_000 })).await?;
    let first = format!("repeat:s:{}", q.now());
    for _ in 0..2 {
        q.fetch_job("t", &first).await?;
        q.redis(&["DEL", "stalled-check"]).await?;
        let back = q.stall(&[&first], 1).await?;
        assert_eq!(back, json!([first]));
    }
    let reason = "job stalled more than allowable limit";
    q.expect_field(&first, "defa", json!(reason)).await?;
    let started = q.fetch("t").await?;
    assert_eq!(started["deferred"], reason);
    // The schedule goes on all the same.
    let next = format!("repeat:s:{}", q.now() + 60_000);
    q.expect_field(&next, "rjk", json!("s")).await
}

/// BullMQ keeps the stalls of a job's earlier life, so that it fails again at the first one, and
/// a deferred failure that it still had.
async fn retried_job_may_stall_again(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a" })).await?;
    q.fetch_job("t", "a").await?;
    q.stall(&["a"], 0).await?;
    let message = q.fetch("t").await?["deferred"].to_string();
    let fatal = true;
    q.end("a", "t", End::Fail { message, fatal }).await?;
    // As a child that failed meanwhile leaves it.
    q.redis(&["HSET", "a", "defa", "child b failed"]).await?;
    q.act(Step::Retry {
        id: "a".to_owned(),
        completed: false,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.expect_field("a", "stc", json!(null)).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "stalled-check"]).await?;
    q.stall(&["a"], 1).await?;
    q.expect_field("a", "stc", json!("1")).await?;
    q.expect_field("a", "defa", json!(null)).await?;
    // Its counters of attempts are another matter: there are options for them.
    q.expect_field("a", "ats", json!("3")).await
}

/// BullMQ takes what follows the last colon of a parent's key for its id, but only where a child
/// goes without an end of its own: removed, deleted by its retention, drained.
async fn parent_with_colons_is_released_by_a_removal(q: &mut Driver) -> TestResult {
    for id in ["k", "l"] {
        let opts = json!({ "jobId": id, "removeOnFail": true });
        let child = json!([{ "name": id, "queueName": "q", "opts": opts }]);
        q.go("p").await?;
        q.flow(&format!("x:y:{id}"), json!({}), child).await?;
    }
    q.go("q").await?;
    let (id, children) = ("k".to_owned(), false);
    q.act(Step::Remove { id, children }).await?;
    q.fetch_job("t", "l").await?;
    q.fail("l", "t").await?;
    q.go("p").await?;
    q.expect("waiting-children", json!(null)).await?;
    q.expect("wait", json!(["x:y:k", "x:y:l"])).await
}

/// Whether a change lets jobs start is not worked out: a needless wake-up costs one look.
async fn first_limit_wakes_a_worker(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    for limit in [Limit::SetConcurrency(3), Limit::SetRate(3, 1000)] {
        q.redis(&["DEL", "marker"]).await?;
        q.limit(limit).await?;
        q.expect("marker", json!(["0", "0"])).await?;
    }
    Ok(())
}

/// Whoever asks for the next job gets it, however the last one ended.
async fn retried_end_fetches_the_next_job(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.add_all(&["b"]).await?;
    q.fetch_job("t", "a").await?;
    let (message, fatal) = ("once".to_owned(), false);
    let next = q
        .end_and_fetch("a", "t", End::Fail { message, fatal })
        .await?;
    assert_eq!(next["id"], "b");
    q.expect("wait", json!(["a"])).await
}

/// BullMQ follows the circle until its script fails.
async fn jobs_that_are_each_other_s_parents_are_removed(q: &mut Driver) -> TestResult {
    let parent = |id: &str| json!({ "id": id, "queue": "$P:q" });
    q.add("a", json!({ "jobId": "a" })).await?;
    q.add("b", json!({ "jobId": "b", "parent": parent("a") }))
        .await?;
    q.add("a", json!({ "jobId": "a", "parent": parent("b") }))
        .await?;
    let (id, children) = ("b".to_owned(), true);
    assert_eq!(q.act(Step::Remove { id, children }).await?, json!(null));
    for key in ["a", "b", "wait", "a:dependencies", "b:dependencies"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

/// Jobs of one call are announced together, once it is known which of them are left.
async fn bulk_leaves_no_wake_up_for_a_replaced_job(q: &mut Driver) -> TestResult {
    let replacing = json!({ "id": "k", "replace": true });
    let first = json!({ "jobId": "a", "delay": 1000, "deduplication": replacing });
    let second = json!({ "jobId": "b", "deduplication": replacing });
    q.add_bulk(&[("a", first), ("b", second)]).await?;
    q.expect("delayed", json!(null)).await?;
    q.expect("marker", json!(["0", "0"])).await
}

/// The next add does it, or the end of a job.
async fn deferred_job_trims_no_events(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    for _ in 0..97 {
        q.redis(&["XADD", "events", "*", "event", "old"]).await?;
    }
    q.redis(&["HSET", "meta", "opts.maxLenEvents", "1"]).await?;
    let at = q.now() + 1000;
    q.end("a", "t", End::DelayUntil(at)).await?;
    let events = |q: crate::snapshot::Snapshot| q.value("q:events").as_array().map(Vec::len);
    assert_eq!(events(q.snapshot().await?), Some(101));
    q.add_all(&["b"]).await?;
    assert_eq!(events(q.snapshot().await?), Some(3));
    Ok(())
}

/// BullMQ's jobs overtake their equals, from the moment that the counter has passed 2^32.
async fn counter_of_priorities_may_pass_its_range(q: &mut Driver) -> TestResult {
    let add = async |q: &mut Driver, name: &str| {
        q.add(name, json!({ "jobId": name, "priority": 2 })).await
    };
    add(q, "a").await?;
    add(q, "b").await?;
    q.redis(&["SET", "pc", "4294967295"]).await?;
    add(q, "c").await?;
    add(q, "d").await?;
    let mut scores = json!([
        "a",
        "8589934593",
        "b",
        "8589934594",
        "c",
        "8589934595",
        "d",
        "8589934596"
    ]);
    q.expect("prioritized", scores.clone()).await?;
    // The last number is taken: all of them begin anew, and so does the counter.
    q.redis(&["ZADD", "prioritized", "12884901887", "d"])
        .await?;
    add(q, "e").await?;
    if let Some(scores) = scores.as_array_mut() {
        scores.extend([json!("e"), json!("8589934597")]);
    }
    q.expect("prioritized", scores).await?;
    q.expect("pc", json!("4294967301")).await
}

/// Nobody else would free the id of a job that is gone.
async fn parent_that_goes_with_its_drained_child_frees_its_id(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "par", "deduplication": { "id": "x" } });
    q.add("par", opts).await?;
    q.fetch_job("t", "par").await?;
    let parent = json!({ "jobId": "kid", "parent": { "id": "par", "queue": "$P:q" } });
    q.add("kid", parent).await?;
    q.end("par", "t", End::WaitForChildren).await?;
    q.expect("de:x", json!("par")).await?;
    q.act(Step::Drain { delayed: false }).await?;
    for key in ["par", "kid", "de:x"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

/// Jobs that stalled together start again in the order in which they had started.
async fn stalled_jobs_run_again_in_their_order(q: &mut Driver) -> TestResult {
    let ids = ["a", "b", "c", "d", "e", "f"];
    q.add_all(&ids).await?;
    for id in ids {
        q.fetch_job("t", id).await?;
    }
    q.stall(&ids, 1).await?;
    for id in ids {
        q.fetch_job("u", id).await?;
    }
    Ok(())
}
