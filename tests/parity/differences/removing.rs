//! Jobs that leave with others.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(own:
    scheduled_iterations_survive_a_drain,
    parent_with_colons_is_released_by_a_removal,
    jobs_that_are_each_other_s_parents_are_removed,
    parent_that_goes_with_its_drained_child_frees_its_id,
);

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

/// BullMQ follows the circle until its script fails.
async fn jobs_that_are_each_other_s_parents_are_removed(q: &mut Driver) -> TestResult {
    let parent = |id: &str| json!({ "id": id, "queue": "$P:q" });
    q.add("a", json!({ "jobId": "a" })).await?;
    q.add("b", json!({ "jobId": "b", "parent": parent("a") }))
        .await?;
    // BullMQ stores what closes the circle; we refuse it (`circles` in tests/it).
    q.redis(&["SADD", "b:dependencies", "$P:q:a"]).await?;
    for (field, value) in [
        ("parentKey", "$P:q:b"),
        ("parent", r#"{"id":"b","queueKey":"$P:q"}"#),
    ] {
        q.redis(&["HSET", "a", field, value]).await?;
    }
    let (id, children) = ("b".to_owned(), true);
    assert_eq!(q.act(Step::Remove { id, children }).await?, json!(null));
    for key in ["a", "b", "wait", "a:dependencies", "b:dependencies"] {
        q.expect(key, json!(null)).await?;
    }
    Ok(())
}

/// Nothing else would release the id of a removed job.
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
