//! Acting on jobs: `docs/protocol.md#acting-on-jobs`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(everyone:
    promoted_job_waits,
    promoted_prioritized_job_goes_by_its_priority,
    promoted_lifo_job_queues_at_the_end,
    promotion_on_a_paused_queue_wakes_nobody,
    only_delayed_jobs_are_promoted_or_delayed_further,
    changed_delay_counts_from_now,
    unchanged_delay_keeps_to_the_slot,
    waiting_job_gets_a_priority,
    prioritized_job_loses_its_priority,
    prioritized_job_gets_another_priority,
    first_of_its_equals_on_request,
    priority_of_other_states_is_only_a_number,
    failed_job_runs_again,
    completed_job_runs_again,
    finished_prioritized_job_runs_again_by_priority,
    retry_on_a_paused_queue_wakes_nobody,
    only_finished_jobs_run_again,
    data_is_replaced,
    progress_is_stored_and_published,
    log_keeps_the_newest_rows,
    states_are_found,
);

fn retry(id: &str) -> Step {
    Step::Retry {
        id: id.to_owned(),
        completed: false,
        reset_made: false,
        reset_started: false,
    }
}

fn promote(id: &str) -> Step {
    Step::Promote { id: id.to_owned() }
}

fn change_delay(id: &str, millis: u64) -> Step {
    Step::ChangeDelay {
        id: id.to_owned(),
        millis,
    }
}

fn change_priority(id: &str, priority: u32, lifo: bool) -> Step {
    Step::ChangePriority {
        id: id.to_owned(),
        priority,
        lifo,
    }
}

async fn promoted_job_waits(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(promote("d")).await?;
    q.expect("wait", json!(["d", "a"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.expect_field("d", "delay", json!("0")).await
}

async fn promoted_prioritized_job_goes_by_its_priority(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 9000, "priority": 4 }))
        .await?;
    q.act(change_delay("d", 50_000)).await?;
    q.act(promote("d")).await?;
    q.expect("prioritized", json!(["d", "17179869185"])).await
}

async fn promoted_lifo_job_queues_at_the_end(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 9000, "lifo": true }))
        .await?;
    q.act(promote("d")).await?;
    q.expect("wait", json!(["d", "a"])).await
}

async fn promotion_on_a_paused_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 9000 })).await?;
    q.node("queue.pause", json!({})).await?;
    q.act(promote("d")).await?;
    q.expect("marker", json!(null)).await
}

async fn only_delayed_jobs_are_promoted_or_delayed_further(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let wrong = json!({ "refused": -3 });
    assert_eq!(q.act(promote("a")).await?, wrong);
    assert_eq!(q.act(change_delay("a", 5)).await?, wrong);
    Ok(())
}

async fn changed_delay_counts_from_now(q: &mut Driver) -> TestResult {
    q.add("d", json!({ "jobId": "d", "delay": 5000 })).await?;
    q.add("e", json!({ "jobId": "e", "delay": 7000 })).await?;
    q.pass(757).await?;
    q.act(change_delay("d", 9000)).await?;
    q.expect("marker", json!(["1", "1700000007000"])).await?;
    q.act(change_delay("e", 100_000)).await?;
    q.expect("marker", json!(["1", "1700000009757"])).await?;
    q.expect_field("d", "delay", json!("9000")).await?;
    q.act(change_delay("d", 0)).await?;
    q.fetch_job("t", "d").await
}

async fn unchanged_delay_keeps_to_the_slot(q: &mut Driver) -> TestResult {
    for id in ["d", "e"] {
        q.add(id, json!({ "jobId": id, "delay": 5000 })).await?;
    }
    // The job's own old entry counts when it stays in its millisecond.
    q.act(change_delay("d", 5000)).await?;
    q.act(change_delay("d", 5000)).await?;
    Ok(())
}

async fn waiting_job_gets_a_priority(q: &mut Driver) -> TestResult {
    q.add_all(&["w1", "w2"]).await?;
    q.add("p1", json!({ "jobId": "p1", "priority": 5 })).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(change_priority("w1", 5, false)).await?;
    q.expect(
        "prioritized",
        json!(["p1", "21474836481", "w1", "21474836482"]),
    )
    .await?;
    q.expect("marker", json!(["0", "0"])).await?;
    q.expect_field("w1", "priority", json!("5")).await
}

async fn prioritized_job_loses_its_priority(q: &mut Driver) -> TestResult {
    q.add_all(&["w1"]).await?;
    for id in ["p1", "p2"] {
        q.add(id, json!({ "jobId": id, "priority": 5 })).await?;
    }
    q.act(change_priority("p1", 0, false)).await?;
    q.act(change_priority("p2", 0, true)).await?;
    q.expect("wait", json!(["p1", "w1", "p2"])).await
}

async fn prioritized_job_gets_another_priority(q: &mut Driver) -> TestResult {
    for id in ["p1", "p2"] {
        q.add(id, json!({ "jobId": id, "priority": 5 })).await?;
    }
    q.act(change_priority("p2", 3, false)).await?;
    q.fetch_job("t", "p2").await?;
    q.act(change_priority("p1", 0, true)).await?;
    q.act(change_priority("p1", 0, false)).await?;
    q.fetch_job("t", "p1").await
}

async fn first_of_its_equals_on_request(q: &mut Driver) -> TestResult {
    q.add_all(&["w"]).await?;
    q.add("p1", json!({ "jobId": "p1", "priority": 5 })).await?;
    q.act(change_priority("w", 5, true)).await?;
    q.expect(
        "prioritized",
        json!(["w", "21474836480", "p1", "21474836481"]),
    )
    .await
}

async fn priority_of_other_states_is_only_a_number(q: &mut Driver) -> TestResult {
    q.add_all(&["a", "c"]).await?;
    q.add("d", json!({ "jobId": "d", "delay": 5000 })).await?;
    q.fetch_job("t", "a").await?;
    q.work_off("c").await?;
    for id in ["a", "c", "d"] {
        q.act(change_priority(id, 6, false)).await?;
    }
    q.redis(&["LPUSH", "paused", "legacy"]).await?;
    q.redis(&["HSET", "legacy", "name", "x", "priority", "0"])
        .await?;
    q.act(change_priority("legacy", 6, true)).await?;
    q.expect("prioritized", json!(null)).await?;
    // An active job that got a priority goes back by it.
    q.fail("a", "t").await?;
    q.pass(5000).await?;
    q.fetch("t").await?;
    Ok(())
}

async fn failed_job_runs_again(q: &mut Driver) -> TestResult {
    q.add_all(&["o1"]).await?;
    q.redis(&["RENAME", "wait", "$P:q:aside"]).await?;
    for (id, opts) in [
        ("a", json!({ "jobId": "a" })),
        ("l", json!({ "jobId": "l", "lifo": true })),
        ("r", json!({ "jobId": "r" })),
    ] {
        q.add(id, opts).await?;
        q.fetch_job("t", id).await?;
        q.fail(id, "t").await?;
    }
    q.redis(&["RENAME", "aside", "$P:q:wait"]).await?;
    q.redis(&["DEL", "marker"]).await?;
    q.act(retry("a")).await?;
    q.act(retry("l")).await?;
    q.act(Step::Retry {
        id: "r".to_owned(),
        completed: false,
        reset_made: true,
        reset_started: true,
    })
    .await?;
    q.expect("wait", json!(["r", "a", "o1", "l"])).await?;
    q.expect("marker", json!(["0", "0"])).await?;
    for field in ["failedReason", "finishedOn", "processedOn"] {
        q.expect_field("a", field, json!(null)).await?;
    }
    q.expect_field("a", "atm", json!("1")).await?;
    q.expect_field("r", "atm", json!(null)).await
}

async fn completed_job_runs_again(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.work_off("a").await?;
    q.act(Step::Retry {
        id: "a".to_owned(),
        completed: true,
        reset_made: true,
        reset_started: false,
    })
    .await?;
    q.expect_field("a", "returnvalue", json!(null)).await?;
    q.work_off("a").await
}

async fn finished_prioritized_job_runs_again_by_priority(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "jobId": "a", "priority": 4 })).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.act(retry("a")).await?;
    q.expect("wait", json!(null)).await?;
    q.fetch_job("t", "a").await
}

async fn retry_on_a_paused_queue_wakes_nobody(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    q.fetch_job("t", "a").await?;
    q.fail("a", "t").await?;
    q.node("queue.pause", json!({})).await?;
    q.act(retry("a")).await?;
    q.expect("marker", json!(null)).await
}

async fn only_finished_jobs_run_again(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let wrong = json!({ "refused": -3 });
    assert_eq!(q.act(retry("a")).await?, wrong);
    q.work_off("a").await?;
    // It has completed, not failed.
    assert_eq!(q.act(retry("a")).await?, wrong);
    Ok(())
}

async fn data_is_replaced(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let id = "a".to_owned();
    let data = json!({ "deep": [1, { "x": null }], "text": "é" });
    q.act(Step::UpdateData { id, data }).await?;
    let started = q.fetch("t").await?;
    assert_eq!(started["data"]["text"], "é");
    Ok(())
}

async fn progress_is_stored_and_published(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    let all: [Value; 6] = [
        json!(50),
        json!({ "a": 1 }),
        json!("str"),
        json!(true),
        json!(null),
        json!([1]),
    ];
    for progress in all {
        let id = "a".to_owned();
        q.act(Step::UpdateProgress { id, progress }).await?;
    }
    let id = "nobody".to_owned();
    let progress = json!(1);
    let answer = q.act(Step::UpdateProgress { id, progress }).await?;
    assert_eq!(answer, json!({ "refused": -1 }));
    Ok(())
}

async fn log_keeps_the_newest_rows(q: &mut Driver) -> TestResult {
    q.add_all(&["a"]).await?;
    for n in 0..5 {
        let (id, row) = ("a".to_owned(), format!("row {n}"));
        let rows = q.act(Step::Log { id, row, keep: 3 }).await?;
        assert_eq!(rows, json!((n + 1).min(3)));
    }
    let (id, row) = ("a".to_owned(), "é\n".to_owned());
    q.act(Step::Log { id, row, keep: 0 }).await?;
    let (id, row) = ("nobody".to_owned(), String::new());
    let answer = q.act(Step::Log { id, row, keep: 0 }).await?;
    assert_eq!(answer, json!({ "refused": -1 }));
    let rows = json!(["row 2", "row 3", "row 4", "é\n"]);
    q.expect("a:logs", rows).await
}

async fn states_are_found(q: &mut Driver) -> TestResult {
    q.add_all(&["active", "completed", "failed"].map(|s| match s {
        "active" => "ja",
        "completed" => "jc",
        _ => "jf",
    }))
    .await?;
    q.fetch_job("t", "ja").await?;
    q.work_off("jc").await?;
    q.fetch_job("t", "jf").await?;
    q.fail("jf", "t").await?;
    q.add_all(&["jw"]).await?;
    q.add("jd", json!({ "jobId": "jd", "delay": 10 })).await?;
    q.add("jp", json!({ "jobId": "jp", "priority": 10 }))
        .await?;
    let child = json!([{ "name": "k", "queueName": "q", "opts": { "jobId": "k" } }]);
    q.flow("jx", json!({}), child).await?;
    q.redis(&["LPUSH", "paused", "legacy"]).await?;
    for (id, state) in [
        ("ja", "active"),
        ("jc", "completed"),
        ("jf", "failed"),
        ("jw", "waiting"),
        ("jd", "delayed"),
        ("jp", "prioritized"),
        ("jx", "waiting-children"),
        ("legacy", "waiting"),
        ("nobody", "unknown"),
    ] {
        let found = q.act(Step::State { id: id.to_owned() }).await?;
        assert_eq!(found, state);
    }
    Ok(())
}
