//! Adds under a deduplication id, for every owner and every state:
//! `docs/protocol.md#deduplication`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    simple_add_meets_every_owner,
    timed_add_meets_every_owner,
    extending_add_meets_every_owner,
    replacing_add_meets_every_owner,
    timed_replacing_add_meets_every_owner,
    extending_replacing_add_meets_every_owner,
    rescheduling_add_meets_every_owner,
    timed_rescheduling_add_meets_every_owner,
    extending_rescheduling_add_meets_every_owner,
    keeping_add_meets_every_owner,
    keeping_replacing_add_meets_every_owner,
    keeping_rescheduling_add_meets_every_owner,
    existing_id_wins_over_deduplication,
    deduplication_id_may_have_colons,
    bulk_with_one_id_keeps_the_first,
    bulk_of_replacements_leaves_the_last,
    bulk_sees_what_its_own_jobs_did,
    replaced_job_takes_its_keys_along,
    rescheduled_owner_counts_its_own_slot,
    rescheduled_owner_wakes_at_its_new_time,
    paused_queue_deduplicates_without_waking_anybody,
);

/// Time limits that no tolerance mistakes for each other, in milliseconds.
pub(super) const OWNER_TTL: u64 = 90_000;

const NEW_TTL: u64 = 40_000;

/// Adds under ids whose owners are in every state, with and without a time limit: first the
/// producer, then, under what that left, BullMQ; both are owners' producers too.
async fn meet_every_owner(q: &mut Driver, mode: Value) -> TestResult {
    let deduplication = |id: &str| {
        let mut deduplication = mode.clone();
        deduplication["id"] = id.into();
        deduplication
    };
    let mut ids = vec!["absent".to_owned()];
    for ttl in [0, OWNER_TTL] {
        for state in [
            "completed",
            "failed",
            "active",
            "waiting",
            "prioritized",
            "delayed",
            "vanished",
        ] {
            let id = format!("{state}-{ttl}");
            let mut opts = json!({ "jobId": format!("own-{id}"), "deduplication": { "id": id } });
            if ttl > 0 {
                opts["deduplication"]["ttl"] = ttl.into();
            }
            match state {
                "prioritized" => opts["priority"] = 3.into(),
                "delayed" => opts["delay"] = 60_000.into(),
                _ => {}
            }
            if ttl > 0 {
                q.node_add(&id, opts).await?;
            } else {
                q.add(&id, opts).await?;
            }
            let owner = format!("own-{id}");
            match state {
                "completed" => q.work_off(&owner).await?,
                "failed" => {
                    q.fetch_job("t", &owner).await?;
                    q.fail(&owner, "t").await?;
                }
                "active" => q.fetch_job("t", &owner).await?,
                "vanished" => {
                    q.redis(&["DEL", &owner]).await?;
                    q.redis(&["LREM", "wait", "1", &owner]).await?;
                }
                _ => {}
            }
            if state == "vanished" || state == "waiting" {
                // Fetches of the next owners must find those alone.
                q.redis(&["LREM", "wait", "1", &owner]).await?;
            }
            ids.push(id);
        }
        q.redis(&["RPUSH", "wait", &format!("own-waiting-{ttl}")])
            .await?;
        if ttl == 0 {
            // As above; they come back below.
            q.redis(&["RENAME", "wait", "$P:q:hidden"]).await?;
            q.redis(&["RENAME", "prioritized", "$P:q:hidden-too"])
                .await?;
        }
    }
    q.redis(&["LMOVE", "hidden", "$P:q:wait", "LEFT", "LEFT"])
        .await?;
    q.redis(&["RENAME", "hidden-too", "$P:q:prioritized"])
        .await?;
    for id in &ids {
        q.pass(7).await?;
        q.add(
            "first",
            json!({ "delay": 80_000, "deduplication": deduplication(id) }),
        )
        .await?;
        q.pass(7).await?;
        q.node_add(
            "second",
            json!({ "attempts": 2, "deduplication": deduplication(id) }),
        )
        .await?;
        q.add(
            "third",
            json!({ "lifo": true, "deduplication": deduplication(id) }),
        )
        .await?;
    }
    for ttl in [0, OWNER_TTL] {
        q.pass(7).await?;
        q.complete(&format!("own-active-{ttl}"), "t").await?;
    }
    Ok(())
}

async fn simple_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({})).await
}

async fn timed_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "ttl": NEW_TTL })).await
}

async fn extending_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "ttl": NEW_TTL, "extend": true })).await
}

async fn replacing_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "replace": true })).await
}

async fn timed_replacing_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "ttl": NEW_TTL, "replace": true })).await
}

async fn extending_replacing_add_meets_every_owner(q: &mut Driver) -> TestResult {
    let mode = json!({ "ttl": NEW_TTL, "extend": true, "replace": true });
    meet_every_owner(q, mode).await
}

async fn rescheduling_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "reschedule": true })).await
}

async fn timed_rescheduling_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "ttl": NEW_TTL, "reschedule": true })).await
}

async fn extending_rescheduling_add_meets_every_owner(q: &mut Driver) -> TestResult {
    let mode = json!({ "ttl": NEW_TTL, "extend": true, "reschedule": true });
    meet_every_owner(q, mode).await
}

async fn keeping_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "keepLastIfActive": true })).await
}

async fn keeping_replacing_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "keepLastIfActive": true, "replace": true })).await
}

async fn keeping_rescheduling_add_meets_every_owner(q: &mut Driver) -> TestResult {
    meet_every_owner(q, json!({ "keepLastIfActive": true, "reschedule": true })).await
}

/// Adds a job `id` under the deduplication id `k`.
pub(super) async fn own(q: &mut Driver, id: &str, opts: Value) -> TestResult {
    let mut opts = opts;
    opts["jobId"] = id.into();
    opts["deduplication"]["id"] = "k".into();
    q.add(id, opts).await?;
    Ok(())
}

pub(super) async fn release(q: &mut Driver, owner: Option<&str>) -> TestResult<Value> {
    q.act(Step::ReleaseDeduplication {
        id: "k".to_owned(),
        owner: owner.map(str::to_owned),
    })
    .await
}

pub(super) async fn owner(q: &mut Driver) -> TestResult<Value> {
    let id = "k".to_owned();
    q.act(Step::DeduplicationOwner { id }).await
}

async fn existing_id_wins_over_deduplication(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    own(q, "a", json!({})).await?;
    q.expect("de:k", json!(null)).await?;
    own(q, "b", json!({ "delay": 60_000 })).await?;
    own(q, "a", json!({ "deduplication": { "replace": true } })).await?;
    own(q, "b", json!({ "deduplication": { "replace": true } })).await?;
    q.expect("de:k", json!("b")).await
}

async fn deduplication_id_may_have_colons(q: &mut Driver) -> TestResult {
    let opts = json!({ "deduplication": { "id": "a:b:c:d é" } });
    assert_eq!(q.add("one", opts.clone()).await?, json!("1"));
    assert_eq!(q.add("two", opts).await?, json!("1"));
    q.work_off("1").await
}

async fn bulk_with_one_id_keeps_the_first(q: &mut Driver) -> TestResult {
    let dedup = json!({ "deduplication": { "id": "k" } });
    let jobs = [
        ("plain", json!({})),
        ("a", dedup.clone()),
        ("b", dedup.clone()),
        ("c", json!({ "deduplication": { "id": "other" } })),
        ("d", dedup),
        ("last", json!({})),
    ];
    let ids = q.add_bulk(&jobs).await?;
    assert_eq!(ids, json!(["1", "2", "2", "4", "2", "6"]));
    q.expect("wait", json!(["6", "4", "2", "1"])).await
}

async fn bulk_of_replacements_leaves_the_last(q: &mut Driver) -> TestResult {
    let opts =
        |delay: u64| json!({ "delay": delay, "deduplication": { "id": "k", "replace": true } });
    let jobs = [
        ("a", opts(60_000)),
        ("b", opts(50_000)),
        ("c", opts(70_000)),
    ];
    assert_eq!(q.add_bulk(&jobs).await?, json!(["1", "2", "3"]));
    q.expect("de:k", json!("3")).await?;
    q.add("now", opts(0)).await?;
    q.expect("delayed", json!(null)).await?;
    assert_eq!(q.add_bulk(&jobs).await?, json!(["4", "4", "4"]));
    q.expect("wait", json!(["4"])).await
}

/// Ids that appear or vanish by an earlier job of the bulk.
async fn bulk_sees_what_its_own_jobs_did(q: &mut Driver) -> TestResult {
    let dedup = json!({ "id": "k", "replace": true });
    let parent = |id: &str| json!({ "queue": "$P:q", "id": id });
    let jobs = [
        (
            "old",
            json!({ "jobId": "old", "delay": 60_000, "deduplication": dedup }),
        ),
        (
            "new",
            json!({ "jobId": "new", "delay": 60_000, "deduplication": dedup }),
        ),
        // Was deleted, so it can be added again.
        ("old again", json!({ "jobId": "old" })),
        // Is not stored, so it can be neither a parent nor a duplicate.
        (
            "dropped",
            json!({ "jobId": "dropped", "deduplication": { "id": "k" } }),
        ),
        ("orphan", json!({ "parent": parent("dropped") })),
        ("child", json!({ "parent": parent("new") })),
        ("dropped again", json!({ "jobId": "dropped" })),
        (
            "duplicate",
            json!({ "jobId": "dropped", "deduplication": { "id": "k" } }),
        ),
    ];
    q.add_bulk(&jobs).await?;
    Ok(())
}

async fn replaced_job_takes_its_keys_along(q: &mut Driver) -> TestResult {
    own(q, "a", json!({ "delay": 60_000 })).await?;
    q.act(Step::Log {
        id: "a".to_owned(),
        row: "row".to_owned(),
        keep: 0,
    })
    .await?;
    q.add(
        "child",
        json!({ "jobId": "child", "parent": { "queue": "$P:q", "id": "a" } }),
    )
    .await?;
    own(
        q,
        "b",
        json!({ "delay": 60_000, "deduplication": { "replace": true } }),
    )
    .await?;
    q.work_off("child").await?;
    q.expect("a", json!(null)).await
}

async fn rescheduled_owner_counts_its_own_slot(q: &mut Driver) -> TestResult {
    own(q, "a", json!({ "delay": 60_000 })).await?;
    q.add("b", json!({ "jobId": "b", "delay": 60_000 })).await?;
    let again = json!({ "delay": 60_000, "deduplication": { "reschedule": true } });
    own(q, "c", again.clone()).await?;
    own(q, "d", again).await
}

async fn rescheduled_owner_wakes_at_its_new_time(q: &mut Driver) -> TestResult {
    own(q, "a", json!({ "delay": 60_000 })).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.pass(10).await?;
    own(
        q,
        "b",
        json!({ "delay": 90_000, "deduplication": { "reschedule": true } }),
    )
    .await?;
    q.expect_field("a", "delay", json!("90000")).await?;
    q.expect("marker", json!(["1", "1700000090010"])).await?;
    own(q, "c", json!({ "deduplication": { "reschedule": true } })).await?;
    q.work_off("a").await
}

async fn paused_queue_deduplicates_without_waking_anybody(q: &mut Driver) -> TestResult {
    q.act(Step::Pause).await?;
    own(q, "a", json!({ "delay": 60_000 })).await?;
    own(q, "b", json!({ "deduplication": { "replace": true } })).await?;
    own(q, "c", json!({ "deduplication": { "reschedule": true } })).await?;
    own(q, "d", json!({})).await?;
    q.expect("wait", json!(["b"])).await
}
