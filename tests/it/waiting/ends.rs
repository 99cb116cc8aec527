//! Ends that come, and jobs that have none.

use std::time::Duration;

use oxbull::{Error, JobId, JobOptions, JobOutcome, Queue, Retention, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{completed, failed, wait};
use crate::events::{readers, settles_at};

/// Ends are typed, and only the last attempt of a job is an end.
#[tokio::test]
async fn end_of_a_job_reaches_every_waiter() -> TestResult {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Sized(String);

    let fixture = Fixture::start().await?;
    let two = || JobOptions::new().attempts(2);
    let good = fixture.add("good", two()).await?;
    let again = fixture.add("fail once", two()).await?;
    let bad = fixture.add("fail", two()).await?;
    let jobs = [&good, &again, &bad];
    let waits = jobs.map(|job| wait(&fixture.queue, job));
    settles_at(&fixture.server, 1).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let ends = [
        completed(json!("good")),
        completed(json!("fail once")),
        failed("it failed"),
    ];
    for (wait, end) in waits.into_iter().zip(&ends) {
        assert_eq!(&wait.await??, end);
    }
    // Those that have ended answer at once.
    for (job, end) in jobs.into_iter().zip(&ends) {
        assert_eq!(&fixture.queue.wait_for::<Value>(job, DEADLINE).await?, end);
    }
    let typed: JobOutcome<Sized> = fixture.queue.wait_for(&good, DEADLINE).await?;
    assert_eq!(typed, JobOutcome::Completed(Sized("good".to_owned())));
    let odd = fixture.queue.wait_for::<u32>(&good, DEADLINE).await;
    assert!(matches!(odd, Err(Error::Decode { .. })), "{odd:?}");
    worker.close().await;
    Ok(())
}

/// A job that does not exist, one that is removed meanwhile and one that
/// takes too long are different errors.
#[tokio::test]
async fn missing_removed_and_late_jobs_are_distinct_errors() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let nobody = queue
        .wait_for::<Value>(&JobId::existing("nobody"), DEADLINE)
        .await;
    assert!(matches!(nobody, Err(Error::JobMissing(_))), "{nobody:?}");

    let job = fixture.add("x", JobOptions::new()).await?;
    let short = Duration::from_millis(30);
    let late = queue.wait_for::<Value>(&job, short).await;
    assert!(
        matches!(late, Err(Error::JobNotEnded { within, .. }) if within == short),
        "{late:?}"
    );
    let forever = queue.clone();
    let forever_job = job.clone();
    let removed =
        tokio::spawn(async move { forever.wait_for::<Value>(&forever_job, Duration::MAX).await });
    // Whether it is removed before or after the look-up, there was a job.
    eventually(DEADLINE, async || {
        fixture.calls("evalsha").await.is_ok_and(|calls| calls >= 3)
    })
    .await?;
    assert!(queue.remove(&job).await?);
    let removed = removed.await?;
    assert!(
        matches!(removed, Err(Error::JobRemoved(_) | Error::JobMissing(_))),
        "{removed:?}"
    );
    Ok(())
}

/// An end that its job does not outlive is not missed: the wait begins before the job.
#[tokio::test]
async fn added_job_may_vanish_with_its_end() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let options = || {
        JobOptions::new()
            .remove_on_complete(Retention::Remove)
            .remove_on_fail(Retention::Remove)
    };
    for round in 0..50 {
        let what = if round % 2 == 0 { "ok" } else { "give up" };
        let end = fixture
            .queue
            .add_and_wait::<Value>(what, &json!({ "do": what }), options(), DEADLINE)
            .await?;
        let expected = if round % 2 == 0 {
            completed(json!("ok"))
        } else {
            failed("no use")
        };
        assert_eq!(end, expected);
    }
    let counts = fixture.queue.counts().await?;
    assert_eq!((counts.completed, counts.failed), (0, 0));

    // One that exists already is the one that is waited for.
    let id = JobId::new("only-one")?;
    let kept = JobOptions::new().id(id.clone());
    let data = json!({ "do": "first" });
    let first = fixture
        .queue
        .add_and_wait("x", &data, kept.clone(), DEADLINE);
    assert_eq!(first.await?, completed(json!("first")));
    let data = json!({ "do": "second" });
    let second = fixture.queue.add_and_wait("x", &data, kept, DEADLINE);
    assert_eq!(second.await?, completed(json!("first")));
    worker.close().await;
    let short = Duration::from_millis(30);
    let late = fixture
        .queue
        .add_and_wait::<Value>("x", &data, JobOptions::new(), short)
        .await;
    assert!(matches!(late, Err(Error::JobNotEnded { .. })), "{late:?}");
    let bad = JobOptions::new().id(JobId::existing("wait"));
    let refused = fixture
        .queue
        .add_and_wait::<Value>("x", &json!({}), bad, DEADLINE)
        .await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    Ok(())
}

/// However many wait, they cost one connection, which ends some time after the last has left,
/// and dropped waits do not keep it.
#[tokio::test]
async fn thousands_wait_on_one_connection() -> TestResult {
    let fixture = Fixture::start().await?;
    let other = Queue::open(&fixture.client, "q").await?;
    let mut waits = JoinSet::new();
    let jobs = (0..3000).map(|n| oxbull::NewJob::new("job", json!({ "do": n.to_string() })));
    for (n, added) in fixture.queue.add_bulk(jobs).await?.into_iter().enumerate() {
        let queue = if n % 2 == 0 { &fixture.queue } else { &other };
        let (queue, job) = (queue.clone(), added?.id);
        waits.spawn(async move { (n, queue.wait_for::<Value>(&job, DEADLINE * 2).await) });
    }
    let never = wait(
        &fixture.queue,
        &fixture
            .add("never", JobOptions::new().delay(DEADLINE * 100))
            .await?,
    );
    settles_at(&fixture.server, 1).await?;
    let calls = fixture.calls("evalsha").await?;
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(50)
        .start(scripted)
        .await?;
    let mut most = 0;
    while let Some(done) = waits.join_next().await {
        let (n, end) = done?;
        assert_eq!(end?, completed(json!(n.to_string())));
        if n % 500 == 0 {
            most = most.max(readers(&fixture.server).await?.len());
        }
    }
    assert_eq!(most, 1);
    // They were looked up a hundred at a time.
    let looked_up = fixture.calls("evalsha").await? - calls;
    assert!(looked_up < 3000, "{looked_up} calls");
    worker.close().await;
    never.abort();
    settles_at(&fixture.server, 0).await?;
    // The next one opens another.
    let late = fixture.add("x", JobOptions::new()).await?;
    let late = wait(&fixture.queue, &late);
    settles_at(&fixture.server, 1).await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    assert_eq!(late.await??, completed(json!("x")));
    worker.close().await;
    Ok(())
}

/// The runtime of the shared reader may end before waits on other runtimes.
#[test]
fn waits_survive_the_runtime_of_the_first() -> TestResult {
    let build = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
    };
    let (main, first) = (build()?, build()?);
    main.block_on(async {
        let fixture = Fixture::start().await?;
        let job = fixture.add("x", JobOptions::new()).await?;
        let (queue, id) = (fixture.queue.clone(), job.clone());
        first.spawn(async move { queue.wait_for::<Value>(&id, DEADLINE).await });
        settles_at(&fixture.server, 1).await?;
        let wait = wait(&fixture.queue, &job);
        first.shutdown_background();
        let worker = Worker::builder(&fixture.client, "q")
            .start(scripted)
            .await?;
        assert_eq!(wait.await??, completed(json!("x")));
        worker.close().await;
        Ok(())
    })
}

/// A runtime may even end before the reader that it was given has begun.
#[test]
fn waits_survive_a_reader_that_never_began() -> TestResult {
    let build = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let (main, first) = (build()?, build()?);
    let (fixture, job) = main.block_on(async {
        let fixture = Fixture::start().await?;
        let job = fixture.add("x", JobOptions::new()).await?;
        TestResult::Ok((fixture, job))
    })?;
    first.block_on(async {
        let begun = std::pin::pin!(fixture.queue.wait_for::<Value>(&job, DEADLINE));
        assert!(futures::poll!(begun).is_pending());
    });
    drop(first);
    main.block_on(async {
        let wait = wait(&fixture.queue, &job);
        let worker = Worker::builder(&fixture.client, "q")
            .start(scripted)
            .await?;
        assert_eq!(wait.await??, completed(json!("x")));
        worker.close().await;
        Ok(())
    })
}
