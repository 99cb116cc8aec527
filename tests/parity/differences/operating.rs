//! Operations on many jobs.

use oxbull::JobState;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::many::{Many, clean};
use crate::step::Step;

scenarios!(own:
    young_jobs_do_not_hide_old_ones_from_a_limited_clean,
    ages_are_compared_as_numbers,
    clean_deletes_no_more_than_its_limit,
    refused_obliteration_does_not_pause,
    obliterated_queue_leaves_nothing_that_runs_or_blocks,
    jobs_run_again_by_their_priority_and_position,
    jobs_that_run_again_may_stall_again,
    promoted_jobs_have_no_delay_and_keep_their_priority,
    ids_without_a_job_do_not_run_again,
    parent_of_an_orphan_is_released,
    keys_of_other_queues_are_no_orphans,
    parent_that_goes_with_its_cleaned_child_frees_its_id,
);

/// BullMQ looks at as many entries as it may delete, and finds none when those are young.
async fn young_jobs_do_not_hide_old_ones_from_a_limited_clean(q: &mut Driver) -> TestResult {
    let delayed = |id: &str, delay: u64| json!({ "jobId": id, "delay": delay });
    q.add("old", delayed("old", 90_000)).await?;
    q.add_all(&["wold"]).await?;
    q.pass(60_000).await?;
    q.add("young", delayed("young", 1000)).await?;
    q.add("lifo", json!({ "jobId": "lifo", "lifo": true }))
        .await?;
    for (state, id) in [(JobState::Delayed, "old"), (JobState::Waiting, "wold")] {
        assert_eq!(q.act(clean(state, 50_000, 1)).await?, json!([id]));
    }
    q.expect("wait", json!(["lifo"])).await
}

/// As texts, 999 is later than 1700000000000.
async fn ages_are_compared_as_numbers(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "timestamp": 999 }))
        .await?;
    q.add(
        "b",
        json!({ "jobId": "b", "timestamp": 16_000_000_000_000_i64 }),
    )
    .await?;
    assert_eq!(q.act(clean(JobState::Waiting, 0, 0)).await?, json!(["a"]));
    q.expect("wait", json!(["b"])).await
}

/// BullMQ deletes in batches of 10,000, and looks at the limit between two of them.
async fn clean_deletes_no_more_than_its_limit(q: &mut Driver) -> TestResult {
    for from in (0..10_300).step_by(100) {
        let mut add = vec!["ZADD".to_owned(), "completed".to_owned()];
        for n in from..from + 100 {
            add.extend([n.to_string(), format!("c{n}")]);
        }
        let add: Vec<&str> = add.iter().map(String::as_str).collect();
        q.redis(&add).await?;
    }
    let gone = q.act(clean(JobState::Completed, 0, 10_150)).await?;
    assert_eq!(gone.as_array().map(Vec::len), Some(10_150));
    let events = json!(["event cleaned count 10000", "event cleaned count 150"]);
    q.expect("events", events).await
}

/// BullMQ pauses the queue, then refuses, and leaves it paused.
async fn refused_obliteration_does_not_pause(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    let before = q.snapshot().await?;
    let refused = q.act(Step::Many(Many::Obliterate { force: false })).await?;
    assert_eq!(refused, json!({ "refused": "active jobs" }));
    assert_eq!(q.snapshot().await?.difference(&before), None);
    Ok(())
}

/// BullMQ leaves parents that wait for other queues' children, which later run in a queue that is gone; a
/// limit, which may have no end; and deduplication ids, which swallow the jobs of the next queue of that name.
async fn obliterated_queue_leaves_nothing_that_runs_or_blocks(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "kid", "queueName": "c", "opts": { "jobId": "kid" } }]);
    q.flow("par", json!({}), children).await?;
    q.redis(&["SET", "limiter", "9007199254740991"]).await?;
    q.redis(&["SET", "de:over", "gone", "PX", "90000"]).await?;
    q.redis(&["HSET", "dn:over", "name", "x"]).await?;
    q.redis(&["HSET", "dn:alone", "name", "x"]).await?;
    q.act(Step::Many(Many::Obliterate { force: false })).await?;
    for key in [
        "par",
        "par:dependencies",
        "waiting-children",
        "limiter",
        "de:over",
        "dn:over",
        "dn:alone",
        "meta",
    ] {
        q.expect(key, json!(null)).await?;
    }
    // The child ends without a parent.
    q.go("c").await?;
    q.work_off("kid").await?;
    assert_eq!(q.snapshot().await?.value("q:wait"), json!(null));
    Ok(())
}

/// BullMQ puts all of them into `wait`.
async fn jobs_run_again_by_their_priority_and_position(q: &mut Driver) -> TestResult {
    for (id, opts) in [
        ("p", json!({ "priority": 5 })),
        ("plain", json!({})),
        ("lifo", json!({ "lifo": true })),
    ] {
        let mut opts = opts;
        opts["jobId"] = id.into();
        q.add(id, opts).await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
        q.pass(10).await?;
    }
    q.add_all(&["w"]).await?;
    let until = q.now();
    let completed = false;
    q.act(Step::Many(Many::Retry { completed, until })).await?;
    q.expect("wait", json!(["plain", "w", "lifo"])).await?;
    q.expect("prioritized", json!(["p", "21474836482"])).await
}

/// BullMQ keeps the stalls of such jobs, and a deferred failure.
async fn jobs_that_run_again_may_stall_again(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.redis(&["HSET", "a", "stc", "1", "defa", "child failed"])
        .await?;
    let until = q.now();
    let completed = false;
    q.act(Step::Many(Many::Retry { completed, until })).await?;
    for field in ["stc", "defa", "failedReason", "finishedOn"] {
        q.expect_field("a", field, Value::Null).await?;
    }
    q.expect_field("a", "stf", json!("1")).await
}

/// BullMQ puts all of them into `wait`, with the delay of their add.
async fn promoted_jobs_have_no_delay_and_keep_their_priority(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 2000 })).await?;
    q.add("p", json!({ "jobId": "p", "delay": 1000, "priority": 3 }))
        .await?;
    q.act(Step::Many(Many::Promote)).await?;
    q.expect("wait", json!(["d"])).await?;
    q.expect("prioritized", json!(["p", "12884901889"])).await?;
    for id in ["d", "p"] {
        q.expect_field(id, "delay", json!("0")).await?;
    }
    Ok(())
}

/// BullMQ queues them, and makes a job of each that has no data.
async fn ids_without_a_job_do_not_run_again(q: &mut Driver) -> TestResult {
    q.redis(&["ZADD", "failed", "5", "ghost"]).await?;
    q.redis(&["ZADD", "delayed", "5", "ghost"]).await?;
    let (completed, until) = (false, q.now());
    q.act(Step::Many(Many::Retry { completed, until })).await?;
    q.act(Step::Many(Many::Promote)).await?;
    for key in ["ghost", "wait", "failed", "delayed", "marker"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

/// BullMQ deletes the child, and its parent waits for ever.
async fn parent_of_an_orphan_is_released(q: &mut Driver) -> TestResult {
    let opts = json!({ "jobId": "kid" });
    let child = json!([{ "name": "kid", "queueName": "q", "opts": opts }]);
    q.go("p").await?;
    q.flow("par", json!({}), child).await?;
    q.go("q").await?;
    q.redis(&["DEL", "wait"]).await?;
    q.redis(&["HSET", "kid", "deid", "x"]).await?;
    q.redis(&["SET", "de:x", "kid"]).await?;
    assert_eq!(q.act(Step::Many(Many::RemoveOrphans)).await?, json!(1));
    q.expect("de:x", json!(null)).await?;
    q.go("p").await?;
    q.expect("wait", json!(["par"])).await
}

/// A queue `x` under the prefix `P:q` has keys that look like those of a job `x` of the queue `q`.
async fn keys_of_other_queues_are_no_orphans(q: &mut Driver) -> TestResult {
    q.redis(&["ZADD", "x:failed", "1", "job"]).await?;
    q.redis(&["HSET", "newer", "setting", "1"]).await?;
    q.redis(&["SADD", "other", "1"]).await?;
    assert_eq!(q.act(Step::Many(Many::RemoveOrphans)).await?, json!(0));
    q.expect("x:failed", json!(["job", "1"])).await?;
    q.expect("newer", json!({ "setting": "1" })).await?;
    q.expect("other", json!(["1"])).await
}

/// Nothing else would release the id of a deleted job.
async fn parent_that_goes_with_its_cleaned_child_frees_its_id(q: &mut Driver) -> TestResult {
    let children = json!([{ "name": "kid", "queueName": "q", "opts": { "jobId": "kid" } }]);
    q.flow("par", json!({}), children).await?;
    q.redis(&["HSET", "par", "deid", "x"]).await?;
    q.redis(&["SET", "de:x", "par"]).await?;
    q.act(clean(JobState::Waiting, 0, 0)).await?;
    for key in ["par", "kid", "de:x"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}
