//! Rate limits and global concurrency: `docs/protocol.md#rate-limits`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Limit};

scenarios!(everyone:
    worker_s_limit_counts_its_starts,
    worker_without_a_limit_does_not_count,
    global_limit_binds_every_worker,
    global_limit_beats_the_worker_s_number,
    limit_refuses_the_next_job_of_a_finisher,
    manual_limit_stops_limited_workers_only,
    deferred_failure_is_not_counted,
    due_jobs_move_under_a_limit,
    global_concurrency_stops_starts,
    finisher_takes_the_next_job_of_a_full_queue,
    global_concurrency_zero_stops_everything,
    concurrency_is_set_read_and_removed,
    lowered_concurrency_waits_for_running_jobs,
    global_rate_is_set_read_and_removed,
    global_rate_takes_the_worker_s_window,
    zero_in_a_global_limit_lets_one_job_start,
    limit_follows_from_the_count,
    limit_imposed_by_hand_holds_until_lifted,
    released_jobs_count_again,
);

async fn worker_s_limit_counts_its_starts(q: &mut Driver) -> TestResult {
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

async fn worker_without_a_limit_does_not_count(q: &mut Driver) -> TestResult {
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

async fn global_limit_binds_every_worker(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetRate(1, 90_000)).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("limiter", json!("1")).await
}

async fn global_limit_beats_the_worker_s_number(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetRate(1, 900_000)).await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 5, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

async fn limit_refuses_the_next_job_of_a_finisher(q: &mut Driver) -> TestResult {
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

async fn manual_limit_stops_limited_workers_only(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b"]).await?;
    q.limit(Limit::Impose(80_000)).await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 9, "duration": 60_000 } }),
    );
    assert!(q.fetch("t").await?.is_null());
    q.worker("free", json!(null));
    q.fetch_job("t", "a").await
}

async fn deferred_failure_is_not_counted(q: &mut Driver) -> TestResult {
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

async fn due_jobs_move_under_a_limit(q: &mut Driver) -> TestResult {
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

async fn global_concurrency_stops_starts(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(2)).await?;
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tb", "b").await?;
    assert!(q.fetch("tc").await?.is_null());
    q.complete("a", "ta").await?;
    q.fetch_job("tc", "c").await
}

async fn finisher_takes_the_next_job_of_a_full_queue(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetConcurrency(1)).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    let next = q.end_and_fetch("a", "t", End::Complete(json!(1))).await?;
    assert_eq!(next["id"], "b");
    q.expect("marker", json!(["0", "0"])).await
}

async fn global_concurrency_zero_stops_everything(q: &mut Driver) -> TestResult {
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 0 }))
        .await?;
    q.add_all(&["a"]).await?;
    q.expect("marker", json!(null)).await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

async fn concurrency_is_set_read_and_removed(q: &mut Driver) -> TestResult {
    assert_eq!(q.limit(Limit::Concurrency).await?, json!(null));
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(false));
    assert_eq!(q.limit(Limit::RemoveConcurrency).await?, json!(false));
    q.limit(Limit::SetConcurrency(3)).await?;
    q.limit(Limit::SetConcurrency(1)).await?;
    assert_eq!(q.limit(Limit::Concurrency).await?, json!(1));
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(false));
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(true));
    assert_eq!(q.limit(Limit::RemoveConcurrency).await?, json!(true));
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(false));
    q.fetch_job("t2", "b").await
}

async fn lowered_concurrency_waits_for_running_jobs(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "b", "c"]).await?;
    q.fetch_job("ta", "a").await?;
    q.fetch_job("tb", "b").await?;
    q.limit(Limit::SetConcurrency(1)).await?;
    assert_eq!(q.limit(Limit::IsMaxed).await?, json!(true));
    let next = q.end_and_fetch("a", "ta", End::Complete(json!(1))).await?;
    assert!(next.is_null(), "two were active, one may be");
    let next = q.end_and_fetch("b", "tb", End::Complete(json!(1))).await?;
    assert_eq!(next["id"], "c");
    Ok(())
}

async fn global_rate_is_set_read_and_removed(q: &mut Driver) -> TestResult {
    assert_eq!(q.limit(Limit::Rate).await?, json!(null));
    assert_eq!(q.limit(Limit::RemoveRate).await?, json!(false));
    q.limit(Limit::SetRate(10, 1000)).await?;
    q.limit(Limit::SetRate(1, 70_000)).await?;
    assert_eq!(
        q.limit(Limit::Rate).await?,
        json!({ "max": 1, "duration": 70_000 })
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    assert_eq!(q.limit(Limit::RemoveRate).await?, json!(true));
    assert_eq!(q.limit(Limit::Rate).await?, json!(null));
    // BullMQ's worker that met the limit fetches nothing until the time in the reply.
    q.worker("other", json!(null));
    q.fetch_job("t2", "b").await?;
    q.expect("limiter", json!("1")).await
}

async fn global_rate_takes_the_worker_s_window(q: &mut Driver) -> TestResult {
    q.limit(Limit::SetRate(1, 900_000)).await?;
    q.worker(
        "limited",
        json!({ "limiter": { "max": 5, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.worker("free", json!(null));
    assert!(q.fetch("t").await?.is_null());
    // The snapshot has how long the counter lasts: a minute, not fifteen.
    q.expect("limiter", json!("1")).await
}

/// Only BullMQ stores such a number.
async fn zero_in_a_global_limit_lets_one_job_start(q: &mut Driver) -> TestResult {
    q.node(
        "queue.setGlobalRateLimit",
        json!({ "max": 0, "duration": 60_000 }),
    )
    .await?;
    assert_eq!(
        q.limit(Limit::Rate).await?,
        json!({ "max": 0, "duration": 60_000 })
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    assert!(q.fetch("t").await?.is_null());
    Ok(())
}

async fn limit_follows_from_the_count(q: &mut Driver) -> TestResult {
    let unlimited = [None, Some(2), Some(3)];
    for max in unlimited {
        assert_eq!(q.limit(Limit::State(max)).await?, "free");
    }
    q.worker(
        "limited",
        json!({ "limiter": { "max": 3, "duration": 60_000 } }),
    );
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("t", "b").await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "held");
    assert_eq!(q.limit(Limit::State(Some(2))).await?, "held");
    assert_eq!(q.limit(Limit::State(Some(3))).await?, "free");
    q.limit(Limit::SetRate(3, 60_000)).await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "free");
    assert_eq!(q.limit(Limit::State(Some(2))).await?, "held");
    q.limit(Limit::SetRate(2, 60_000)).await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "held");
    q.redis(&["PERSIST", "limiter"]).await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "free");
    assert_eq!(q.limit(Limit::State(Some(2))).await?, "free");
    q.limit(Limit::RemoveRate).await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "endless");
    Ok(())
}

async fn limit_imposed_by_hand_holds_until_lifted(q: &mut Driver) -> TestResult {
    assert_eq!(q.limit(Limit::Lift).await?, json!(false));
    q.limit(Limit::SetRate(100, 60_000)).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    // More might start in this window, which the limit ends.
    q.limit(Limit::Impose(50_000)).await?;
    q.expect("limiter", json!("9007199254740991")).await?;
    assert_eq!(q.limit(Limit::State(None)).await?, "held");
    assert_eq!(q.limit(Limit::State(Some(1_000_000))).await?, "held");
    assert!(q.fetch("t2").await?.is_null());
    assert_eq!(q.limit(Limit::Lift).await?, json!(true));
    assert_eq!(q.limit(Limit::State(None)).await?, "free");
    // BullMQ's worker that met the limit fetches nothing until the time in the reply.
    q.worker("other", json!(null));
    q.fetch_job("t2", "b").await?;
    q.expect("limiter", json!("1")).await
}

async fn released_jobs_count_again(q: &mut Driver) -> TestResult {
    q.worker(
        "limited",
        json!({ "limiter": { "max": 2, "duration": 60_000 } }),
    );
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::Release).await?;
    q.fetch_job("t", "a").await?;
    q.end("a", "t", End::Release).await?;
    assert!(q.fetch("t").await?.is_null());
    q.expect("limiter", json!("2")).await
}
