//! Jobs and ids that a fetch meets.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(own:
    due_jobs_move_in_bounded_steps,
    legacy_ids_in_a_row_are_all_dropped,
    ids_without_a_job_are_dropped,
    counter_of_priorities_may_pass_its_range,
    retried_end_fetches_the_next_job,
);

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
    assert_eq!(left, [350, 250, 150, 50]);
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

/// A caller that asks for the next job gets it, however the last one ended.
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
    // The last number is taken: all of them are renumbered, and the counter restarts.
    q.redis(&["ZADD", "prioritized", "12884901887", "d"])
        .await?;
    add(q, "e").await?;
    if let Some(scores) = scores.as_array_mut() {
        scores.extend([json!("e"), json!("8589934597")]);
    }
    q.expect("prioritized", scores).await?;
    q.expect("pc", json!("4294967301")).await
}
