//! Attempts of manual workers.

use std::time::Duration;

use oxbull::{Backoff, JobError, JobId, JobOptions, JobState, ManualWorker, Outcome, Refusal};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::json;

/// Manual workers know the same strategies.
#[tokio::test]
async fn manual_workers_ask_strategies() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = JobOptions::new()
        .attempts(2)
        .backoff(Backoff::custom("mine"));
    let id = fixture.add("x", options).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?
        .backoff_strategy("mine", |_| async { Some(Duration::from_secs(60)) });
    let job = worker.fetch("token").await?.ok_or("nothing to fetch")?;
    let failed = Err::<Outcome<()>, _>(JobError::retry("boom"));
    worker.finish(&job, "token", failed).await?;
    assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Delayed));
    assert_eq!(fixture.job(&id).await?.delay, Duration::from_secs(60));
    Ok(())
}

/// The id alone is enough to end a job.
#[tokio::test]
async fn manual_workers_end_jobs_by_id() -> TestResult {
    let fixture = Fixture::start().await?;
    let id = fixture.add("x", JobOptions::new().attempts(2)).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    worker.fetch("token").await?.ok_or("nothing to fetch")?;
    worker
        .finish_by_id(&id, "token", Ok(Outcome::Done(json!(5))))
        .await?;
    assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Completed));
    let missing = worker
        .finish_by_id(&JobId::existing("no"), "token", Ok(Outcome::Done(())))
        .await;
    assert!(
        matches!(
            missing,
            Err(oxbull::Error::Refused {
                source: Refusal::JobMissing,
                ..
            })
        ),
        "{missing:?}"
    );
    Ok(())
}

/// A fetch may wait: for a job that is added, for one that falls due, or until its timeout.
#[tokio::test]
async fn manual_workers_can_wait_for_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let nothing = worker.fetch_within("a", Duration::from_millis(20)).await?;
    assert!(nothing.is_none());
    let waiting = worker.fetch_within("b", DEADLINE);
    let adding = async {
        tokio::task::yield_now().await;
        fixture.add("now", JobOptions::new()).await
    };
    let (fetched, added) = tokio::join!(waiting, adding);
    assert_eq!(fetched?.map(|job| job.id), Some(added?));
    let due = JobOptions::new().delay(Duration::from_millis(120));
    let delayed = fixture.add("later", due).await?;
    let fetched = worker.fetch_within("c", DEADLINE).await?;
    assert_eq!(fetched.map(|job| job.id), Some(delayed));
    Ok(())
}

/// Jitter is random, by hand too.
#[tokio::test]
async fn manual_workers_spread_jittered_retries() -> TestResult {
    let fixture = Fixture::start().await?;
    let backoff = Backoff::fixed(Duration::from_secs(1000)).jitter(1.0);
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..10 {
        let options = JobOptions::new().attempts(2).backoff(backoff.clone());
        let id = fixture.add("x", options).await?;
        let job = worker.fetch("token").await?.ok_or("nothing to fetch")?;
        let failed = Err::<Outcome<()>, _>(JobError::retry("boom"));
        worker.finish(&job, "token", failed).await?;
        delays.insert(fixture.job(&id).await?.delay);
    }
    assert!(delays.len() > 1, "{delays:?}");
    Ok(())
}
