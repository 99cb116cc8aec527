//! Iterations of job schedulers: the activation of one makes the next. See
//! `docs/protocol.md#next-iterations`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::{Driver, START};
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    activation_makes_the_next_iteration,
    later_iterations_have_the_defaults_of_jobs,
    late_iteration_returns_to_its_grid,
    stored_offset_beats_the_explicit_one,
    iteration_on_time_keeps_its_phase,
    due_successor_waits_at_once,
    pattern_skips_what_was_missed,
    promoted_pattern_iteration_is_followed_by_the_next_slot,
    limit_ends_a_schedule,
    end_of_an_interval_stops_the_making,
    end_of_a_pattern_is_its_last_slot,
    retries_make_no_further_iteration,
    stalled_iteration_makes_no_further_one,
    older_iteration_that_runs_again_makes_none,
    existing_job_halts_the_schedule,
    removed_scheduler_makes_no_iteration,
    definition_rules_name_and_data,
    options_are_inherited_from_the_predecessor,
    repeatable_of_version_5_that_was_continued_goes_on,
    unknown_members_travel_on,
    deduplication_of_a_template_is_only_stored,
    iterations_without_a_count_begin_with_one,
    schedulers_mind_their_own_iterations,
    successor_of_a_full_queue_wakes_nobody,
);

fn every(millis: u64) -> Value {
    json!({ "every": millis })
}

fn id(scheduler: &str, slot: i64) -> String {
    format!("repeat:{scheduler}:{slot}")
}

/// The scheduler's newest iteration must be the one of this slot.
async fn current(q: &mut Driver, scheduler: &str, slot: i64) -> TestResult {
    q.expect("repeat", json!([scheduler, slot.to_string()]))
        .await
}

async fn activation_makes_the_next_iteration(q: &mut Driver) -> TestResult {
    let template = json!({ "name": "jn", "data": { "v": 1 }, "opts": { "attempts": 2 } });
    q.upsert_with("s", every(60_000), template).await?;
    q.pass(5).await?;
    q.fetch_job("t", &id("s", START)).await?;
    current(q, "s", START + 60_000).await?;
    q.expect_field("repeat:s", "ic", json!("2")).await?;
    q.complete(&id("s", START), "t").await?;
    q.pass(60_000).await?;
    q.work_off(&id("s", START + 60_000)).await?;
    q.expect_field("repeat:s", "ic", json!("3")).await
}

async fn later_iterations_have_the_defaults_of_jobs(q: &mut Driver) -> TestResult {
    let upsert = json!({ "id": "s", "repeat": { "every": 1000 },
        "template": { "opts": { "backoff": 10, "keepLogs": 4, "delay": 77, "jobId": "mine" } } });
    q.node("queue.upsertJobScheduler", upsert).await?;
    q.work_off(&id("s", START)).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 1000)).await
}

async fn late_iteration_returns_to_its_grid(q: &mut Driver) -> TestResult {
    q.pass(222).await?;
    let first = START + 222;
    q.upsert_at("s", every(1000), first).await?;
    q.pass(3310).await?;
    q.work_off(&id("s", first)).await?;
    current(q, "s", first + 4000).await?;
    q.pass(690).await?;
    q.work_off(&id("s", first + 4000)).await?;
    current(q, "s", first + 5000).await?;
    // One interval late to the millisecond is not late.
    q.pass(2000).await?;
    q.work_off(&id("s", first + 5000)).await?;
    current(q, "s", first + 6000).await
}

async fn stored_offset_beats_the_explicit_one(q: &mut Driver) -> TestResult {
    q.upsert_at("s", json!({ "every": 1000, "offset": 250 }), START + 250)
        .await?;
    q.redis(&["HSET", "repeat:s", "offset", "600"]).await?;
    q.pass(5836).await?;
    q.work_off(&id("s", START + 250)).await?;
    current(q, "s", START + 6600).await
}

async fn iteration_on_time_keeps_its_phase(q: &mut Driver) -> TestResult {
    q.upsert_at(
        "s",
        json!({ "every": 7000, "startDate": START + 3 }),
        START + 3,
    )
    .await?;
    q.pass(3).await?;
    for n in 0..3 {
        q.pass(7000).await?;
        q.work_off(&id("s", START + 3 + 7000 * n)).await?;
    }
    Ok(())
}

async fn due_successor_waits_at_once(q: &mut Driver) -> TestResult {
    let template = json!({ "name": "s", "opts": { "lifo": true } });
    q.upsert_with("s", every(1000), template).await?;
    let template = json!({ "name": "p", "opts": { "priority": 7 } });
    q.upsert_with("p", every(1000), template).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START)).await?;
    q.expect("wait", json!([id("s", START + 1000)])).await?;
    q.work_off(&id("s", START + 1000)).await?;
    q.work_off(&id("p", START)).await?;
    q.expect("wait", json!(null)).await
}

async fn pattern_skips_what_was_missed(q: &mut Driver) -> TestResult {
    q.upsert_at(
        "s",
        json!({ "pattern": "* * * * * *", "tz": "UTC" }),
        START + 1000,
    )
    .await?;
    q.pass(3405).await?;
    q.work_off(&id("s", START + 1000)).await?;
    current(q, "s", START + 4000).await
}

async fn promoted_pattern_iteration_is_followed_by_the_next_slot(q: &mut Driver) -> TestResult {
    let minute = START + 40_000;
    q.upsert_at("s", json!({ "pattern": "* * * * *", "tz": "UTC" }), minute)
        .await?;
    q.act(Step::Promote {
        id: id("s", minute),
    })
    .await?;
    q.work_off(&id("s", minute)).await?;
    current(q, "s", minute + 60_000).await
}

async fn limit_ends_a_schedule(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 100, "limit": 2 })).await?;
    q.work_off(&id("s", START)).await?;
    q.pass(100).await?;
    q.work_off(&id("s", START + 100)).await?;
    current(q, "s", START + 100).await?;
    q.expect_field("repeat:s", "ic", json!("2")).await?;
    q.expect("delayed", json!(null)).await
}

async fn end_of_an_interval_stops_the_making(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 100, "endDate": START + 150 }))
        .await?;
    for n in 0..2 {
        q.work_off(&id("s", START + 100 * n)).await?;
        q.pass(100).await?;
    }
    // Made before the end, for a time after it.
    q.work_off(&id("s", START + 200)).await?;
    current(q, "s", START + 200).await
}

async fn end_of_a_pattern_is_its_last_slot(q: &mut Driver) -> TestResult {
    let repeat = json!({ "pattern": "* * * * * *", "tz": "UTC", "endDate": START + 2000 });
    q.upsert_at("s", repeat, START + 1000).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 1000)).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 2000)).await?;
    current(q, "s", START + 2000).await
}

async fn retries_make_no_further_iteration(q: &mut Driver) -> TestResult {
    let template = json!({ "name": "s", "opts": { "attempts": 2 } });
    q.upsert_with("s", every(60_000), template).await?;
    let first = id("s", START);
    q.fetch_job("t", &first).await?;
    q.fail(&first, "t").await?;
    q.fetch_job("t", &first).await?;
    q.fail(&first, "t").await?;
    q.act(Step::Retry {
        id: first.clone(),
        completed: false,
        reset_made: false,
        reset_started: false,
    })
    .await?;
    q.work_off(&first).await?;
    q.expect_field("repeat:s", "ic", json!("2")).await
}

async fn stalled_iteration_makes_no_further_one(q: &mut Driver) -> TestResult {
    q.upsert("s", every(60_000)).await?;
    let first = id("s", START);
    q.fetch_job("t", &first).await?;
    q.stall(&[&first], 1).await?;
    q.work_off(&first).await?;
    q.expect_field("repeat:s", "ic", json!("2")).await?;
    q.expect_field(&first, "defa", json!(null)).await
}

async fn older_iteration_that_runs_again_makes_none(q: &mut Driver) -> TestResult {
    q.upsert("s", every(1000)).await?;
    q.work_off(&id("s", START)).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 1000)).await?;
    q.act(Step::Retry {
        id: id("s", START),
        completed: true,
        reset_made: true,
        reset_started: true,
    })
    .await?;
    q.work_off(&id("s", START)).await?;
    current(q, "s", START + 2000).await
}

async fn existing_job_halts_the_schedule(q: &mut Driver) -> TestResult {
    q.upsert("s", every(60_000)).await?;
    let next = id("s", START + 60_000);
    q.redis(&["HSET", &next, "name", "old"]).await?;
    q.work_off(&id("s", START)).await?;
    current(q, "s", START).await?;
    q.expect("delayed", json!(null)).await
}

async fn removed_scheduler_makes_no_iteration(q: &mut Driver) -> TestResult {
    q.upsert("s", every(60_000)).await?;
    let scheduler = "s".to_owned();
    q.act(Step::RemoveScheduler { id: scheduler }).await?;
    q.work_off(&id("s", START)).await?;
    q.expect("repeat", json!(null)).await
}

async fn definition_rules_name_and_data(q: &mut Driver) -> TestResult {
    let template = json!({ "name": "a", "data": { "v": 1 }, "opts": { "attempts": 4 } });
    q.upsert_with("s", every(1000), template).await?;
    let edit = [
        "HSET",
        "repeat:s",
        "name",
        "nn",
        "data",
        r#"{"v":9}"#,
        "opts",
        r#"{"attempts":8}"#,
    ];
    q.redis(&edit).await?;
    q.redis(&["HSET", "repeat:s", "newer", "field"]).await?;
    q.work_off(&id("s", START)).await?;
    q.pass(1000).await?;
    q.redis(&["HDEL", "repeat:s", "data"]).await?;
    q.work_off(&id("s", START + 1000)).await?;
    q.expect_field("repeat:s", "newer", json!("field")).await
}

async fn options_are_inherited_from_the_predecessor(q: &mut Driver) -> TestResult {
    q.upsert("s", every(1000)).await?;
    let opts = json!({ "repeat": { "every": 1000, "count": 5 }, "priority": 3, "attempts": 2,
        "fpof": true, "backoff": { "type": "mine" }, "removeOnComplete": { "age": 5 } });
    q.redis(&["HSET", &id("s", START), "opts", &opts.to_string()])
        .await?;
    q.work_off(&id("s", START)).await?;
    q.expect_field(&id("s", START + 1000), "priority", json!("3"))
        .await
}

async fn repeatable_of_version_5_that_was_continued_goes_on(q: &mut Driver) -> TestResult {
    let key = "2de99c4afb4e0b2f2c7e33f49c3bc5ee";
    let first = id(key, START);
    q.redis(&["ZADD", "repeat", &START.to_string(), key])
        .await?;
    q.redis(&[
        "HSET",
        &format!("repeat:{key}"),
        "name",
        "rep",
        "every",
        "60000",
        "ic",
        "1",
    ])
    .await?;
    let opts = json!({ "repeat": { "every": 60_000, "count": 1 }, "attempts": 0 }).to_string();
    q.redis(&[
        "HSET",
        &first,
        "name",
        "rep",
        "data",
        "{}",
        "opts",
        &opts,
        "timestamp",
        "5",
        "rjk",
        key,
        "nrjid",
        "another",
    ])
    .await?;
    q.redis(&["LPUSH", "wait", &first]).await?;
    q.work_off(&first).await?;
    current(q, key, START + 60_000).await
}

async fn unknown_members_travel_on(q: &mut Driver) -> TestResult {
    q.upsert("s", every(1000)).await?;
    let opts = json!({ "repeat": { "every": 1000, "count": 1, "hashSeed": "x", "newer": [1] },
        "newer": { "deep": [1.5] }, "prevMillis": 7 });
    q.redis(&["HSET", &id("s", START), "opts", &opts.to_string()])
        .await?;
    q.work_off(&id("s", START)).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 1000)).await
}

async fn deduplication_of_a_template_is_only_stored(q: &mut Driver) -> TestResult {
    let upsert = json!({ "id": "s", "repeat": { "every": 1000 },
        "template": { "opts": { "deduplication": { "id": "d", "ttl": 50_000 } } } });
    q.node("queue.upsertJobScheduler", upsert).await?;
    q.work_off(&id("s", START)).await?;
    q.expect("de:d", json!(null)).await?;
    q.pass(1000).await?;
    q.work_off(&id("s", START + 1000)).await?;
    q.expect_field(&id("s", START + 2000), "deid", json!("d"))
        .await
}

async fn iterations_without_a_count_begin_with_one(q: &mut Driver) -> TestResult {
    q.upsert("s", every(1000)).await?;
    let opts = json!({ "repeat": { "every": 60_000 } }).to_string();
    q.redis(&["HSET", &id("s", START), "opts", &opts]).await?;
    q.redis(&["HDEL", "repeat:s", "every"]).await?;
    q.work_off(&id("s", START)).await?;
    current(q, "s", START + 60_000).await
}

async fn schedulers_mind_their_own_iterations(q: &mut Driver) -> TestResult {
    for scheduler in ["a", "a:b", "b"] {
        q.upsert_at(scheduler, every(1000), START).await?;
    }
    for scheduler in ["a", "a:b", "b"] {
        q.work_off(&id(scheduler, START)).await?;
    }
    Ok(())
}

async fn successor_of_a_full_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.upsert("s", every(1000)).await?;
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.pass(1000).await?;
    q.fetch_job("t", &id("s", START)).await?;
    q.expect("wait", json!([id("s", START + 1000)])).await
}
