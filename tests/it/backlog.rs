//! What monitoring asks of a queue.

use std::time::Duration;

use oxbull::{Backlog, JobOptions, JobState, ManualWorker, Outcome, Queue};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);

fn minutes(backlog: &Backlog) -> (Option<u64>, Option<u64>) {
    let whole = |time: Option<Duration>| time.map(|time| time.as_secs() / 60);
    (whole(backlog.oldest_wait), whole(backlog.schedule_lag))
}

/// Who watches a queue sees how long the next job has been due, not how old it is: a job that was
/// scheduled a week ago for now has not waited for a week, nor has one that stepped back.
#[tokio::test]
async fn backlog_shows_what_waits_and_how_late_it_is() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue: Queue<Value> = Queue::open(&fixture.client, "backlog").await?;
    let clock = fixture.client.clock();
    assert_eq!(queue.backlog().await?, Backlog::default());

    queue.add("old", &json!({})).await?;
    let later = JobOptions::new().delay(MINUTE);
    let later = queue.add_with("later", &json!({}), later).await?.id;
    clock.advance(Duration::from_secs(30));
    assert_eq!(minutes(&queue.backlog().await?), (Some(0), None));
    clock.advance(Duration::from_millis(90_500));
    let backlog = queue.backlog().await?;
    assert_eq!(minutes(&backlog), (Some(2), Some(1)));
    assert_eq!(backlog.counts.of(JobState::Waiting), 1);

    // The next job is the scheduled one: it has been due for a minute.
    let worker = ManualWorker::new(&fixture.client, "backlog")?;
    let old = worker.fetch("t").await?.unwrap();
    worker.finish(&old, "t", Ok(Outcome::Done(1))).await?;
    if queue.state(&later).await? == Some(JobState::Delayed) {
        queue.promote(&later).await?;
    }
    assert_eq!(minutes(&queue.backlog().await?), (Some(1), None));

    // One that stepped back waits since it last ran, and one with a priority counts too.
    let scheduled = worker.fetch("t").await?.unwrap();
    let back = Ok(Outcome::<Value>::Release);
    worker.finish(&scheduled, "t", back).await?;
    assert_eq!(minutes(&queue.backlog().await?), (Some(0), None));
    let first = JobOptions::new().priority(1);
    queue.add_with("first", &json!({}), first).await?;
    clock.advance(Duration::from_millis(180_500));
    assert!(queue.remove(&later).await?);
    assert_eq!(minutes(&queue.backlog().await?), (Some(3), None));
    Ok(())
}
