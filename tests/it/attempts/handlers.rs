//! What handlers return, and what backoff strategies make of it.

use std::time::Duration;

use oxbull::{
    AttemptError, Backoff, BackoffKind, BoxError, Context, FailedAttempt, Job, JobError,
    JobOptions, JobResult, Outcome, Worker, WorkerStart,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

#[derive(Debug, thiserror::Error)]
#[error("quota of {0} is used up")]
struct Quota(&'static str);

async fn over_quota(_: Job<Value>, _: Context) -> JobResult<()> {
    Err(JobError::retry(Quota("mails")))
}

/// A strategy knows the job and the type of the error; a fallback serves all other names.
#[tokio::test]
async fn strategies_know_job_and_error() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .backoff_strategy("by error", |failed: FailedAttempt| async move {
            tokio::task::yield_now().await;
            let quota = failed.error.error().downcast_ref::<Quota>();
            let known = quota.is_some_and(|quota| quota.0 == failed.job.name);
            known.then_some(Duration::from_millis(7))
        })
        .backoff_fallback(|failed: FailedAttempt| async move {
            let data: Value = failed.job.data().ok()?;
            data["wait"].as_u64().map(Duration::from_millis)
        })
        .start(over_quota)
        .await?;
    let options = |name: &str| JobOptions::new().attempts(2).backoff(Backoff::custom(name));
    let known = fixture
        .queue
        .add_with("mails", &json!({}), options("by error"))
        .await?;
    let given_up = fixture
        .queue
        .add_with("posts", &json!({}), options("by error"))
        .await?;
    let other = fixture
        .queue
        .add_with("any", &json!({ "wait": 9 }), options("unheard of"))
        .await?;
    fixture.ended(3).await?;
    for (id, made) in [(known.id, 2), (given_up.id, 1), (other.id, 2)] {
        assert_eq!(fixture.job(&id).await?.attempts_made, made, "{id}");
    }
    worker.close().await;
    Ok(())
}

/// An attempt that Redis or another service made impossible is not counted, and the job runs later.
#[tokio::test]
async fn postponed_attempts_are_not_counted() -> TestResult {
    async fn down(_: Job<Value>, _: Context) -> JobResult<()> {
        Err(JobError::postpone("the service is down"))
    }
    let fixture = Fixture::start().await?;
    let id = fixture.add("x", JobOptions::new()).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .max_started_attempts(1)
        .start(down)
        .await?;
    fixture.counts(|counts| counts.delayed == 1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!((job.attempts_started, job.attempts_made), (0, 0));
    assert_eq!(job.failed_reason, None);
    // Its service is not ours: the worker is as healthy as before.
    assert!(worker.health().is_healthy(), "{:?}", worker.health());
    worker.close().await;
    Ok(())
}

/// Failures that no handler returned have a type too, and options can be read.
#[tokio::test]
async fn strategies_recognize_panics_and_timeouts_by_type() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .timeout(Duration::from_millis(30))
        .backoff_fallback(|failed: FailedAttempt| async move {
            let backoff = failed.job.options.backoff.as_ref()?;
            assert_eq!(backoff.kind, BackoffKind::Custom("by kind".to_owned()));
            match failed.error.error().downcast_ref() {
                Some(AttemptError::Panicked(said)) if said == "it panicked" => Some(Duration::ZERO),
                Some(AttemptError::TimedOut(_)) => Some(Duration::from_millis(1)),
                _ => None,
            }
        })
        .start(scripted)
        .await?;
    let options = || {
        JobOptions::new()
            .attempts(2)
            .backoff(Backoff::custom("by kind"))
    };
    for (what, made) in [("panic", 2), ("hang", 2), ("fail", 1)] {
        let id = fixture.add(what, options()).await?;
        eventually(DEADLINE, || async {
            fixture
                .job(&id)
                .await
                .is_ok_and(|job| job.finished_on.is_some())
        })
        .await?;
        assert_eq!(fixture.job(&id).await?.attempts_made, made, "{what}");
    }
    worker.close().await;
    Ok(())
}

/// What a job carries does not show where a record is printed.
#[tokio::test]
async fn printed_records_hide_their_data() -> TestResult {
    let fixture = Fixture::start().await?;
    let added = fixture
        .queue
        .add("x", &json!({ "password": "hunter2" }))
        .await?;
    let job = fixture.job(&added.id).await?;
    assert!(job.raw_data.contains("hunter2"));
    assert!(!format!("{job:?}").contains("hunter2"));
    Ok(())
}

/// Handlers may leave out the context, and return any error with the value to store.
#[tokio::test]
async fn handlers_of_every_form_end_their_attempts_alike() -> TestResult {
    async fn plain(job: Job<Value>) -> Result<Value, std::num::ParseIntError> {
        job.data()["number"].as_str().unwrap_or("").parse::<u32>()?;
        Ok(job.into_data())
    }
    async fn boxed(job: Job<Value>, _: Context) -> Result<Value, BoxError> {
        if job.data()["number"] == "1" {
            return Ok(job.into_data());
        }
        Err(JobError::fatal("not 1"))?
    }
    async fn decided(job: Job<Value>) -> JobResult<Value> {
        match job.data()["number"].as_str() {
            Some("1") => Ok(Outcome::Done(job.into_data())),
            _ => Err(JobError::fatal("not 1")),
        }
    }
    let fixture = Fixture::start().await?;
    let starts: [&dyn Fn() -> WorkerStart; 4] = [
        &|| Worker::builder(&fixture.client, "q").start(plain),
        &|| Worker::builder(&fixture.client, "q").start(boxed),
        &|| Worker::builder(&fixture.client, "q").start(decided),
        &|| {
            Worker::builder(&fixture.client, "q").start(|job: Job<Value>| async move {
                if job.data()["number"] != "1" {
                    "not 1".parse::<u32>()?;
                }
                Ok(Outcome::Done(job.into_data()))
            })
        },
    ];
    let mut ended = 0;
    for (attempts, start) in [2, 1, 1, 2].into_iter().zip(starts) {
        let options = || JobOptions::new().attempts(2);
        let add = |data| fixture.queue.add_with("form", data, options());
        let good = json!({ "number": "1" });
        let completed = add(&good).await?.id;
        let failed = add(&json!({ "number": "x" })).await?.id;
        let worker = start().await?;
        ended += 2;
        fixture.ended(ended).await?;
        assert_eq!(
            fixture.job(&completed).await?.return_value()?,
            Some(good.clone())
        );
        let failed = fixture.job(&failed).await?;
        assert!(failed.failed_reason.is_some());
        assert_eq!(failed.attempts_made, attempts);
        worker.close().await;
    }
    Ok(())
}
