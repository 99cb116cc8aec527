//! Jobs of workers that vanished: what becomes of them, and what is reported of it.

use std::time::Duration;

use oxbull::{
    JobId, JobOptions, JobState, ManualWorker, NewJob, Outcome, RetryOptions, Schedule, Worker,
    WorkerEvent,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::{Value, json};

/// Puts a waiting job into the hands of a worker that is gone.
async fn abandon(fixture: &Fixture, id: &JobId) -> TestResult {
    fixture
        .server
        .cli(&["LREM", "bull:q:wait", "0", id.as_str()])
        .await?;
    fixture
        .server
        .cli(&["LPUSH", "bull:q:active", id.as_str()])
        .await?;
    Ok(())
}

/// Waits for the event of a stalled job.
async fn verdict(worker: &Worker) -> TestResult<WorkerEvent> {
    let mut events = worker.events();
    loop {
        let event = tokio::time::timeout(DEADLINE, events.next()).await?;
        let event = event.ok_or("it ended")?;
        let events = matches!(
            event,
            WorkerEvent::Stalled { .. } | WorkerEvent::StalledTooOften { .. }
        );
        if events {
            return Ok(event);
        }
    }
}

/// "Handed back" is not said of a job that will fail.
#[tokio::test]
async fn worker_reports_which_stalled_jobs_fail() -> TestResult {
    let fixture = Fixture::start().await?;
    let handed_back = fixture.add("tick", JobOptions::new()).await?;
    abandon(&fixture, &handed_back).await?;
    let worker = async |allowed| {
        Worker::builder(&fixture.client, "q")
            .stalled_interval(Duration::from_millis(50))
            .max_stalled_count(allowed)
            .start(scripted)
            .await
    };
    let lenient = worker(1).await?;
    let events = verdict(&lenient).await?;
    assert!(
        matches!(&events, WorkerEvent::Stalled { id, .. } if *id == handed_back),
        "{events:?}"
    );
    fixture.ended(1).await?;
    lenient.close().await;

    let failing = fixture.add("tick", JobOptions::new()).await?;
    abandon(&fixture, &failing).await?;
    let strict = worker(0).await?;
    let events = verdict(&strict).await?;
    assert!(
        matches!(&events, WorkerEvent::StalledTooOften { id, stalls: 1, .. } if *id == failing),
        "{events:?}"
    );
    fixture.ended(2).await?;
    let job = fixture.job(&failing).await?;
    let reason = "job stalled more than allowable limit";
    assert_eq!(job.failed_reason.as_deref(), Some(reason));
    strict.close().await;
    Ok(())
}

/// An iteration that kills its workers before they have made the next one ends like any other job,
/// and its schedule goes on.
#[tokio::test]
async fn poison_iteration_fails_and_its_schedule_goes_on() -> TestResult {
    let fixture = Fixture::start().await?;
    let schedule = Schedule::every(Duration::from_secs(3600));
    let template = NewJob::new("tick", json!({ "do": "tick" }));
    let first = fixture.queue.upsert_scheduler("s", &schedule, template);
    let first = first.await?.ok_or("there is no run to come")?;
    abandon(&fixture, &first.id).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .stalled_interval(Duration::from_millis(50))
        .max_stalled_count(0)
        .start(scripted)
        .await?;
    let events = verdict(&worker).await?;
    assert!(
        matches!(&events, WorkerEvent::StalledTooOften { id, .. } if *id == first.id),
        "{events:?}"
    );
    let counts = fixture.ended(1).await?;
    assert_eq!((counts.failed, counts.delayed), (1, 1));
    let record = fixture.queue.scheduler("s").await?.ok_or("it is gone")?;
    assert_eq!(record.next.as_millis(), first.due.as_millis() + 3_600_000);
    worker.close().await;
    Ok(())
}

/// A job that failed by stalling and is run again by hand may stall as often as a new one.
#[tokio::test]
async fn retried_job_may_stall_as_often_as_a_new_one() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let id = fixture.add("tick", JobOptions::new()).await?;
    let lock = format!("bull:q:{id}:lock");
    let stall = async || -> TestResult {
        worker.fetch("t").await?.ok_or("nothing is ready")?;
        fixture.server.cli(&["DEL", &lock]).await?;
        for _ in 0..2 {
            fixture.server.cli(&["DEL", "bull:q:stalled-check"]).await?;
            worker.check_stalled(DEADLINE, 1).await?;
        }
        Ok(())
    };
    for completed in [false, true] {
        stall().await?;
        assert_eq!(fixture.job(&id).await?.deferred_failure, None);
        if completed {
            let job = worker.fetch("t").await?.ok_or("nothing is ready")?;
            assert_eq!(job.stalled, 1);
            let done = Ok(Outcome::<Value>::Done(json!(1)));
            worker.finish(&job, "t", done).await?;
            fixture.queue.rerun(&id, RetryOptions::new()).await?;
        } else {
            stall().await?;
            let job = worker.fetch("t").await?.ok_or("nothing is ready")?;
            let reason = job.deferred_failure.clone().ok_or("it may run")?;
            let failed = Err::<Outcome<Value>, _>(oxbull::JobError::fatal(reason));
            worker.finish(&job, "t", failed).await?;
            assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Failed));
            fixture.queue.retry(&id, RetryOptions::new()).await?;
        }
        let job = fixture.job(&id).await?;
        assert_eq!((job.stalled, job.failed_reason), (0, None));
        assert!(job.unknown.is_empty(), "{:?}", job.unknown);
    }
    // The first stall of its new life.
    stall().await?;
    assert_eq!(fixture.job(&id).await?.deferred_failure, None);
    Ok(())
}
