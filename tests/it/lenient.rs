//! Jobs that BullMQ stores although something in them is odd: each runs, once, and ends.
//!
//! Node.js adds them: only JavaScript cuts text inside a surrogate pair.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxbull::{
    ChildPolicy, Context, Error, Job, JobError, JobId, JobOptions, JobOutcome, JobRecord,
    JobResult, JobState, ManualWorker, Outcome, Parent, RetryOptions, SchedulerOrder, Timestamp,
    Worker, WorkerBuilder,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{BullMq, DEADLINE, NodePeer, TestResult, eventually};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// How half a surrogate pair is written in JSON, and what Redis holds of it in plain text.
const HALF: &str = r"\ud83d";
const BYTES: &[u8] = b"\xed\xa0\xbd";

/// The records of the attempts whose handler began, in order.
type Heard = Arc<Mutex<Vec<JobRecord>>>;

struct Setup {
    fixture: Fixture,
    peer: NodePeer,
    heard: Heard,
}

fn key(parts: &[&[u8]]) -> Vec<u8> {
    [b"bull:q:".as_slice(), &parts.concat()].concat()
}

fn cut(text: &str) -> JobId {
    JobId::from_bytes([text.as_bytes(), BYTES].concat())
}

/// Does what the job's data says: `"fail"` fails, a parent looks at its children first.
async fn listen(job: Job<Value>, context: Context<Heard>) -> JobResult<String> {
    context
        .state()
        .lock()
        .map_err(|_| JobError::fatal("poisoned"))?
        .push(job.record().clone());
    match job.data()["do"].as_str().unwrap_or_default() {
        "fail" => Err(JobError::retry("it failed")),
        "progress" => {
            job.update_progress(&json!({ "half": true })).await?;
            job.log("a row").await?;
            job.update_data(&json!({ "do": "done" })).await?;
            Ok(Outcome::Done("kept".to_owned()))
        }
        "children" if job.attempts_started() == 1 => Ok(Outcome::WaitForChildren),
        other => Ok(Outcome::Done(other.to_owned())),
    }
}

impl Setup {
    async fn start() -> TestResult<Self> {
        let fixture = Fixture::start().await?;
        let peer = NodePeer::bullmq(BullMq::V6, fixture.server.port()).await?;
        peer.call("queue.open", json!({ "queue": "q" })).await?;
        let heard = Heard::default();
        Ok(Self { fixture, peer, heard })
    }

    fn worker<D>(&self) -> WorkerBuilder<Heard, D> {
        Worker::builder(&self.fixture.client, "q").state(Arc::clone(&self.heard))
    }

    /// Calls Node.js with parameters in JSON that need not be text for us.
    async fn node(&self, method: &str, params: &str) -> TestResult {
        let params = json!({ "method": method, "params": params });
        self.peer.call("text.call", params).await?;
        Ok(())
    }

    /// Adds a job by Node.js.
    async fn add(&self, params: &str) -> TestResult {
        let params = format!(r#"{{"queue":"q",{params}}}"#);
        self.node("queue.add", &params).await
    }

    /// Runs everything that is there, until `ended` jobs have ended.
    async fn run(&self, ended: u64) -> TestResult {
        let worker = self.worker().start(listen).await?;
        self.fixture.ended(ended).await?;
        worker.close().await;
        Ok(())
    }

    fn heard(&self) -> Vec<JobRecord> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn set(&self, id: &JobId, field: &str, value: &[u8]) -> TestResult {
        let key = key(&[id.as_bytes()]);
        let args: [&[u8]; 4] = [b"HSET", &key, field.as_bytes(), value];
        self.fixture.server.cli(&args).await?;
        Ok(())
    }

    async fn state(&self, id: &JobId) -> TestResult<Option<JobState>> {
        Ok(self.fixture.queue.state(id).await?)
    }
}

/// Node.js sends three U+FFFD back for such an id, finds no job, and runs it for ever. We run
/// each once, with the half as U+FFFD, the raw text as it is, and everything else in place.
#[tokio::test]
async fn jobs_with_halves_of_surrogate_pairs_run_once() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(&format!(
            r#""name":"n{HALF}","data":{{"t":"hi {HALF}"}},"opts":{{"jobId":"j{HALF}",
            "attempts":2,"deduplication":{{"id":"d{HALF}"}},"telemetry":{{"metadata":"m{HALF}"}},
            "new{HALF}":"o{HALF}"}}"#
        ))
        .await?;
    setup
        .add(&format!(
            r#""data":{{"do":"fail"}},"opts":{{"jobId":"f{HALF}"}}"#
        ))
        .await?;
    setup.run(2).await?;

    let heard = setup.heard();
    assert_eq!(heard.len(), 2);
    let [job, failed] = heard.as_slice() else {
        return Err("two jobs".into());
    };
    assert_eq!(job.id, cut("j"));
    assert!(job.name.starts_with("n\u{fffd}"), "{}", job.name);
    assert_eq!(job.stored("name"), Some([b"n", BYTES].concat().as_slice()));
    assert_eq!(job.data::<Value>()?, json!({ "t": "hi \u{fffd}" }));
    assert_eq!(job.raw_data, format!(r#"{{"t":"hi {HALF}"}}"#));
    assert_eq!(job.problems, Vec::<String>::new());
    assert_eq!(setup.state(&job.id).await?, Some(JobState::Completed));
    assert_eq!(setup.state(&failed.id).await?, Some(JobState::Failed));
    let deduplication = job.stored("deid").ok_or("no deduplication id")?;
    let owner = setup.fixture.queue.deduplication_owner(deduplication).await?;
    assert_eq!(owner, None, "the end of the job frees its deduplication id");
    let left = setup.fixture.server.cli(&["KEYS", "*:lock"]).await?;
    assert!(left.items().is_empty());
    setup.peer.close().await?;
    Ok(())
}

/// Whatever is done to a job by hand reaches it, also where its id is no text.
#[tokio::test]
async fn ids_that_are_no_text_are_good_for_every_action() -> TestResult {
    let setup = Setup::start().await?;
    let queue = &setup.fixture.queue;
    let id = cut("j");
    let add =
        |opts: &str| format!(r#""data":{{"do":"progress"}},"opts":{{"jobId":"j{HALF}"{opts}}}"#);
    setup.add(&add(r#","delay":3600000"#)).await?;
    queue.change_delay(&id, Duration::from_secs(7200)).await?;
    queue.promote(&id).await?;
    queue.log(&id, "by hand", 0).await?;
    assert_eq!(setup.state(&id).await?, Some(JobState::Waiting));
    setup.run(1).await?;
    let job = queue.job(&id).await?.ok_or("gone")?;
    assert_eq!(job.data::<Value>()?, json!({ "do": "done" }));
    assert_eq!(job.progress::<Value>()?, Some(json!({ "half": true })));
    assert_eq!(queue.logs(&id, 0, -1).await?.rows, ["by hand", "a row"]);
    let waiting = tokio::spawn({
        let (queue, id) = (queue.clone(), id.clone());
        async move { queue.wait_for::<String>(&id, DEADLINE).await }
    });
    queue.rerun(&id, RetryOptions::default()).await?;
    let worker = setup.worker().start(listen).await?;
    let end = waiting.await??;
    assert!(
        matches!(&end, JobOutcome::Completed(value) if value == "done"),
        "{end:?}"
    );
    worker.close().await;
    assert!(queue.remove(&id).await?);
    assert_eq!(queue.job(&id).await?, None);
    setup.peer.close().await?;
    Ok(())
}

/// A job whose worker vanished is handed back and renewed by its bytes.
#[tokio::test]
async fn stalled_job_with_half_a_surrogate_pair_is_recovered() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(&format!(r#""data":{{}},"opts":{{"jobId":"j{HALF}"}}"#))
        .await?;
    let id = cut("j");
    let manual = ManualWorker::new(&setup.fixture.client, "q")?;
    let job = manual.fetch("t").await?.ok_or("nothing to do")?;
    assert_eq!(job.id, id);
    assert!(manual.extend_lock(&id, "t", DEADLINE).await?);
    let lock = key(&[id.as_bytes(), b":lock"]);
    let dropped = setup.fixture.server.cli(&[b"DEL".as_slice(), &lock]).await?;
    assert_eq!(dropped.int(), Some(1));
    let recovered = eventually(DEADLINE, || async {
        let recovered = manual
            .check_stalled(Duration::from_millis(1), 1)
            .await
            .ok()?;
        recovered.into_iter().next()
    });
    assert_eq!(recovered.await?, id);
    setup.run(1).await?;
    assert_eq!(setup.state(&id).await?, Some(JobState::Completed));
    setup.peer.close().await?;
    Ok(())
}

/// A parent whose id is no text waits for its children and no longer, however its child's link
/// to it is written; one whose child must not fail fails.
#[tokio::test]
async fn parents_with_halves_of_surrogate_pairs_are_released() -> TestResult {
    let setup = Setup::start().await?;
    let flow = |parent: &str, child: &str, work: &str| {
        format!(
            r#"{{"flow":{{"name":"p","queueName":"q","data":{{}},"opts":{{"jobId":"{parent}{HALF}"}},
            "children":[{{"name":"c","queueName":"q","data":{{"do":"{work}"}},
            "opts":{{"jobId":"{child}{HALF}","failParentOnFailure":true}}}}]}}}}"#
        )
    };
    for (parent, child, work) in [
        ("P", "C", "ok"),
        ("F", "D", "fail"),
        ("E", "G", "ok"),
        ("H", "I", "fail"),
    ] {
        setup.node("flow.add", &flow(parent, child, work)).await?;
    }
    // Writers that escape all that is not ASCII, such as Python's, leave links like these.
    for (parent, child) in [("E", "G"), ("H", "I")] {
        let link = format!(r#"{{"id":"{parent}{HALF}","queueKey":"bull:q","fpof":true}}"#);
        setup.set(&cut(child), "parent", link.as_bytes()).await?;
    }
    // A child of our own joins such a parent.
    let own = JobOptions::new().parent(Parent::new("bull:q", cut("P")));
    setup.fixture.add("ok", own).await?;
    setup.run(9).await?;
    for (parent, state) in [
        ("P", JobState::Completed),
        ("E", JobState::Completed),
        ("F", JobState::Failed),
        ("H", JobState::Failed),
    ] {
        assert_eq!(setup.state(&cut(parent)).await?, Some(state), "{parent}");
    }
    let heard = setup.heard();
    let child = heard.iter().find(|job| job.id == cut("I")).ok_or("no I")?;
    let link = child.parent.as_ref().ok_or("no parent")?;
    assert_eq!(
        (&link.id, link.on_failure),
        (&cut("H"), ChildPolicy::FailParent)
    );
    let key = key(&[b"P", BYTES, b":processed"]);
    let processed = setup
        .fixture
        .server
        .cli(&[b"HGETALL".as_slice(), &key])
        .await?;
    assert_eq!(processed.items().len(), 4);
    setup.peer.close().await?;
    Ok(())
}

/// A schedule is advanced and repaired whatever text its template holds; its jobs run.
#[tokio::test]
async fn schedule_with_halves_of_surrogate_pairs_goes_on() -> TestResult {
    let setup = Setup::start().await?;
    let deep = format!("{}{}", "[".repeat(300), "]".repeat(300));
    setup
        .node(
            "queue.upsertJobScheduler",
            &format!(
                r#"{{"queue":"q","id":"s{HALF}","repeat":{{"every":3600000}},"template":{{
                "name":"n{HALF}","data":{{"t":"{HALF}"}},
                "opts":{{"telemetry":{{"metadata":"m{HALF}"}},"other":"o{HALF}","deep":{deep}}}}}}}"#
            ),
        )
        .await?;
    let schedulers = setup
        .fixture
        .queue
        .schedulers(0, -1, SchedulerOrder::default())
        .await?;
    let [scheduler] = schedulers.as_slice() else {
        return Err("one scheduler".into());
    };
    assert_eq!(scheduler.problems, Vec::<String>::new());
    setup.run(1).await?;
    let heard = setup.heard();
    assert_eq!(heard[0].data::<Value>()?, json!({ "t": "\u{fffd}" }));
    let counts = setup.fixture.counts(|counts| counts.delayed == 1).await?;
    assert_eq!(counts.completed, 1);
    setup.peer.close().await?;
    Ok(())
}

/// The text of a failure that a cut message left in the hash stays as it is beside a new one.
#[tokio::test]
async fn older_stack_traces_stay_as_they_are() -> TestResult {
    let setup = Setup::start().await?;
    setup
        .add(r#""data":{"do":"fail"},"opts":{"attempts":2,"jobId":"j"}"#)
        .await?;
    let older = format!(r#"["Error: cut {HALF}\n    at x",7"#);
    let id = JobId::existing("j");
    setup
        .set(&id, "stacktrace", format!("{older}]").as_bytes())
        .await?;
    setup.run(1).await?;
    let stored = setup
        .fixture
        .server
        .text(&["HGET", "bull:q:j", "stacktrace"])
        .await?;
    let stored = stored.ok_or("no stack traces")?;
    assert!(stored.starts_with(&format!("{older},\"")), "{stored}");
    let traces = setup.fixture.job(&id).await?.stack_traces;
    assert_eq!(traces.len(), 4);
    assert!(traces[0].starts_with("Error: cut \u{fffd}"), "{traces:?}");
    setup.peer.close().await?;
    Ok(())
}

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

/// Where BullMQ leaves the job active for ever or loses it, it is tried again; a strategy that
/// nobody knows is named.
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
        let job = setup.fixture.job(&JobId::existing(format!("j{at}"))).await?;
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
    assert_eq!(fixture.counts(|counts| counts.delayed == 1).await?.waiting, 0);
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
