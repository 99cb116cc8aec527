//! What an error says about the change that was asked for, for each way an operation can fail.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use oxbull::{
    Client, ClientConfig, DrainScope, Error, JobId, JobOptions, ManualWorker, NewJob, Outcome,
    Queue, Refusal, Schedule, Worker,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{Command, DEADLINE, Proxy, Rule, TestResult, eventually};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::client::fake::{Fake, bulk, name_of, plain};
use crate::events::settles_at;

/// Asserts that an operation failed so, and what its error says of the change.
macro_rules! fails {
    ($result:expr, $error:pat, unchanged: $unchanged:expr) => {{
        let error = $result.map(drop).unwrap_err();
        assert!(matches!(error, $error), "{error:?}");
        assert_eq!(error.is_unchanged(), $unchanged, "{error:?}");
        error
    }};
}

/// What was not sent, not executed, refused or only read has changed nothing.
#[tokio::test]
async fn operations_without_effect_say_so() -> TestResult {
    let fixture = Fixture::start().await?;
    let (queue, server) = (&fixture.queue, &fixture.server);
    let nobody = JobId::existing("nobody");
    let none = JobOptions::new();

    let far = none.clone().priority(u32::MAX);
    fails!(queue.add_with("x", &json!(1), far).await, Error::Invalid { .. }, unchanged: true);
    let odd: Queue<HashMap<Vec<u8>, u8>> = Queue::open(&fixture.client, "q").await?;
    let no_json = HashMap::from([(vec![1], 1)]);
    fails!(odd.add("x", &no_json).await, Error::Encode { .. }, unchanged: true);
    fails!(
        queue.update_data(&nobody, &json!(1)).await,
        Error::Refused { source: Refusal::JobMissing, .. },
        unchanged: true
    );
    fails!(queue.wait_for::<Value>(&nobody, DEADLINE).await, Error::JobMissing(_), unchanged: true);
    let kv = fixture.client.kv();
    kv.set_text("k", "no number").await?;
    fails!(kv.get::<u32>("k").await, Error::Decode { .. }, unchanged: true);
    fails!(kv.incr("k").await, Error::Decode { .. }, unchanged: true);

    server.cli(&["SET", "bull:q:wait", "odd"]).await?;
    fails!(queue.add("x", &json!(1)).await, Error::Server(_), unchanged: true);
    server.cli(&["DEL", "bull:q:wait"]).await?;
    server
        .cli(&["ACL", "SETUSER", "default", "-evalsha", "-eval"])
        .await?;
    fails!(queue.add("x", &json!(1)).await, Error::Denied(_), unchanged: true);
    server.cli(&["ACL", "SETUSER", "default", "+@all"]).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    fails!(queue.add("x", &json!(1)).await, Error::Overloaded(_), unchanged: true);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    server
        .cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await?;
    let strict = ClientConfig::from_url(&server.url())?.strict_eviction(true);
    fails!(Client::connect(strict).await, Error::Unsuitable(_), unchanged: true);

    server.kill_hard();
    // A request that finds out by itself that the connection is gone may have been executed.
    eventually(DEADLINE, async || {
        !fixture.client.health(DEADLINE).await.is_up()
    })
    .await?;
    fails!(queue.add("x", &json!(1)).await, Error::Unreachable(_), unchanged: true);
    fixture.client.close().await;
    fails!(queue.add("x", &json!(1)).await, Error::Closed, unchanged: true);
    fails!(queue.pause().await, Error::Closed, unchanged: true);
    Ok(())
}

/// A job that was added stays added, even if waiting for its end fails.
#[tokio::test]
async fn added_job_is_not_denied_by_a_failed_wait() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = fixture.queue.clone();
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let none = JobOptions::new;
    // The result is a text.
    let odd = queue
        .add_and_wait::<u32>("x", &json!({ "do": "x" }), none(), DEADLINE)
        .await;
    let error = fails!(odd, Error::Incomplete { .. }, unchanged: false);
    let cause = error
        .source()
        .and_then(|cause| cause.source())
        .map(ToString::to_string);
    assert!(
        cause.is_some_and(|text| text.contains("invalid type")),
        "{error:?}"
    );
    assert_eq!(queue.counts().await?.completed, 1);
    worker.close().await;

    let short = Duration::from_millis(50);
    let late = queue
        .add_and_wait::<Value>("late", &json!(1), none(), short)
        .await;
    fails!(late, Error::JobNotEnded { .. }, unchanged: false);

    let options = |id: &str| Ok::<_, Error>(none().id(JobId::new(id)?));
    let waiting = |id: &'static str| {
        let (queue, options) = (queue.clone(), options(id));
        tokio::spawn(async move {
            queue
                .add_and_wait::<Value>("x", &json!(1), options?, DEADLINE)
                .await
        })
    };
    let removed = waiting("removed");
    settles_at(&fixture.server, 1).await?;
    let job = JobId::existing("removed");
    eventually(DEADLINE, async || {
        queue.job(&job).await.is_ok_and(|job| job.is_some())
    })
    .await?;
    assert!(queue.remove(&job).await?);
    fails!(removed.await?, Error::JobRemoved(_), unchanged: false);

    let closed = waiting("closed");
    let job = JobId::existing("closed");
    eventually(DEADLINE, async || {
        queue.job(&job).await.is_ok_and(|job| job.is_some())
    })
    .await?;
    fixture.client.close().await;
    // Either the answer to the add was still due, or only the end was.
    let error = closed.await?.unwrap_err();
    assert!(!error.is_unchanged(), "{error:?}");
    Ok(())
}

/// An operation in steps that fails after the first has changed something.
#[tokio::test]
async fn partial_operations_are_reported() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.add("x", JobOptions::new()).await?;
    fixture
        .server
        .cli(&["SET", "bull:q:prioritized", "odd"])
        .await?;
    let error = fails!(fixture.queue.drain(DrainScope::Ready).run().await, Error::Incomplete { .. }, unchanged: false);
    assert!(error.to_string().contains("1 jobs were deleted"), "{error}");
    // Nothing was left to delete before the same error.
    fails!(fixture.queue.drain(DrainScope::Ready).run().await, Error::Server(_), unchanged: true);
    Ok(())
}

/// A lost or unreadable answer says nothing about what was done.
#[tokio::test]
async fn unreadable_answers_leave_the_outcome_unknown() -> TestResult {
    let fixture = Fixture::start().await?;
    let proxy = Proxy::start(fixture.server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "q").await?;
    proxy.add(Rule::drop_reply(Command::is_script).nth(1));
    fails!(queue.add("x", &json!(1)).await, Error::Indeterminate(_), unchanged: false);

    let fake = Fake::start(|command| match name_of(command) {
        "EVALSHA" => bulk("odd"),
        name => plain(name),
    })
    .await?;
    let client = Client::connect(ClientConfig::from_url(&fake.url())?).await?;
    let queue: Queue<Value> = Queue::builder(&client, "q")
        .default_options(JobOptions::new())
        .open()
        .await?;
    let job = JobId::existing("7");
    let hourly = Schedule::every(Duration::from_secs(3600));
    let worker = ManualWorker::new(&client, "q")?;
    fails!(queue.add("x", &json!(1)).await, Error::Protocol(_), unchanged: false);
    fails!(
        queue.upsert_scheduler("s", &hourly, NewJob::new("x", json!(1))).await,
        Error::Protocol(_),
        unchanged: false
    );
    fails!(queue.remove(&job).await, Error::Protocol(_), unchanged: false);
    fails!(queue.log(&job, "row", 0).await, Error::Protocol(_), unchanged: false);
    fails!(queue.drain(DrainScope::ReadyAndDelayed).run().await, Error::Protocol(_), unchanged: false);
    fails!(worker.fetch("t").await, Error::Protocol(_), unchanged: false);
    let record = fixture.add("y", JobOptions::new()).await?;
    let record = fixture.job(&record).await?;
    let done = worker.finish(&record, "t", Ok(Outcome::Done(1))).await;
    fails!(done, Error::Protocol(_), unchanged: false);
    Ok(())
}

/// Adds a job or upserts a scheduler: both find out what a lost answer would have returned.
fn ask(queue: &Queue<Value>, add: bool) -> JoinHandle<oxbull::Result<()>> {
    let queue = queue.clone();
    tokio::spawn(async move {
        if add {
            let options = JobOptions::new();
            queue.add_once("x", &json!(1), options).await.map(drop)
        } else {
            let hourly = Schedule::every(Duration::from_secs(3600));
            let template = NewJob::new("x", json!(1));
            queue
                .upsert_scheduler("s", &hourly, template)
                .await
                .map(drop)
        }
    })
}

/// Closing the client ends the asking for a lost answer, which would go on for half a minute.
#[tokio::test]
async fn closed_client_ends_the_asking_for_lost_answers() -> TestResult {
    let fixture = Fixture::start().await?;
    for add in [true, false] {
        let proxy = Proxy::start(fixture.server.port()).await?;
        let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
        let queue: Queue<Value> = Queue::open(&client, "q").await?;
        let lost = proxy.add(Rule::drop_reply(Command::is_script));
        let asking = ask(&queue, add);
        // Asked, and asked again.
        lost.wait_fired(3, DEADLINE).await?;
        client.close().await;
        let ended = tokio::time::timeout(Duration::from_secs(20), asking).await??;
        fails!(ended, Error::Indeterminate(_), unchanged: false);
    }
    Ok(())
}

/// What the server refuses after a lost answer is not sent again, and says nothing
/// of the first try, whatever the operation.
#[tokio::test]
async fn refusal_after_a_lost_answer_leaves_it_open() -> TestResult {
    let fixture = Fixture::start().await?;
    let proxy = Proxy::start(fixture.server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "q").await?;
    let allow = async |scripts: &[&str]| {
        let command = [&["ACL", "SETUSER", "default"], scripts].concat();
        fixture.server.cli(&command).await.map(drop)
    };
    for add in [true, false] {
        let lost = proxy.add(Rule::swallow_reply(Command::is_script).nth(1));
        let asking = ask(&queue, add);
        lost.wait_fired(1, DEADLINE).await?;
        allow(&["-evalsha", "-eval"]).await?;
        proxy.kill_all();
        let error = fails!(asking.await?, Error::Indeterminate(_), unchanged: false);
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        assert!(
            cause.contains("denied") || cause.contains("NOPERM"),
            "{error:?}"
        );
        allow(&["+@all"]).await?;
    }
    Ok(())
}
