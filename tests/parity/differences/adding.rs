//! What is added, and what is refused.

use oxbull::JobId;
use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;

scenarios!(own:
    long_numbers_in_options_stay_exact,
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
