//! Ends of attempts that the queue refuses to a real worker, and what becomes of the attempt and
//! of its neighbours: spec processing §8, §20 and errata.

use serde_json::{Value, json};

use crate::TestResult;
use crate::driver::Step;
use crate::player::Player;
use crate::stage::play;

play!(everyone:
    removed_job_s_end_is_dropped,
    end_without_a_lock_is_dropped,
    end_under_a_foreign_lock_is_dropped,
    failure_without_a_lock_is_dropped,
    step_back_without_a_lock_is_dropped,
    gate_holds_a_handler,
);

/// Starts a worker whose handler of `a` ends with `end` after something has happened to the job.
async fn meddle(q: &mut Player, end: Value, commands: &[&[&str]], left: &[&str]) -> TestResult {
    q.add("a", json!({ "jobId": "a", "attempts": 2 })).await?;
    q.add_all(&["b"]).await?;
    q.start_work(json!({ "a": [[["gate", "in"], end]] }))
        .await?;
    q.reach("in").await?;
    for command in commands {
        q.redis(command).await?;
    }
    if left.is_empty() {
        let id = "a".to_owned();
        let children = true;
        q.act(Step::Remove { id, children }).await?;
    }
    q.open_gate("in").await?;
    q.end_work(left).await?;
    q.expect_field("b", "ats", "1".into()).await?;
    q.expect_field("b", "returnvalue", json!({ "ok": "b" }))
        .await
}

async fn removed_job_s_end_is_dropped(q: &mut Player) -> TestResult {
    meddle(q, json!(["return", 1]), &[&["DEL", "a:lock"]], &[]).await?;
    q.expect("a", Value::Null).await
}

async fn end_without_a_lock_is_dropped(q: &mut Player) -> TestResult {
    meddle(q, json!(["return", 1]), &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

async fn end_under_a_foreign_lock_is_dropped(q: &mut Player) -> TestResult {
    let foreign: &[&str] = &["SET", "a:lock", "foreign"];
    meddle(q, json!(["return", 1]), &[foreign], &["a"]).await?;
    q.expect("a:lock", "foreign".into()).await
}

async fn failure_without_a_lock_is_dropped(q: &mut Player) -> TestResult {
    let end = json!(["fail", "too late"]);
    meddle(q, end, &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

async fn step_back_without_a_lock_is_dropped(q: &mut Player) -> TestResult {
    meddle(q, json!(["delay", 5000]), &[&["DEL", "a:lock"]], &["a"]).await?;
    q.expect("active", json!(["a"])).await
}

/// What others do while a handler runs is seen by its end.
async fn gate_holds_a_handler(q: &mut Player) -> TestResult {
    q.add_all(&["a"]).await?;
    q.start_work(json!({ "a": [[["gate", "in"], ["fail", "after all"]]] }))
        .await?;
    q.reach("in").await?;
    q.add("b", json!({ "jobId": "b", "priority": 3 })).await?;
    q.add("c", json!({ "jobId": "c" })).await?;
    q.act(Step::Pause).await?;
    q.open_gate("in").await?;
    q.end_work(&[]).await?;
    q.expect("wait", json!(["c"])).await
}
