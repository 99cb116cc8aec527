//! How attempts end.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step, refused};

scenarios!(own:
    unknown_backoff_strategy_fails_the_job,
    job_that_is_not_active_keeps_its_lock,
    refused_retry_moves_no_due_jobs,
    nothing_to_wait_for_puts_a_parent_back,
    promotion_of_a_missing_job_is_refused,
    odd_key_stops_an_end_before_it_begins,
    odd_parent_does_not_keep_its_child_from_ending,
    odd_counters_do_not_keep_a_job_from_running,
    stack_trace_has_the_error_its_place_and_causes,
    deferred_job_trims_no_events,
);

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

/// BullMQ answers `false` and leaves the job active: there, the handler has to look.
async fn nothing_to_wait_for_puts_a_parent_back(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::WaitForChildren).await?;
    q.expect("wait", json!(["b", "a"])).await?;
    q.fetch_job("t", "a").await
}

/// BullMQ says that it is not delayed.
async fn promotion_of_a_missing_job_is_refused(q: &mut Driver) -> TestResult {
    let id = "nobody".to_owned();
    assert_eq!(q.act(Step::Promote { id }).await?, refused(-1));
    Ok(())
}

/// A key of the wrong type aborts BullMQ's step half way: the lock is gone, the job still active.
async fn odd_key_stops_an_end_before_it_begins(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.add("b", json!({ "jobId": "b" })).await?;
    for id in ["a", "b"] {
        q.fetch_job("t", id).await?;
    }
    // A job that is retried is written to neither set, one that ends to one of them.
    for (key, completes, fails) in [
        ("completed", true, false),
        ("failed", false, true),
        ("wait", true, true),
        ("prioritized", true, true),
        ("delayed", true, true),
        ("stalled", true, true),
    ] {
        q.redis(&["DEL", key]).await?;
        q.redis(&["SET", key, "odd"]).await?;
        let before = q.snapshot().await?;
        if completes {
            assert!(q.complete("a", "t").await.is_err(), "{key}");
        }
        if fails {
            assert!(q.fail("b", "t").await.is_err(), "{key}");
        }
        if completes && fails {
            assert!(q.fail("a", "t").await.is_err(), "{key}");
        }
        assert_eq!(q.snapshot().await?.difference(&before), None, "{key}");
        q.redis(&["DEL", key]).await?;
    }
    q.complete("a", "t").await?;
    q.complete("b", "t").await?;
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
