//! Pausing and resuming: `docs/protocol.md#pausing`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(everyone:
    pause_stops_starts_and_keeps_jobs_in_place,
    resume_wakes_for_waiting_jobs,
    resume_announces_delayed_jobs,
    resume_of_an_empty_queue_writes_no_wake_up,
    resume_of_a_full_queue_wakes,
    pause_and_resume_say_so_each_time,
    active_job_ends_while_the_queue_is_paused,
    legacy_list_becomes_the_waiting_one,
    legacy_jobs_run_before_those_that_wait,
    long_legacy_list_comes_back_whole,
);

async fn pause_stops_starts_and_keeps_jobs_in_place(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.add("p", json!({ "jobId": "p", "priority": 1 })).await?;
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.act(Step::Pause).await?;
    q.expect("marker", json!(null)).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("wait", json!(["b", "a"])).await
}

async fn resume_wakes_for_waiting_jobs(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.fetch_job("t", "a").await
}

async fn resume_announces_delayed_jobs(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    q.expect("marker", json!(["1", "1700000009000"])).await
}

async fn resume_of_an_empty_queue_writes_no_wake_up(q: &mut Driver) -> TestResult {
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    q.expect("marker", json!(null)).await
}

async fn resume_of_a_full_queue_wakes(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn pause_and_resume_say_so_each_time(q: &mut Driver) -> TestResult {
    q.act(Step::Resume).await?;
    q.act(Step::Pause).await?;
    q.act(Step::Pause).await?;
    q.act(Step::Resume).await?;
    Ok(())
}

async fn active_job_ends_while_the_queue_is_paused(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tb", "b").await?;
    q.act(Step::Pause).await?;
    q.complete("a", "ta").await?;
    q.end_and_fetch("b", "tb", End::Complete(json!(1))).await?;
    Ok(())
}

async fn legacy_list_becomes_the_waiting_one(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.act(Step::Pause).await?;
    q.redis(&["RENAME", "wait", "$P:q:paused"]).await?;
    q.act(Step::Resume).await?;
    q.expect("wait", json!(["b", "a"])).await
}

async fn legacy_jobs_run_before_those_that_wait(q: &mut Driver) -> TestResult {
    q.add_all(&["1a", "2b"]).await?;
    q.act(Step::Pause).await?;
    q.redis(&["RENAME", "wait", "$P:q:paused"]).await?;
    q.add_all(&["3c"]).await?;
    q.add("4d", json!({ "jobId": "4d", "lifo": true })).await?;
    q.act(Step::Resume).await?;
    q.expect("wait", json!(["3c", "4d", "2b", "1a"])).await?;
    q.expect("paused", json!(null)).await
}

/// BullMQ moves 7000 ids a call, this library fewer: nothing is lost, and there is one event.
async fn long_legacy_list_comes_back_whole(q: &mut Driver) -> TestResult {
    q.act(Step::Pause).await?;
    q.add_all(&["W0", "W1"]).await?;
    for n in 0..26 {
        let ids: Vec<String> = (0..100).map(|m| format!("L{}", n * 100 + m)).collect();
        let mut command = vec!["RPUSH", "paused"];
        command.extend(ids.iter().map(String::as_str));
        q.redis(&command).await?;
    }
    q.act(Step::Resume).await?;
    let wait = q.snapshot().await?.value("q:wait");
    assert_eq!(wait.as_array().map(Vec::len), Some(2602));
    assert_eq!(wait[2], "L0");
    Ok(())
}
