//! Ends that the queue refuses, and starts that never reached a handler.

use std::time::Duration;

use oxbull::{
    Backoff, Client, ClientConfig, Context, FailedAttempt, Job, JobId, JobOptions, JobResult,
    JobState, ManualWorker, NewJob, Outcome, Refusal, Retention, Worker, WorkerEvent,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, Proxy, Rule, TestResult, eventually};
use serde_json::{Value, json};

use super::parent_with_child;

/// A handler that returns while a child is pending has used one attempt, no more; the job is
/// retried, and its neighbours are not touched.
#[tokio::test]
async fn pending_child_costs_one_attempt_of_its_parent() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = JobOptions::new().attempts(3);
    let (id, _children) = parent_with_child(&fixture, options).await?;
    let neighbour = fixture.add("ok", JobOptions::new()).await?;
    let builder = Worker::builder(&fixture.client, "q").max_started_attempts(3);
    let mut events = builder.events();
    let worker = builder.start(scripted).await?;
    fixture.ended(2).await?;
    let job = fixture.job(&id).await?;
    let reason = format!("Job {id} has pending dependencies. moveToFinished");
    assert_eq!((job.attempts_made, job.attempts_started), (3, 3));
    assert_eq!(job.failed_reason.as_deref(), Some(reason.as_str()));
    assert_eq!(job.stack_traces.len(), 3);
    let neighbour = fixture.job(&neighbour).await?;
    assert_eq!(
        (neighbour.attempts_made, neighbour.attempts_started),
        (1, 1)
    );
    worker.close().await;
    let mut failures = Vec::new();
    while let Some(event) = events.next().await {
        if let WorkerEvent::Failed {
            id: of,
            reason: why,
            retries,
            ..
        } = event
        {
            assert_eq!((&of, &*why), (&id, reason.as_str()));
            failures.push(retries);
        }
    }
    assert_eq!(failures, [true, true, false]);
    Ok(())
}

/// The job's own rules decide about a failure that a refusal made: backoff and retention.
#[tokio::test]
async fn refused_end_follows_backoff_and_retention() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = JobOptions::new()
        .attempts(2)
        .backoff(Backoff::custom("soon"))
        .remove_on_fail(Retention::Remove);
    let (id, _children) = parent_with_child(&fixture, options).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .backoff_strategy("soon", |failed: FailedAttempt| async move {
            let pending = failed.error.reason().contains("pending dependencies");
            (pending && failed.attempt == 1).then_some(Duration::from_millis(20))
        })
        .start(scripted)
        .await?;
    eventually(DEADLINE, || async {
        matches!(fixture.queue.job(&id).await, Ok(None))
    })
    .await?;
    let events = fixture.queue_events().await?;
    assert!(events.contains("delayed"), "{events}");
    assert!(events.contains("retries-exhausted"), "{events}");
    worker.close().await;
    Ok(())
}

/// A job whose child has failed cannot complete, however many attempts are left.
#[tokio::test]
async fn failed_child_ends_its_parent_at_once() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("ok", JobOptions::new().attempts(5)).await?;
    // What a failed child leaves, beside the deferred failure that a worker finds first.
    let child = "bull:children:1";
    let unsuccessful = format!("bull:q:{id}:unsuccessful");
    fixture
        .server
        .cli(&["ZADD", &unsuccessful, "1", child])
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    fixture.ended(1).await?;
    let job = fixture.job(&id).await?;
    assert_eq!(job.attempts_made, 1);
    assert_eq!(
        job.failed_reason.as_deref(),
        Some(&*format!(
            "Cannot complete job {id} because it has at least one failed child. moveToFinished"
        ))
    );
    let events = fixture.queue_events().await?;
    assert!(!events.contains("retries-exhausted"), "{events}");
    worker.close().await;
    Ok(())
}

/// "Nothing changed" is true of a refused step by hand: no other job is started by it.
#[tokio::test]
async fn refused_finish_starts_no_other_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let (id, _children) = parent_with_child(&fixture, JobOptions::new()).await?;
    let next = fixture.add("next", JobOptions::new()).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("token").await?.ok_or("nothing to fetch")?;
    assert_eq!(job.id, id);
    let refused = worker
        .finish_and_fetch(&job, "token", Ok(Outcome::Done(1)))
        .await;
    assert!(
        matches!(
            &refused,
            Err(oxbull::Error::Refused {
                source: Refusal::PendingDependencies,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(fixture.queue.state(&next).await?, Some(JobState::Waiting));
    assert_eq!(fixture.queue.counts().await?.active, 1);
    // A limit that was imposed before is not denied.
    let limited = Ok(Outcome::<()>::RateLimited(Duration::from_millis(5)));
    let refused = worker.finish(&job, "other", limited).await;
    let error = refused.err().ok_or("it must be refused")?;
    assert!(!error.is_unchanged(), "{error:?}");
    // The same for a lock that another worker holds.
    let refused = worker
        .finish_and_fetch(&job, "other", Ok(Outcome::Done(1)))
        .await;
    assert!(refused.is_err());
    assert_eq!(fixture.queue.counts().await?.active, 1);
    Ok(())
}

async fn brief(_: Job<Value>, _: Context) -> JobResult<()> {
    tokio::time::sleep(Duration::from_millis(3)).await;
    Ok(Outcome::Done(()))
}

/// Jobs that a worker fetched and gave back were never started: a job that may be started once
/// survives any number of restarts.
#[tokio::test]
async fn restarts_use_up_no_start_of_jobs_that_never_ran() -> TestResult {
    let fixture = Fixture::start().await?;
    for added in fixture
        .queue
        .add_bulk((0..1500).map(|n| NewJob::new("ok", json!({ "n": n }))))
        .await?
    {
        added?;
    }
    // Answers are late, so that each closing worker gets replies with jobs that it no longer runs.
    let proxy = Proxy::start(fixture.server.port()).await?;
    let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
    let late = Duration::from_millis(10);
    proxy.add(Rule::delay_reply(late, |command| command.is("EVALSHA")));
    let start = async || {
        Worker::builder(&client, "q")
            .concurrency(25)
            .max_started_attempts(1)
            .start(brief)
            .await
    };
    for _ in 0..12 {
        let worker = start().await?;
        eventually(DEADLINE, || async { worker.health().running > 0 }).await?;
        worker.close().await;
    }
    let worker = start().await?;
    let counts = fixture.ended(1500).await?;
    assert_eq!((counts.completed, counts.failed), (1500, 0));
    worker.close().await;
    for id in fixture
        .server
        .cli(&["ZRANGE", "bull:q:completed", "0", "-1"])
        .await?
        .texts()
    {
        let job = fixture.job(&JobId::existing(&id)).await?;
        assert_eq!(
            (job.attempts_started, job.attempts_made),
            (1, 1),
            "job {id}"
        );
    }
    Ok(())
}

/// A key that cannot hold a parent that waits stops the call before its first write.
#[tokio::test]
async fn unusable_key_of_waiting_parents_costs_no_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let (id, _children) = parent_with_child(&fixture, JobOptions::new()).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("token").await?.ok_or("nothing to fetch")?;
    let set = ["SET", "bull:q:waiting-children", "no set"];
    fixture.server.cli(&set).await?;
    let waits = || Ok::<Outcome<()>, _>(Outcome::WaitForChildren);
    let refused = worker.finish(&job, "token", waits()).await;
    assert!(refused.is_err_and(|error| error.is_unchanged()));
    let active = ["LRANGE", "bull:q:active", "0", "-1"];
    let active = fixture.server.cli(&active).await?.texts();
    assert_eq!(active, [id.as_str()]);
    fixture
        .server
        .cli(&["DEL", "bull:q:waiting-children"])
        .await?;
    worker.finish(&job, "token", waits()).await?;
    let waiting = Some(JobState::WaitingChildren);
    assert_eq!(fixture.queue.state(&id).await?, waiting);
    Ok(())
}
