//! How owners of a deduplication id give it up, and what becomes of the adds that they kept.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::owning::{OWNER_TTL, own, owner, release};
use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::{End, Step};

scenarios!(everyone:
    owner_is_named_and_freed,
    steps_of_the_owner_leave_its_id_alone,
    removed_owner_frees_its_id,
    drained_owner_frees_its_id,
    owner_that_runs_again_does_not_own,
    last_kept_add_wins,
    kept_add_survives_retries_and_a_simple_add,
    kept_add_goes_with_its_owner,
    kept_add_survives_the_release_of_its_id,
    job_removed_on_completion_frees_its_id,
);

async fn owner_is_named_and_freed(q: &mut Driver) -> TestResult {
    assert_eq!(owner(q).await?, Value::Null);
    assert_eq!(release(q, None).await?, json!(false));
    own(q, "a", json!({})).await?;
    assert_eq!(owner(q).await?, json!("a"));
    assert_eq!(release(q, None).await?, json!(true));
    own(q, "b", json!({ "deduplication": { "ttl": OWNER_TTL } })).await?;
    assert_eq!(owner(q).await?, json!("b"));
    assert_eq!(release(q, Some("a")).await?, json!(false));
    assert_eq!(release(q, Some("b")).await?, json!(true));
    assert_eq!(release(q, Some("b")).await?, json!(false));
    own(q, "c", json!({})).await?;
    // Neither owns it any more: their ends change nothing.
    q.work_off("a").await?;
    q.work_off("b").await?;
    q.expect("de:k", json!("c")).await
}

/// Put back, delayed by itself, retried at once and later, stalled: the owner stays the owner.
async fn steps_of_the_owner_leave_its_id_alone(q: &mut Driver) -> TestResult {
    own(q, "a", json!({ "attempts": 3, "backoff": 50 })).await?;
    for end in [
        End::Release,
        End::DelayUntil(q.now() + 10),
        End::Fail {
            message: "no".to_owned(),
            fatal: false,
        },
    ] {
        q.fetch_job("t", "a").await?;
        q.end("a", "t", end).await?;
        own(q, "b", json!({})).await?;
        q.expect("de:k", json!("a")).await?;
        q.pass(60).await?;
    }
    q.fetch_job("t", "a").await?;
    q.stall(&["a"], 1).await?;
    own(q, "c", json!({})).await?;
    q.fetch_job("t", "a").await?;
    q.end(
        "a",
        "t",
        End::Fail {
            message: "no use".to_owned(),
            fatal: true,
        },
    )
    .await?;
    q.expect("de:k", json!(null)).await
}

async fn removed_owner_frees_its_id(q: &mut Driver) -> TestResult {
    for ttl in [json!({}), json!({ "ttl": OWNER_TTL })] {
        own(q, "a", json!({ "deduplication": ttl })).await?;
        own(q, "b", json!({})).await?;
        let (id, children) = ("a".to_owned(), true);
        q.act(Step::Remove { id, children }).await?;
        q.expect("de:k", json!(null)).await?;
        own(q, "c", json!({ "deduplication": ttl })).await?;
        q.work_off("c").await?;
        let (id, children) = ("c".to_owned(), true);
        q.act(Step::Remove { id, children }).await?;
        q.expect("de:k", json!(null)).await?;
    }
    Ok(())
}

async fn drained_owner_frees_its_id(q: &mut Driver) -> TestResult {
    own(
        q,
        "a",
        json!({ "delay": 60_000, "deduplication": { "ttl": OWNER_TTL } }),
    )
    .await?;
    q.add(
        "b",
        json!({ "priority": 1, "deduplication": { "id": "b" } }),
    )
    .await?;
    q.add("c", json!({ "deduplication": { "id": "c" } }))
        .await?;
    // Owned by another job now.
    q.redis(&["SET", "de:c", "other"]).await?;
    q.act(Step::Drain { delayed: true }).await?;
    q.expect("de:k", json!(null)).await?;
    q.expect("de:c", json!("other")).await
}

async fn owner_that_runs_again_does_not_own(q: &mut Driver) -> TestResult {
    own(q, "a", json!({})).await?;
    q.work_off("a").await?;
    q.act(Step::Retry {
        id: "a".to_owned(),
        completed: true,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.expect("de:k", json!(null)).await?;
    own(q, "b", json!({})).await?;
    q.work_off("a").await?;
    q.expect("de:k", json!("b")).await
}

async fn last_kept_add_wins(q: &mut Driver) -> TestResult {
    let keep = json!({ "deduplication": { "keepLastIfActive": true } });
    own(q, "a", keep.clone()).await?;
    q.fetch_job("t", "a").await?;
    own(q, "b", keep.clone()).await?;
    own(
        q,
        "c",
        json!({ "priority": 4, "deduplication": { "keepLastIfActive": true } }),
    )
    .await?;
    q.pass(30).await?;
    q.complete("a", "t").await?;
    q.expect("de:k", json!("c")).await?;
    q.expect("b", json!(null)).await?;
    own(q, "d", keep).await?;
    q.work_off("c").await?;
    q.expect("de:k", json!(null)).await
}

async fn kept_add_survives_retries_and_a_simple_add(q: &mut Driver) -> TestResult {
    own(
        q,
        "a",
        json!({ "attempts": 2, "deduplication": { "ttl": OWNER_TTL } }),
    )
    .await?;
    q.fetch_job("t", "a").await?;
    own(
        q,
        "b",
        json!({ "deduplication": { "keepLastIfActive": true } }),
    )
    .await?;
    own(q, "c", json!({})).await?;
    q.fail("a", "t").await?;
    q.expect("dn:k", json!({
        "name": "b", "data": { "n": "b" }, "jid": "b",
        "opts": { "attempts": 0.0, "jobId": "b", "de": { "id": "k", "keepLastIfActive": true } },
    }))
    .await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.expect("de:k", json!("b")).await
}

async fn kept_add_goes_with_its_owner(q: &mut Driver) -> TestResult {
    let keep = json!({ "deduplication": { "keepLastIfActive": true } });
    own(q, "a", keep.clone()).await?;
    q.fetch_job("t", "a").await?;
    own(q, "b", keep.clone()).await?;
    q.end("a", "t", End::DelayUntil(q.now() + 60_000)).await?;
    own(
        q,
        "c",
        json!({ "delay": 60_000, "deduplication": { "replace": true } }),
    )
    .await?;
    q.expect("dn:k", json!(null)).await?;
    let (id, children) = ("c".to_owned(), true);
    q.act(Step::Remove { id, children }).await?;
    own(q, "d", keep.clone()).await?;
    q.fetch_job("t", "d").await?;
    own(q, "e", keep).await?;
    q.end("d", "t", End::Release).await?;
    let (id, children) = ("d".to_owned(), true);
    q.act(Step::Remove { id, children }).await?;
    q.expect("dn:k", json!(null)).await
}

async fn kept_add_survives_the_release_of_its_id(q: &mut Driver) -> TestResult {
    let keep = json!({ "deduplication": { "keepLastIfActive": true } });
    own(q, "a", keep.clone()).await?;
    q.fetch_job("t", "a").await?;
    own(q, "b", keep).await?;
    release(q, None).await?;
    q.complete("a", "t").await?;
    q.expect("de:k", json!("b")).await
}

async fn job_removed_on_completion_frees_its_id(q: &mut Driver) -> TestResult {
    let keep = json!({ "removeOnComplete": true, "deduplication": { "keepLastIfActive": true } });
    own(q, "a", keep.clone()).await?;
    q.fetch_job("t", "a").await?;
    own(q, "b", keep).await?;
    q.complete("a", "t").await?;
    q.expect("a", json!(null)).await?;
    q.work_off("b").await?;
    q.expect("de:k", json!(null)).await
}
