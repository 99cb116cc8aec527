//! Rate limits of queues.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Limit};

scenarios!(own:
    limit_without_a_window_does_not_apply,
    count_that_never_ends_is_replaced,
    limit_imposed_for_longer_is_not_shortened,
    odd_counter_stops_an_end_before_it_begins,
    fractions_and_endless_windows_of_others_are_understood,
);

/// BullMQ's first start of a window ends in an error with the id already in `active`.
async fn limit_without_a_window_does_not_apply(q: &mut Driver) -> TestResult {
    q.redis(&["HSET", "meta", "max", "1"]).await?;
    q.add_all(&["a", "b"]).await?;
    q.fetch_job("t", "a").await?;
    q.fetch_job("t", "b").await
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

/// The caller that asked for the longer time relies on it.
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
