//! Rate limits and global concurrency: spec processing §6 and §13.

use serde_json::json;

use crate::TestResult;
use crate::driver::End;
use crate::player::Player;
use crate::stage::play;

play!(everyone:
    worker_s_limit_counts_its_starts,
    worker_without_a_limit_does_not_count,
    global_limit_binds_every_worker,
    global_limit_beats_the_worker_s_number,
    limit_refuses_the_next_job_of_a_finisher,
    manual_limit_stops_limited_workers_only,
    deferred_failure_is_not_counted,
    due_jobs_move_under_a_limit,
    limit_without_a_window_is_left_over,
    global_concurrency_stops_starts,
    finisher_takes_the_next_job_of_a_full_queue,
    global_concurrency_zero_stops_everything,
);

async fn worker_s_limit_counts_its_starts(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 2, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("t", "b").await?;
    q.expect("limiter", json!("2")).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("wait", json!(["c"])).await
}

async fn worker_without_a_limit_does_not_count(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 1, "duration": 60_000 } }),
    );
    q.fetch_job("t", "a").await?;
    q.worker("free", json!(null));
    q.fetch_job("t", "b").await?;
    q.expect("limiter", json!("1")).await
}

async fn global_limit_binds_every_worker(q: &mut Player) -> TestResult {
    q.node(
        "queue.setGlobalRateLimit",
        json!({ "max": 1, "duration": 90_000 }),
    )
    .await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("limiter", json!("1")).await
}

async fn global_limit_beats_the_worker_s_number(q: &mut Player) -> TestResult {
    q.node(
        "queue.setGlobalRateLimit",
        json!({ "max": 1, "duration": 900_000 }),
    )
    .await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 5, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

async fn limit_refuses_the_next_job_of_a_finisher(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 1, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    assert!(next.is_null());
    q.expect("wait", json!(["b"])).await
}

async fn manual_limit_stops_limited_workers_only(q: &mut Player) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.node("queue.rateLimit", json!({ "ms": 80_000 })).await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 9, "duration": 60_000 } }),
    );
    assert!(q.fetch("t").await?.is_null());
    q.worker("free", json!(null));
    q.fetch_job("t", "a").await
}

async fn deferred_failure_is_not_counted(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 1, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.redis(&["HSET", "a", "defa", "no"]).await?;
    q.fetch_job("t", "a").await?;
    q.expect("limiter", json!(null)).await?;
    q.fetch_job("t", "b").await?;
    q.expect("limiter", json!("1")).await
}

async fn due_jobs_move_under_a_limit(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 1, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 10 })).await?;
    q.fetch_job("t", "a").await?;
    q.pass(10).await?;
    q.redis(&["DEL", "marker"]).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("wait", json!(["d", "b"])).await?;
    q.expect("marker", json!(["0", "0"])).await
}

async fn limit_without_a_window_is_left_over(q: &mut Player) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 2, "duration": 60_000 } }),
    );
    q.add_all(&["a"]).await?;
    q.redis(&["SET", "limiter", "99"]).await?;
    q.fetch_job("t", "a").await?;
    q.expect("limiter", json!("100")).await
}

async fn global_concurrency_stops_starts(q: &mut Player) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 2 }))
        .await?;
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tb", "b").await?;
    assert!(q.fetch("tc").await?.is_null());
    q.complete("a", "ta").await?;
    q.fetch_job("tc", "c").await
}

async fn finisher_takes_the_next_job_of_a_full_queue(q: &mut Player) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    assert_eq!(next["id"], "b");
    q.expect("marker", json!(["0", "0"])).await
}

async fn global_concurrency_zero_stops_everything(q: &mut Player) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 0 }))
        .await?;
    q.add_all(&["a"]).await?;
    q.expect("marker", json!(null)).await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}
