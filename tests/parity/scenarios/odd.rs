//! Options and text that BullMQ stores although they are odd: it adds the jobs, everyone runs them.
//! Where BullMQ loses such a job or keeps it active forever, see `docs/differences.md`.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::End;

scenarios!(everyone:
    odd_attempts_allow_as_many,
    odd_delays_wait_as_long,
    odd_backoffs_wait_as_long,
    odd_retention_keeps_as_many,
    odd_trace_limits_keep_as_many,
    odd_lifo_and_priority_queue_alike,
    time_zero_is_no_time,
    halves_of_surrogate_pairs_cost_no_job,
    odd_fields_cost_no_attempt,
);

/// Adds one job for each of the values, as `j0`, `j1`, …
async fn add(q: &mut Driver, name: &str, values: &[Value], others: Value) -> TestResult {
    for (at, value) in values.iter().enumerate() {
        let mut opts = others.clone();
        opts["jobId"] = format!("j{at}").into();
        opts[name] = value.clone();
        q.node_add("odd", opts).await?;
    }
    Ok(())
}

/// Fails whatever can be started, until nothing can.
async fn fail_all(driver: &mut Driver) -> TestResult {
    for _ in 0..200 {
        let started = driver.fetch("t").await?;
        let Some(id) = started["id"].as_str() else {
            return Ok(());
        };
        driver.fail(id, "t").await?;
    }
    Err("it never ends".into())
}

async fn odd_attempts_allow_as_many(q: &mut Driver) -> TestResult {
    let values = [
        json!("3"),
        json!(" 2 "),
        json!("0x3"),
        json!(2.7),
        json!("1.5"),
        json!(-1),
        json!("0"),
        json!(null),
    ];
    add(q, "attempts", &values, json!({})).await?;
    fail_all(q).await
}

async fn odd_delays_wait_as_long(q: &mut Driver) -> TestResult {
    let values = [
        json!(""),
        json!("x"),
        json!("50"),
        json!(-5),
        json!(false),
        json!(null),
    ];
    add(q, "delay", &values, json!({ "attempts": 2 })).await?;
    fail_all(q).await?;
    q.pass(50).await?;
    fail_all(q).await
}

async fn odd_backoffs_wait_as_long(q: &mut Driver) -> TestResult {
    let values = [
        json!(0),
        json!(false),
        json!(""),
        json!({ "type": "fixed", "delay": "50" }),
        json!({ "type": "fixed", "delay": "" }),
        json!({ "type": "fixed", "delay": null }),
        json!({ "type": "exponential", "delay": "1s" }),
        json!({ "type": "exponential", "delay": "50" }),
        json!({ "type": ["fixed"], "delay": 50 }),
        json!({ "type": "fixed", "delay": 50, "jitter": "x" }),
    ];
    add(q, "backoff", &values, json!({ "attempts": 3 })).await?;
    fail_all(q).await?;
    for _ in 0..3 {
        q.pass(50).await?;
        fail_all(q).await?;
    }
    q.expect("delayed", json!(null)).await
}

async fn odd_retention_keeps_as_many(q: &mut Driver) -> TestResult {
    let values = [
        json!(""),
        json!("true"),
        json!("yes"),
        json!("0"),
        json!(-1),
        json!(-0.5),
        json!(null),
        json!({}),
        json!([]),
        json!([3]),
        json!({ "count": -1 }),
        json!({ "count": null }),
        json!({ "age": 0.5 }),
        json!({ "age": "3600" }),
        json!({ "age": 10, "limit": "3" }),
    ];
    add(q, "removeOnComplete", &values, json!({})).await?;
    for at in 0..values.len() {
        q.work_off(&format!("j{at}")).await?;
        q.pass(200).await?;
    }
    Ok(())
}

async fn odd_trace_limits_keep_as_many(q: &mut Driver) -> TestResult {
    let values = [
        json!("2"),
        json!("x"),
        json!(""),
        json!(-1),
        json!(1.5),
        json!(true),
        json!({}),
        json!(0),
    ];
    add(q, "stackTraceLimit", &values, json!({ "attempts": 4 })).await?;
    fail_all(q).await
}

async fn odd_lifo_and_priority_queue_alike(q: &mut Driver) -> TestResult {
    let values = [json!("false"), json!(""), json!({}), json!(1), json!(0)];
    add(q, "lifo", &values, json!({ "attempts": 2 })).await?;
    for (at, priority) in [json!(""), json!(-5), json!(false)].into_iter().enumerate() {
        let opts = json!({ "jobId": format!("p{at}"), "priority": priority, "attempts": 2 });
        q.node_add("odd", opts).await?;
    }
    fail_all(q).await
}

async fn time_zero_is_no_time(q: &mut Driver) -> TestResult {
    q.add("a", json!({ "timestamp": 0, "delay": 500 })).await?;
    q.add("b", json!({ "timestamp": 0 })).await?;
    q.expect_field("1", "timestamp", json!("1700000000000"))
        .await?;
    q.work_off("2").await
}

/// Not in ids: BullMQ runs such jobs over and over. Nor in data, which the answers of the two
/// processes could not carry.
async fn halves_of_surrogate_pairs_cost_no_job(q: &mut Driver) -> TestResult {
    let opts = r#""telemetry":{"metadata":"m\ud83d","omitContext":true},"other\ud83d":"o\ud83d","attempts":2,
        "deduplication":{"id":"d\ud83d","keepLastIfActive":true}"#;
    let params = format!(r#""name":"n\ud83d","data":{{"n":1}},"opts":{{"jobId":"a",{opts}}}"#);
    q.node_text("queue.add", &params).await?;
    q.fetch_job("t", "a").await?;
    let again = format!(r#""name":"k\ud83d","data":{{"n":2}},"opts":{{{opts}}}"#);
    q.node_text("queue.add", &again).await?;
    q.fail("a", "t").await?;
    q.work_off("a").await?;
    let kept = q.fetch("t").await?;
    let id = kept["id"].as_str().ok_or("no kept add")?;
    q.end(id, "t", End::Complete(json!("done"))).await?;
    Ok(())
}

async fn odd_fields_cost_no_attempt(q: &mut Driver) -> TestResult {
    let fields = [
        ("timestamp", "x"),
        ("timestamp", "1.5"),
        ("delay", "x"),
        ("priority", ""),
        ("stc", "x"),
        ("stacktrace", "x"),
        ("stacktrace", "{}"),
        ("progress", ""),
        ("returnvalue", "x"),
        ("defa", ""),
        ("data", ""),
        ("opts", ""),
        ("opts", "[]"),
        ("opts", "5"),
        ("parentKey", ""),
        ("deid", ""),
    ];
    for (at, (field, value)) in fields.iter().enumerate() {
        let id = format!("j{at}");
        q.node_add("odd", json!({ "jobId": id })).await?;
        q.redis(&["HSET", &id, field, value]).await?;
    }
    fail_all(q).await
}
