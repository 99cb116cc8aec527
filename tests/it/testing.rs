//! Handlers and layers tested without Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oxbull::testing::{self, Stored, TestJob};
use oxbull::tower::util::MapErrLayer;
use oxbull::tower::{Layer, ServiceExt, service_fn};
use oxbull::{
    AttemptError, Backoff, BoxError, Context, Error, FailedAttempt, Job, JobCall, JobError,
    JobOptions, JobRecord, JobReply, JobResult, JobState, Outcome, Queue, Refusal, Timestamp,
    WorkerEvent,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::timeout;

const SECOND: Duration = Duration::from_secs(1);

/// Ends its attempt as its data says.
#[expect(clippy::panic, reason = "one of the ways in which an attempt ends")]
async fn follow(job: Job<String>) -> JobResult<Box<RawValue>> {
    let value = |json: &str| Ok(Outcome::Done(RawValue::from_string(json.to_owned())?));
    match job.data().as_str() {
        "done" => value("7"),
        "exact" => value(r#"{"b":123456789012345678901234567890,"a":1.50}"#),
        "delay" => Ok(Outcome::DelayFor(SECOND)),
        "release" => Ok(Outcome::Release),
        "limit" => Ok(Outcome::RateLimited(60 * SECOND)),
        "children" => Ok(Outcome::WaitForChildren),
        "fatal" => Err(JobError::fatal("no use")),
        "postpone" => Err(JobError::postpone("not now")),
        "outage" => Err(Error::Unreachable("refused".into()).into()),
        "panic" => panic!("oh no"),
        other => Err(JobError::retry(format!("what is {other}?"))),
    }
}

/// How attempts at a job end, with data that `follow` understands, options, and a deferred failure.
fn table() -> Vec<(JobRecord, Stored)> {
    let once = JobOptions::new;
    let twice = || JobOptions::new().attempts(2);
    let text = str::to_owned;
    let retried = |seconds| Stored::Retried {
        reason: text("what is x?"),
        wait: seconds * SECOND,
    };
    let unknown = r#"what is x? (not retried: unknown backoff strategy "unknown")"#;
    let exact = r#"{"b":123456789012345678901234567890,"a":1.50}"#;
    let mut table = vec![
        (once(), "done", Stored::Completed(text("7"))),
        (once(), "exact", Stored::Completed(text(exact))),
        (once(), "delay", Stored::Delayed(SECOND)),
        (once(), "release", Stored::Released),
        (once(), "limit", Stored::Released),
        (once(), "children", Stored::WaitingForChildren),
        (twice(), "fatal", Stored::Failed(text("no use"))),
        (once(), "postpone", Stored::Postponed(text("not now"))),
        (
            once(),
            "outage",
            Stored::Postponed(text("redis is unreachable")),
        ),
        (
            once(),
            "panic",
            Stored::Failed(text("handler panicked: oh no")),
        ),
        (once(), "x", Stored::Failed(text("what is x?"))),
        (twice(), "x", retried(0)),
    ];
    for (backoff, stored) in [
        (Backoff::exponential(SECOND), retried(1)),
        (Backoff::custom("known"), retried(2)),
        (Backoff::custom("unknown"), Stored::Failed(text(unknown))),
    ] {
        table.push((twice().backoff(backoff), "x", stored));
    }
    let mut table: Vec<_> = table
        .into_iter()
        .map(|(options, data, stored)| (record(data, options), stored))
        .collect();
    let mut deferred = record("done", twice());
    deferred.deferred_failure = Some(text("child bull:q:7 failed"));
    table.push((deferred, Stored::Failed(text("child bull:q:7 failed"))));
    table
}

fn record(data: &str, options: JobOptions) -> JobRecord {
    let mut record = JobRecord::new("1");
    record.raw_data = json!(data).to_string();
    record.options = options;
    record.attempts_started = 1;
    record
}

async fn known(_: FailedAttempt) -> Option<Duration> {
    Some(2 * SECOND)
}

#[tokio::test]
async fn test_jobs_end_as_the_table_says() -> TestResult {
    for (record, stored) in table() {
        let case = format!("{} {:?}", record.raw_data, record.options);
        let test = TestJob::from_record(record).backoff_strategy("known", known);
        let run = test.run(follow, ()).await;
        assert_eq!(run.stored(), &stored, "{case}");
        let value = run.result::<Value>()?;
        assert_eq!(value.is_some(), matches!(stored, Stored::Completed(_)));
        let failed = matches!(
            stored,
            Stored::Failed(_) | Stored::Postponed(_) | Stored::Retried { .. }
        );
        assert_eq!(run.error().is_some(), failed, "{case}");
        assert_eq!(run.outcome().is_err(), failed, "{case}");
    }
    let run = TestJob::new("panic")?.run(follow, ()).await;
    let error = run.error().ok_or("no error")?.error();
    let panicked = AttemptError::Panicked("oh no".to_owned());
    assert_eq!(error.downcast_ref::<AttemptError>(), Some(&panicked));
    let limit = TestJob::new("limit")?;
    let run = limit.run(follow, ()).await;
    assert!(matches!(run.outcome(), Ok(Outcome::RateLimited(wait)) if *wait == 60 * SECOND));
    assert_eq!(limit.rate_limits(), [60 * SECOND]);
    Ok(())
}

/// A test job ends as the same job does on a worker with Redis.
#[tokio::test]
async fn workers_store_what_test_jobs_report() -> TestResult {
    let fixture = Fixture::start().await?;
    for (number, (record, stored)) in table().into_iter().enumerate() {
        let case = format!("{} {:?}", record.raw_data, record.options);
        let name = format!("q{number}");
        let queue = Queue::<String>::open(&fixture.client, &name).await?;
        let data = record.data()?;
        let id = queue.add_with("test", &data, record.options).await?.id;
        if let Some(reason) = &record.deferred_failure {
            let key = format!("bull:{name}:{id}");
            fixture.server.int(&["HSET", &key, "defa", reason]).await?;
        }
        let worker = queue.worker().backoff_strategy("known", known);
        let mut events = worker.events();
        let worker = worker.start(follow).await?;
        let first = loop {
            let event = timeout(DEADLINE, events.next()).await?;
            let event = event.ok_or("the worker has no more events")?;
            if matches!(
                event,
                WorkerEvent::Completed { .. }
                    | WorkerEvent::Failed { .. }
                    | WorkerEvent::Deferred { .. }
            ) {
                break event;
            }
        };
        worker.close().await;
        let job = queue.job(&id).await?.ok_or("no such job")?;
        match (&stored, first) {
            (Stored::Completed(value), WorkerEvent::Completed { result, .. }) => {
                assert_eq!(&*result, value, "{case}");
            }
            (
                Stored::Failed(text),
                WorkerEvent::Failed {
                    reason, retries, ..
                },
            ) => {
                assert_eq!((&*reason, retries), (&**text, false), "{case}");
            }
            (
                Stored::Retried { reason: text, wait },
                WorkerEvent::Failed {
                    reason, retries, ..
                },
            ) => {
                assert_eq!((&*reason, retries), (&**text, true), "{case}");
                assert_eq!(job.delay, *wait, "{case}");
            }
            (Stored::Delayed(wait), WorkerEvent::Deferred { .. }) => {
                assert_eq!(job.delay, *wait, "{case}");
            }
            // The reason is in the worker's log only.
            (Stored::Postponed(_), WorkerEvent::Deferred { .. }) => {
                assert_eq!((job.attempts_started, job.attempts_made), (0, 0), "{case}");
                assert_eq!(queue.state(&id).await?, Some(JobState::Delayed), "{case}");
            }
            (Stored::Released | Stored::WaitingForChildren, WorkerEvent::Deferred { .. }) => {
                assert_eq!(queue.state(&id).await?, Some(JobState::Waiting), "{case}");
            }
            (stored, event) => return Err(format!("{case}: {event:?}, not {stored:?}").into()),
        }
        let limited = !queue.rate_limit_state().await?.may_start();
        assert_eq!(limited, data == "limit", "{case}");
    }
    Ok(())
}

#[tokio::test]
async fn attempts_and_backoff_decide_about_a_retry() -> TestResult {
    let exponential = Backoff::exponential(SECOND).jitter(0.5);
    for (options, attempt, wait) in [
        (JobOptions::new().attempts(2), 1, Some(Duration::ZERO)),
        (JobOptions::new().attempts(2), 2, None),
        (
            JobOptions::new().attempts(4).backoff(exponential),
            3,
            Some(4 * SECOND),
        ),
    ] {
        let job = TestJob::new("x")?.options(options).attempt(attempt);
        let last = job.job::<String>()?.is_last_attempt();
        assert_eq!(last, wait.is_none(), "{attempt}");
        let reason = "what is x?".to_owned();
        let stored = match wait {
            Some(wait) => Stored::Retried { reason, wait },
            None => Stored::Failed(reason),
        };
        assert_eq!(job.run(follow, ()).await.stored(), &stored);
    }
    Ok(())
}

#[tokio::test]
async fn data_that_the_handler_refuses_fails_the_attempt() -> TestResult {
    for json in ["7", "{", ""] {
        let run = TestJob::from_json(json).run(follow, ()).await;
        let error = run.error().ok_or("no error")?.error();
        let error = error.downcast_ref::<AttemptError>();
        assert!(
            matches!(error, Some(AttemptError::Undecodable(_))),
            "{json}: {error:?}"
        );
        assert!(matches!(run.stored(), Stored::Failed(_)), "{json}");
    }
    let undecodable = TestJob::new(&7)?.job::<String>();
    assert!(matches!(undecodable, Err(Error::Decode { .. })));
    Ok(())
}

#[tokio::test]
async fn actions_of_a_handler_are_recorded() -> TestResult {
    let test = TestJob::new(&json!({ "step": 1 }))?
        .id("post-7")
        .name("post")
        .options(JobOptions::new().keep_logs(2));
    let job = test.job::<Value>()?;
    assert_eq!((job.id(), job.name()), (&"post-7".into(), "post"));
    for step in 1..=3 {
        job.update_progress(&step).await?;
        assert_eq!(job.log(format!("step {step}")).await?, step.min(2));
    }
    assert_eq!(test.updated_data::<Value>()?, None);
    job.update_data(&json!({ "step": 4 })).await?;
    assert_eq!(job.limit_rate(SECOND).await?, SECOND);
    let zero = job.limit_rate(Duration::ZERO).await;
    assert!(matches!(zero, Err(Error::Invalid { .. })), "{zero:?}");

    assert_eq!(test.progress::<u32>()?, [1, 2, 3]);
    assert_eq!(test.logs(), ["step 2", "step 3"]);
    assert_eq!(test.updated_data()?, Some(json!({ "step": 4 })));
    assert_eq!(test.rate_limits(), [SECOND]);
    // The handler keeps the data that it began with.
    assert_eq!(job.data()["step"], 1);
    Ok(())
}

#[tokio::test]
async fn refused_actions_fail_and_are_not_recorded() -> TestResult {
    let test = TestJob::new(&1)?;
    let job = test.job::<u32>()?;
    test.refuse_actions(Refusal::LockLost);
    let refused = job.update_data(&2).await;
    let source = match refused {
        Err(Error::Refused { source, .. }) => source,
        other => return Err(format!("{other:?}").into()),
    };
    assert_eq!(source, Refusal::LockLost);
    assert_eq!(test.updated_data::<u32>()?, None);
    Ok(())
}

async fn patient(_: Job<u32>, context: Context<Arc<AtomicU32>>) -> JobResult<()> {
    context.state().fetch_add(1, Ordering::Relaxed);
    context.cancelled().await;
    context.state().fetch_add(10, Ordering::Relaxed);
    Ok(Outcome::Release)
}

#[tokio::test]
async fn handler_is_notified_of_a_cancellation() -> TestResult {
    let steps = Arc::new(AtomicU32::new(0));
    let test = TestJob::new(&1)?;
    let cancel = async {
        while steps.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        test.cancel();
    };
    let (run, ()) = tokio::join!(test.run(patient, Arc::clone(&steps)), cancel);
    assert_eq!(run.stored(), &Stored::Released);
    assert_eq!(steps.load(Ordering::Relaxed), 11);
    assert!(test.context(()).is_cancelled());
    Ok(())
}

/// What a handler has spawned learns that its attempt is over, and the test's own context is not.
#[tokio::test]
async fn end_of_a_run_cancels_what_its_handler_spawned() -> TestResult {
    async fn spawns(_: Job<u32>, context: Context<tokio::sync::mpsc::Sender<()>>) -> JobResult<()> {
        let (cancellation, done) = (context.cancellation().clone(), context.state().clone());
        tokio::spawn(async move {
            cancellation.cancelled().await;
            done.send(()).await
        });
        Ok(Outcome::Done(()))
    }
    let test = TestJob::new(&1)?;
    let (done, mut ended) = tokio::sync::mpsc::channel(1);
    test.run(spawns, done).await;
    ended.recv().await.ok_or("was not cancelled")?;
    assert!(!test.context(()).is_cancelled());
    Ok(())
}

/// A layer sees the call, may answer for the handler, and its errors are failed attempts.
#[tokio::test]
async fn layers_are_run_with_their_handler() -> TestResult {
    let text = str::to_owned;
    let handler = testing::service(follow, ());
    let gate = service_fn(|call: JobCall| {
        let handler = handler.clone();
        async move {
            match call.record().name.as_str() {
                "closed" => Ok(JobReply::new(Outcome::<()>::DelayFor(SECOND))?),
                "broken" => Err(BoxError::from("the layer is broken")),
                _ => handler.oneshot(call).await,
            }
        }
    });
    let delayed = Stored::Delayed(SECOND);
    let broken = Stored::Failed("the layer is broken".to_owned());
    for (name, stored) in [
        ("open", Stored::Completed(text("7"))),
        ("closed", delayed),
        ("broken", broken),
    ] {
        let run = TestJob::new("done")?.name(name).run_service(gate).await;
        assert_eq!(run.stored(), &stored, "{name}");
    }
    // The handler's decision holds however its error is wrapped on the way.
    let wraps = MapErrLayer::new(|error: BoxError| BoxError::from(Wrapped(error)));
    let service = wraps.layer(testing::service(follow, ()));
    let options = JobOptions::new().attempts(3);
    let run = TestJob::new("fatal")?
        .options(options)
        .run_service(service)
        .await;
    assert_eq!(run.stored(), &Stored::Failed("wrapped".to_owned()));
    Ok(())
}

#[derive(Debug)]
struct Wrapped(BoxError);

impl std::fmt::Display for Wrapped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("wrapped")
    }
}

impl std::error::Error for Wrapped {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// A handler that asks Redis for something learns that there is none, and needs no server for that.
#[tokio::test]
async fn unconnected_client_answers_that_it_is_closed() -> TestResult {
    async fn reads(_: Job<u32>, context: Context) -> JobResult<Option<String>> {
        Ok(Outcome::Done(
            context.client().kv().get_text("greeting").await?,
        ))
    }
    let run = TestJob::new(&1)?.run(reads, ()).await;
    assert_eq!(run.stored(), &Stored::Failed("closed".to_owned()));
    let client = testing::unconnected_client();
    let queue = oxbull::Queue::<u32>::open(&client, "q").await;
    assert!(matches!(queue, Err(Error::Closed)), "{queue:?}");
    client.close().await;
    Ok(())
}

/// Times that a handler counts with are those of the client's clock, which tests set.
#[tokio::test]
async fn clock_of_a_client_stands_where_a_test_sets_it() -> TestResult {
    async fn in_a_minute(_: Job<u32>, context: Context) -> JobResult<()> {
        let now = context.client().clock().now();
        Ok(Outcome::DelayUntil(now + 60 * SECOND))
    }
    let client = testing::unconnected_client();
    client.clock().set(Timestamp::from_millis(1_000));
    client.clock().advance(SECOND);
    client.clock().rewind(SECOND / 2);
    let run = TestJob::new(&1)?.client(&client).run(in_a_minute, ()).await;
    let until = Timestamp::from_millis(61_500);
    assert_eq!(run.outcome().ok(), Some(&Outcome::DelayUntil(until)));
    assert_eq!(run.stored(), &Stored::Delayed(60 * SECOND));
    Ok(())
}

/// A backoff strategy is a function of what it is given, and tested as one.
#[tokio::test]
async fn backoff_strategies_are_given_failed_attempts() -> TestResult {
    let strategy = |failed: FailedAttempt| {
        let wait = SECOND * failed.attempt;
        (!failed.error.is_fatal()).then_some(wait)
    };
    let job = TestJob::new("x")?.attempt(3);
    assert_eq!(
        strategy(job.failed_with(JobError::retry("x"))),
        Some(3 * SECOND)
    );
    assert_eq!(strategy(job.failed_with(JobError::fatal("x"))), None);
    assert_eq!(strategy(job.failed_with(std::fmt::Error)), Some(3 * SECOND));
    Ok(())
}
