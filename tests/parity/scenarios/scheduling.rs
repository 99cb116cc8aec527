//! Job schedulers: upserts, removal and readers. See `docs/protocol.md#upserting-a-scheduler`.

use oxbull_testkit::TestResult;
use serde_json::json;

use crate::driver::{Driver, START};
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    first_run_of_an_interval_is_now,
    template_is_stored_and_its_job_queued,
    template_may_be_empty,
    options_of_a_template_reach_its_jobs,
    pattern_is_stored_with_all_that_bounds_it,
    pattern_may_begin_at_once,
    schedule_without_a_run_to_come_changes_nothing,
    offset_shifts_the_first_run,
    start_of_an_interval_is_its_first_run,
    delayed_iteration_is_replaced_in_place,
    waiting_iteration_is_replaced_in_place,
    prioritized_iteration_is_replaced_in_place,
    changed_interval_runs_at_once,
    changed_offset_waits_for_a_catch_up,
    changed_start_moves_nothing_but_with_a_changed_interval,
    patterns_and_intervals_replace_each_other,
    pattern_over_a_started_interval_resets_its_offset,
    running_iteration_keeps_running,
    changed_schedule_replaces_the_successor_of_a_running_iteration,
    ended_schedule_goes_on_after_an_upsert,
    lost_schedule_is_aligned_by_an_upsert,
    stale_jobs_push_an_interval_to_a_later_slot,
    too_many_stale_jobs_refuse_an_interval,
    taken_slot_refuses_a_pattern,
    full_and_paused_queues_are_not_woken,
    removed_scheduler_takes_its_delayed_iteration_along,
    removed_scheduler_leaves_a_waiting_iteration,
    schedulers_are_read_and_counted,
);

/// The next full minute after [`START`]; it is an odd one.
const MINUTE: i64 = START + 40_000;

fn every(millis: u64) -> serde_json::Value {
    json!({ "every": millis })
}

fn minutely() -> serde_json::Value {
    json!({ "pattern": "* * * * *", "tz": "UTC" })
}

async fn first_run_of_an_interval_is_now(q: &mut Driver) -> TestResult {
    q.upsert_at("s", every(60_000), START).await?;
    q.expect("repeat", json!(["s", START.to_string()])).await?;
    q.expect_field("repeat:s", "offset", json!("20000")).await?;
    q.expect("wait", json!([format!("repeat:s:{START}")])).await
}

async fn template_is_stored_and_its_job_queued(q: &mut Driver) -> TestResult {
    let template = json!({
        "name": "jn", "data": { "a": [1, "é"] },
        "opts": { "attempts": 3, "priority": 2, "removeOnComplete": 5,
                  "backoff": { "type": "exponential", "delay": 100 }, "keepLogs": 7 },
    });
    q.upsert_with("s", every(60_000), template).await?;
    q.expect_field("repeat:s", "name", json!("jn")).await?;
    let id = format!("repeat:s:{START}");
    q.expect_field(&id, "priority", json!("2")).await?;
    q.expect_field(&id, "rjk", json!("s")).await
}

async fn template_may_be_empty(q: &mut Driver) -> TestResult {
    q.upsert("with:colons and spaces/é", every(5000)).await?;
    let template = json!({ "name": "", "data": {} });
    q.upsert_with("t", every(5000), template).await?;
    let template = json!({ "name": "list", "data": [] });
    q.upsert_with("u", every(5000), template).await?;
    q.expect_field("repeat:t", "data", json!(null)).await?;
    q.expect_field("repeat:u", "data", json!([])).await
}

async fn options_of_a_template_reach_its_jobs(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let template = json!({ "name": "next", "opts": { "lifo": true } });
    q.upsert_with("s", every(5000), template).await?;
    q.expect("wait", json!(["a", format!("repeat:s:{START}")]))
        .await?;
    let template = json!({ "name": "next", "opts": { "lifo": true, "priority": 4 } });
    q.upsert_with("t", every(5000), template).await?;
    let template = json!({ "name": "l", "opts": { "removeOnFail": { "age": 5, "count": 2 },
        "stackTraceLimit": 3, "sizeLimit": 900, "telemetry": { "metadata": "m" } } });
    q.upsert_with("u", every(5000), template).await?;
    Ok(())
}

async fn pattern_is_stored_with_all_that_bounds_it(q: &mut Driver) -> TestResult {
    let repeat = json!({
        "pattern": "*/5 * * * *", "tz": "Europe/Madrid", "limit": 10,
        "startDate": START + 3_600_000, "endDate": START + 86_400_000,
    });
    q.upsert("s", repeat).await?;
    q.expect_field("repeat:s", "limit", json!("10")).await?;
    q.upsert(
        "t",
        json!({ "pattern": "0 30 2 * * *", "tz": "America/New_York" }),
    )
    .await?;
    Ok(())
}

async fn pattern_may_begin_at_once(q: &mut Driver) -> TestResult {
    let mut repeat = minutely();
    repeat["immediately"] = json!(true);
    q.upsert_at("s", repeat, START).await?;
    q.work_off(&format!("repeat:s:{START}")).await?;
    q.expect("repeat", json!(["s", MINUTE.to_string()])).await
}

async fn schedule_without_a_run_to_come_changes_nothing(q: &mut Driver) -> TestResult {
    let repeat = json!({ "pattern": "0 0 1 1 *", "tz": "UTC", "endDate": START + 3_600_000 });
    assert_eq!(q.upsert("s", repeat).await?, json!(null));
    q.expect("repeat", json!(null)).await
}

async fn offset_shifts_the_first_run(q: &mut Driver) -> TestResult {
    q.upsert_at(
        "a",
        json!({ "every": 60_000, "offset": 30_000 }),
        START + 10_000,
    )
    .await?;
    q.upsert_at(
        "b",
        json!({ "every": 60_000, "offset": 10_000 }),
        START + 50_000,
    )
    .await?;
    q.upsert_at(
        "c",
        json!({ "every": 10_000, "offset": 25_000 }),
        START + 25_000,
    )
    .await?;
    q.upsert_at("d", json!({ "every": 60_000, "offset": 0 }), START)
        .await?;
    q.upsert_at(
        "e",
        json!({ "every": 60_000, "offset": 20_000 }),
        START + 60_000,
    )
    .await
}

async fn start_of_an_interval_is_its_first_run(q: &mut Driver) -> TestResult {
    q.upsert_at(
        "a",
        json!({ "every": 60_000, "startDate": START + 12_345 }),
        START + 12_345,
    )
    .await?;
    q.expect_field("repeat:a", "offset", json!("32345")).await?;
    q.upsert_at(
        "b",
        json!({ "every": 60_000, "startDate": START - 12_345 }),
        START,
    )
    .await?;
    let repeat = json!({ "every": 60_000, "startDate": START + 500, "offset": 700 });
    q.upsert_at("c", repeat, START + 500).await
}

async fn delayed_iteration_is_replaced_in_place(q: &mut Driver) -> TestResult {
    let repeat = json!({ "every": 60_000, "offset": 30_000 });
    let slot = START + 10_000;
    q.upsert_at("s", repeat.clone(), slot).await?;
    q.pass(3000).await?;
    let template = json!({ "name": "new", "data": { "v": 2 }, "opts": { "attempts": 2 } });
    q.upsert_with("s", repeat, template).await?;
    q.expect("repeat", json!(["s", slot.to_string()])).await?;
    q.upsert_at("p", minutely(), MINUTE).await?;
    q.pass(1000).await?;
    q.upsert_at("p", minutely(), MINUTE).await
}

async fn waiting_iteration_is_replaced_in_place(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.upsert_at("s", every(60_000), START).await?;
    q.add_all(&["b"]).await?;
    q.pass(5).await?;
    q.upsert_at("s", every(60_000), START).await?;
    q.expect("wait", json!([format!("repeat:s:{START}"), "b", "a"]))
        .await?;
    q.upsert_at("s", every(30_000), START + 5).await?;
    q.upsert_at("s", minutely(), MINUTE).await?;
    q.expect("wait", json!(["b", "a"])).await
}

async fn prioritized_iteration_is_replaced_in_place(q: &mut Driver) -> TestResult {
    let template = || json!({ "name": "s", "opts": { "priority": 3 } });
    q.upsert_with("s", every(60_000), template()).await?;
    q.pass(5).await?;
    q.upsert_with("s", every(60_000), template()).await?;
    q.upsert_at("s", every(60_000), START).await?;
    q.expect("prioritized", json!(null)).await
}

async fn changed_interval_runs_at_once(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 60_000, "offset": 7000 }))
        .await?;
    q.pass(200).await?;
    q.upsert_at("s", every(30_000), START + 200).await?;
    q.expect("delayed", json!(null)).await?;
    q.expect_field("repeat:s", "offset", json!("7000")).await
}

async fn changed_offset_waits_for_a_catch_up(q: &mut Driver) -> TestResult {
    let slot = START + 45_000;
    q.upsert_at("s", json!({ "every": 60_000, "offset": 5000 }), slot)
        .await?;
    q.upsert_at("s", json!({ "every": 60_000, "offset": 7000 }), slot)
        .await?;
    q.expect_field("repeat:s", "offset", json!("7000")).await?;
    q.upsert_at("s", json!({ "every": 60_000, "offset": 0 }), slot)
        .await?;
    q.expect_field("repeat:s", "offset", json!("7000")).await?;
    // Fetched more than an interval late, the next one is back on its grid.
    q.pass(200_000).await?;
    q.work_off(&format!("repeat:s:{slot}")).await?;
    let next = START + 200_000 + 27_000;
    q.expect("repeat", json!(["s", next.to_string()])).await
}

async fn changed_start_moves_nothing_but_with_a_changed_interval(q: &mut Driver) -> TestResult {
    let starting = |every: i64, start: i64| json!({ "every": every, "startDate": START + start });
    q.upsert_at("s", starting(60_000, 5000), START + 5000)
        .await?;
    q.upsert_at("s", starting(60_000, 9000), START + 5000)
        .await?;
    q.upsert_at("s", starting(30_000, 7000), START + 7000).await
}

async fn patterns_and_intervals_replace_each_other(q: &mut Driver) -> TestResult {
    q.upsert("s", json!({ "every": 60_000, "offset": 7000 }))
        .await?;
    q.upsert_at("s", minutely(), MINUTE).await?;
    q.expect_field("repeat:s", "every", json!(null)).await?;
    q.expect_field("repeat:s", "offset", json!("7000")).await?;
    q.upsert_at(
        "s",
        json!({ "pattern": "1-59/2 * * * *", "tz": "UTC" }),
        MINUTE + 60_000,
    )
    .await?;
    q.pass(1).await?;
    q.upsert_at("s", every(60_000), START + 1).await?;
    q.expect("delayed", json!(null)).await
}

async fn pattern_over_a_started_interval_resets_its_offset(q: &mut Driver) -> TestResult {
    q.upsert_at("s", json!({ "every": 60_000, "limit": 1 }), START)
        .await?;
    q.work_off(&format!("repeat:s:{START}")).await?;
    q.upsert_at("s", minutely(), MINUTE).await?;
    q.upsert_at("t", json!({ "every": 60_000, "limit": 1 }), START)
        .await?;
    q.work_off(&format!("repeat:t:{START}")).await?;
    q.pass(10).await?;
    q.upsert_at("t", every(7000), START + 10).await
}

async fn running_iteration_keeps_running(q: &mut Driver) -> TestResult {
    q.upsert_at("s", every(60_000), START).await?;
    q.fetch_job("t", &format!("repeat:s:{START}")).await?;
    let template = json!({ "name": "s", "data": { "v": 2 } });
    q.pass(10).await?;
    q.upsert_with("s", every(60_000), template).await?;
    q.expect("repeat", json!(["s", (START + 60_000).to_string()]))
        .await?;
    q.expect_field("repeat:s", "ic", json!("2")).await?;
    q.complete(&format!("repeat:s:{START}"), "t").await?;
    Ok(())
}

async fn changed_schedule_replaces_the_successor_of_a_running_iteration(
    q: &mut Driver,
) -> TestResult {
    q.upsert_at("s", every(30_000), START).await?;
    q.fetch_job("t", &format!("repeat:s:{START}")).await?;
    q.pass(10).await?;
    q.upsert_at("s", every(20_000), START + 10).await?;
    q.complete(&format!("repeat:s:{START}"), "t").await?;
    q.expect("delayed", json!(null)).await?;
    q.fetch_job("u", &format!("repeat:s:{}", START + 10))
        .await?;
    q.upsert_at("s", minutely(), MINUTE).await
}

async fn ended_schedule_goes_on_after_an_upsert(q: &mut Driver) -> TestResult {
    q.upsert_at("s", json!({ "every": 60_000, "limit": 1 }), START)
        .await?;
    q.work_off(&format!("repeat:s:{START}")).await?;
    q.expect("delayed", json!(null)).await?;
    q.pass(10).await?;
    q.upsert_at("s", every(60_000), START + 60_000).await?;
    q.expect_field("repeat:s", "ic", json!("1")).await
}

async fn lost_schedule_is_aligned_by_an_upsert(q: &mut Driver) -> TestResult {
    q.upsert_at("s", json!({ "every": 60_000, "limit": 1 }), START)
        .await?;
    q.work_off(&format!("repeat:s:{START}")).await?;
    q.pass(500_123).await?;
    // The plain grid: multiples of a minute.
    q.upsert_at("s", every(60_000), START + 520_000).await?;
    q.expect_field("repeat:s", "offset", json!("0")).await?;
    q.upsert_at("t", json!({ "every": 60_000, "limit": 1 }), START + 500_123)
        .await?;
    q.work_off(&format!("repeat:t:{}", START + 500_123)).await?;
    q.pass(500_000).await?;
    let repeat = json!({ "every": 60_000, "offset": 5000 });
    q.upsert("t", repeat).await?;
    Ok(())
}

/// Puts jobs of an earlier life on the first slots of an interval of a second.
async fn stale(q: &mut Driver, count: i64) -> TestResult {
    for n in 0..count {
        let id = format!("repeat:s:{}", START + 1000 * n);
        q.redis(&["HSET", &id, "name", "old"]).await?;
    }
    Ok(())
}

async fn stale_jobs_push_an_interval_to_a_later_slot(q: &mut Driver) -> TestResult {
    stale(q, 3).await?;
    q.upsert_at("s", every(1000), START + 3000).await?;
    q.go("other").await?;
    stale(q, 32).await?;
    q.upsert_at("s", every(1000), START + 32_000).await
}

async fn too_many_stale_jobs_refuse_an_interval(q: &mut Driver) -> TestResult {
    stale(q, 33).await?;
    let answer = q.upsert("s", every(1000)).await?;
    assert_eq!(answer, json!({ "refused": -11 }));
    q.expect("repeat", json!(null)).await
}

async fn taken_slot_refuses_a_pattern(q: &mut Driver) -> TestResult {
    let id = format!("repeat:s:{MINUTE}");
    q.redis(&["HSET", &id, "name", "old"]).await?;
    let answer = q.upsert("s", minutely()).await?;
    assert_eq!(answer, json!({ "refused": -10 }));
    q.expect("repeat", json!(null)).await
}

async fn full_and_paused_queues_are_not_woken(q: &mut Driver) -> TestResult {
    q.act(Step::Pause).await?;
    q.upsert("s", every(60_000)).await?;
    q.expect("marker", json!(null)).await?;
    q.upsert("p", minutely()).await?;
    q.go("full").await?;
    q.add_all(&["a"]).await?;
    q.node("queue.setGlobalConcurrency", json!({ "concurrency": 1 }))
        .await?;
    q.fetch_job("t", "a").await?;
    q.redis(&["DEL", "marker"]).await?;
    q.upsert("s", every(60_000)).await?;
    q.expect("marker", json!(null)).await
}

fn remove(id: &str) -> Step {
    let id = id.to_owned();
    Step::RemoveScheduler { id }
}

async fn removed_scheduler_takes_its_delayed_iteration_along(q: &mut Driver) -> TestResult {
    q.upsert("s", minutely()).await?;
    assert_eq!(q.act(remove("s")).await?, json!(true));
    assert_eq!(q.act(remove("s")).await?, json!(false));
    assert_eq!(q.act(remove("never")).await?, json!(false));
    q.expect("delayed", json!(null)).await?;
    q.expect("repeat:s", json!(null)).await
}

async fn removed_scheduler_leaves_a_waiting_iteration(q: &mut Driver) -> TestResult {
    let id = format!("repeat:s:{START}");
    q.upsert("s", every(60_000)).await?;
    q.act(remove("s")).await?;
    q.expect("wait", json!([id])).await?;
    // It runs once more, and nothing follows.
    q.work_off(&id).await?;
    q.expect("delayed", json!(null)).await?;
    // Its job is an ordinary one now.
    let children = false;
    q.act(Step::Remove { id, children }).await?;
    Ok(())
}

async fn schedulers_are_read_and_counted(q: &mut Driver) -> TestResult {
    for (id, offset) in [("a", 10_000), ("b", 30_000), ("c", 50_000)] {
        let template = json!({ "name": id, "data": { "of": id } });
        let repeat = json!({ "every": 60_000, "offset": offset, "limit": 7 });
        q.upsert_with(id, repeat, template).await?;
    }
    let repeat = json!({ "pattern": "*/5 * * * *", "tz": "Europe/Madrid",
        "startDate": START + 5, "endDate": START + 900_000 });
    q.upsert("p", repeat).await?;
    for id in ["a", "p", "never"] {
        let id = id.to_owned();
        q.act(Step::GetScheduler { id }).await?;
    }
    for (start, end, asc) in [(0, -1, true), (0, -1, false), (1, 2, true), (1, 2, false)] {
        q.act(Step::ListSchedulers { start, end, asc }).await?;
    }
    let count = q.act(Step::CountSchedulers).await?;
    assert_eq!(count, json!(4));
    Ok(())
}
