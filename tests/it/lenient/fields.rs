//! Data, options and other fields that cannot be read as they should.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{
    ChildPolicy, Context, Error, Job, JobError, JobId, JobOptions, JobResult, Outcome,
    RetryOptions, Timestamp,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{HALF, Heard, Setup, listen};

async fn take_raw(job: Job<Box<RawValue>>, context: Context<Heard>) -> JobResult<usize> {
    let heard = context.state().lock();
    heard
        .map_err(|_| JobError::fatal("poisoned"))?
        .push(job.record().clone());
    Ok(Outcome::Done(job.data().get().len()))
}

/// Data of any depth reaches a handler of raw JSON; a typed one fails the attempt and says why.
#[tokio::test]
async fn deep_data_reaches_raw_handlers_and_fails_typed_attempts() -> TestResult {
    let setup = Setup::start().await?;
    let deep = format!("{}\"{HALF}\"{}", "[".repeat(1000), "]".repeat(1000));
    let add = format!(r#""data":{deep},"opts":{{"jobId":"j","attempts":2}}"#);
    setup.add(&add).await?;
    setup.run(1).await?;
    let id = JobId::existing("j");
    let job = setup.fixture.job(&id).await?;
    assert_eq!((setup.heard().len(), job.attempts_made), (0, 2));
    let reason = job.failed_reason.clone().unwrap_or_default();
    assert!(reason.contains("nested deeper than 128 levels"), "{reason}");
    let read = job.data::<Value>();
    assert!(matches!(read, Err(Error::Decode { .. })), "{read:?}");

    setup
        .fixture
        .queue
        .retry(&id, RetryOptions::default())
        .await?;
    let worker = setup.worker().start(take_raw).await?;
    setup.fixture.counts(|counts| counts.completed == 1).await?;
    worker.close().await;
    assert_eq!(setup.heard()[0].raw_data, deep);
    let length: Option<usize> = setup.fixture.job(&id).await?.return_value()?;
    assert_eq!(length, Some(deep.len()));
    setup.peer.close().await?;
    Ok(())
}

/// Whatever comes from an environment variable or a form: the handler runs, as often as BullMQ
/// runs it, and the record names the option.
#[tokio::test]
async fn options_that_cannot_be_read_do_not_fail_their_job() -> TestResult {
    let setup = Setup::start().await?;
    let odd = [
        (json!({ "attempts": "" }), 1),
        (json!({ "attempts": "three" }), 1),
        (json!({ "attempts": true }), 1),
        (json!({ "attempts": {} }), 1),
        (json!({ "attempts": -1 }), 1),
        (json!({ "attempts": "3" }), 3),
        (json!({ "attempts": 2.7 }), 3),
        (json!({ "delay": "" }), 1),
        (json!({ "delay": "x" }), 1),
        (json!({ "delay": -5 }), 1),
        (json!({ "priority": "" }), 1),
        (json!({ "lifo": "false", "attempts": 2 }), 2),
        (
            json!({ "keepLogs": "x", "stackTraceLimit": "x", "attempts": 2 }),
            2,
        ),
        (json!({ "sizeLimit": "x", "timestamp": "x" }), 1),
        (json!({ "repeat": "x", "telemetry": { "metadata": 5 } }), 1),
        (json!({ "removeOnFail": { "age": "1h" } }), 1),
        (json!({ "removeOnFail": [3] }), 1),
    ];
    for (at, (opts, _)) in odd.iter().enumerate() {
        let add = format!(r#""name":"{at}","data":{{"do":"fail"}},"opts":{opts}"#);
        setup.add(&add).await?;
    }
    let hashes: [(&str, &str); 12] = [
        ("opts", "null"),
        ("opts", "[1]"),
        ("opts", "not json"),
        ("timestamp", "x"),
        ("delay", "x"),
        ("priority", ""),
        ("stc", "x"),
        ("parent", "x"),
        ("progress", "{"),
        ("stacktrace", "x"),
        ("defa", ""),
        ("atm", "0.5"),
    ];
    for (at, (field, value)) in hashes.iter().enumerate() {
        let at = odd.len() + at;
        let add = format!(r#""name":"{at}","data":{{"do":"fail"}},"opts":{{"jobId":"odd-{at}"}}"#);
        setup.add(&add).await?;
        let id = JobId::existing(format!("odd-{at}"));
        setup.set(&id, field, value.as_bytes()).await?;
    }
    let total = odd.len() + hashes.len();
    setup.run(u64::try_from(total)?).await?;
    let mut runs = BTreeMap::new();
    for job in setup.heard() {
        *runs.entry(job.name.parse::<usize>()?).or_insert(0) += 1;
    }
    for (at, (opts, attempts)) in odd.iter().enumerate() {
        assert_eq!(runs.get(&at), Some(attempts), "{opts}");
    }
    for (at, hash) in hashes.iter().enumerate() {
        assert_eq!(runs.get(&(odd.len() + at)), Some(&1), "{hash:?}");
    }
    let named = setup.heard().into_iter().flat_map(|job| job.problems);
    let named: Vec<String> = named.collect();
    let named = named.join("\n");
    for problem in [
        r#"opts.attempts: is not a number and counts as absent: \"three\""#,
        "opts.removeOnFail: has an option age that is not a number",
        "opts: is not a JSON object: not json",
        "timestamp: is not a number and counts as 0: x",
        "parent: has no id and queueKey: x",
    ] {
        assert!(named.contains(problem), "{problem} in {named}");
    }
    setup.peer.close().await?;
    Ok(())
}

/// Where BullMQ leaves the job active or loses it, it is tried again; a strategy that
/// is not registered is named.
#[tokio::test]
async fn backoffs_that_cannot_be_read_lead_to_another_attempt() -> TestResult {
    let setup = Setup::start().await?;
    let backoffs = [
        json!({ "delay": 1 }),
        json!("1"),
        json!({ "type": "fixed", "delay": "1s" }),
        json!({ "type": "exponential", "delay": "1s" }),
        json!({ "type": "fixed", "delay": true }),
        json!(true),
        json!([50]),
        json!({}),
    ];
    for (at, backoff) in backoffs.iter().enumerate() {
        let opts = json!({ "attempts": 3, "backoff": backoff, "jobId": format!("j{at}") });
        setup
            .add(&format!(r#""data":{{"do":"fail"}},"opts":{opts}"#))
            .await?;
    }
    let opts = r#"{"attempts":3,"backoff":{"type":"FIXED","delay":5},"jobId":"unknown"}"#;
    setup
        .add(&format!(r#""data":{{"do":"fail"}},"opts":{opts}"#))
        .await?;
    setup.run(9).await?;
    for (at, backoff) in backoffs.iter().enumerate() {
        let job = setup
            .fixture
            .job(&JobId::existing(format!("j{at}")))
            .await?;
        assert_eq!(job.attempts_made, 3, "{backoff}");
    }
    let unknown = setup.fixture.job(&JobId::existing("unknown")).await?;
    let reason = unknown.failed_reason.unwrap_or_default();
    assert!(
        reason.ends_with(r#"unknown backoff strategy "FIXED")"#),
        "{reason}"
    );
    setup.peer.close().await?;
    Ok(())
}

/// BullMQ removes a job for any text, and ends half way for counts that are no whole numbers.
#[tokio::test]
async fn retention_is_read_by_its_meaning() -> TestResult {
    let setup = Setup::start().await?;
    let rules = [
        (json!("true"), false),
        (json!("yes"), false),
        (json!("0"), false),
        (json!("false"), true),
        (json!("100"), true),
        (json!(""), true),
        (json!(2.5), true),
        (json!(0.5), true),
        (json!({ "count": 2.5 }), true),
        (json!({ "count": "50" }), true),
        (json!({ "age": "1h" }), true),
        (json!({ "age": -1 }), true),
    ];
    for (at, (rule, _)) in rules.iter().enumerate() {
        let opts = json!({ "removeOnComplete": rule, "jobId": format!("j{at}") });
        setup.add(&format!(r#""opts":{opts}"#)).await?;
    }
    let kept = rules.iter().filter(|(_, kept)| *kept).count();
    setup.run(u64::try_from(kept)?).await?;
    setup
        .fixture
        .counts(|counts| counts.waiting + counts.active == 0)
        .await?;
    for (at, (rule, kept)) in rules.iter().enumerate() {
        let id = JobId::existing(format!("j{at}"));
        let there = setup.fixture.queue.job(&id).await?.is_some();
        assert_eq!(there, *kept, "{rule}");
    }
    setup.peer.close().await?;
    Ok(())
}

/// Several policies, which BullMQ 6.7 refuses and versions before stored, are read as its scripts
/// read them.
#[tokio::test]
async fn first_of_several_child_policies_counts() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .node(
            "flow.add",
            r#"{"flow":{"name":"p","queueName":"q","data":{},"opts":{"jobId":"P"},"children":[
            {"name":"c","queueName":"q","data":{"do":"fail"},"opts":{"jobId":"C"}}]}}"#,
        )
        .await?;
    let link = br#"{"id":"P","queueKey":"bull:q","rdof":true,"fpof":true}"#;
    setup.set(&JobId::existing("C"), "parent", link).await?;
    setup.run(2).await?;
    let heard = setup.heard();
    let link = heard[0].parent.as_ref().ok_or("no parent")?;
    assert_eq!(link.on_failure, ChildPolicy::FailParent);
    let parent = setup.fixture.job(&JobId::existing("P")).await?;
    let reason = parent.failed_reason.unwrap_or_default();
    assert_eq!(reason, "child bull:q:C failed");
    setup.peer.close().await?;
    Ok(())
}

/// A time of 0 is none, as in BullMQ: the delay counts from now.
#[tokio::test]
async fn time_zero_counts_as_absent() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = JobOptions::new().timestamp(Timestamp::from_millis(0));
    let id = fixture
        .add("x", options.delay(Duration::from_secs(60)))
        .await?;
    let job = fixture.job(&id).await?;
    assert!(
        job.timestamp > Timestamp::from_millis(1_000_000_000_000),
        "{}",
        job.timestamp
    );
    assert_eq!(
        fixture.counts(|counts| counts.delayed == 1).await?.waiting,
        0
    );
    Ok(())
}

/// No bytes in any field keep a job from its handler: everything but what its type refuses runs.
#[tokio::test]
async fn jobs_with_random_bytes_reach_their_handler() -> TestResult {
    const FIELDS: [&str; 19] = [
        "name",
        "opts",
        "timestamp",
        "delay",
        "priority",
        "processedOn",
        "ats",
        "atm",
        "attemptsMade",
        "stc",
        "progress",
        "returnvalue",
        "failedReason",
        "stacktrace",
        "pb",
        "deid",
        "parent",
        "parentKey",
        "other",
    ];
    let setup = Setup::start().await?;
    let mut runner = TestRunner::deterministic();
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..30),
        r#"(\{|\}|\[|\]|"|:|,|\\ud83d|attempts|de|id|queueKey|bull:q|1|true|null){0,12}"#
            .prop_map(String::into_bytes),
    ];
    let jobs = 300;
    for at in 0..jobs {
        let id = setup.fixture.add("x", JobOptions::new()).await?;
        for field in FIELDS {
            let value = value
                .new_tree(&mut runner)
                .map_err(|error| error.to_string())?
                .current();
            if at % 3 == 0 || value.len() % 2 == 0 {
                setup.set(&id, field, &value).await?;
            }
        }
    }
    let worker = setup.worker().concurrency(20).start(listen).await?;
    let all = || async { setup.heard().len() >= jobs };
    eventually(DEADLINE, all).await?;
    setup
        .fixture
        .counts(|counts| counts.waiting + counts.active == 0)
        .await?;
    worker.close().await;
    let mut runs = BTreeMap::new();
    for job in setup.heard() {
        *runs.entry(job.id).or_insert(0) += 1;
    }
    assert_eq!(runs.len(), jobs);
    assert!(runs.values().all(|times| *times == 1), "{runs:?}");
    setup.peer.close().await?;
    Ok(())
}

/// A retry by hand puts a job where BullMQ puts it, which reads `lifo` as JavaScript does.
#[tokio::test]
async fn retried_jobs_are_next_where_lifo_is_set_in_javascript() -> TestResult {
    for (lifo, next) in [
        ("null", false),
        ("0", false),
        (r#""""#, false),
        ("false", false),
        ("1", true),
        (r#""false""#, true),
        ("true", true),
    ] {
        let fixture = Fixture::start().await?;
        fixture.add("other", JobOptions::new()).await?;
        let options = format!(r#"{{"attempts":1,"lifo":{lifo}}}"#);
        let fields = [
            "name",
            "x",
            "data",
            "{}",
            "timestamp",
            "1",
            "opts",
            &options,
        ];
        let hash = [&["HSET", "bull:q:odd"], fields.as_slice()].concat();
        fixture.server.cli(&hash).await?;
        let failed = ["ZADD", "bull:q:failed", "1", "odd"];
        fixture.server.cli(&failed).await?;
        let id = JobId::existing("odd");
        fixture.queue.retry(&id, RetryOptions::default()).await?;
        let wait = ["LINDEX", "bull:q:wait", "-1"];
        let last = fixture.server.text(&wait).await?;
        assert_eq!(last.as_deref() == Some("odd"), next, "{lifo}");
    }
    Ok(())
}
