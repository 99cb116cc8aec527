//! How producers add and change jobs.

use std::time::Duration;

use futures::future::join_all;
use oxbull::{
    AddOutcome, Backoff, ChildPolicy, Deduplication, DrainScope, Error, Job, JobError, JobId,
    JobOptions, JobOutcome, JobState, ManualWorker, NewJob, Outcome, Parent, Queue, QueueEvent,
    QueuePosition, Refusal, RetryOptions,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::{Value, json};

/// Bad options are refused by name before anything is sent.
#[tokio::test]
async fn options_are_checked_before_anything_is_sent() -> TestResult {
    let fixture = Fixture::start().await?;
    let jitter = Backoff::fixed(Duration::from_secs(1)).jitter(1.5);
    for (field, options) in [
        ("job id", JobOptions::new().id(JobId::existing("wait"))),
        ("priority", JobOptions::new().priority(2_097_152)),
        ("jitter", JobOptions::new().backoff(jitter)),
        ("delay", JobOptions::new().delay(Duration::MAX)),
        ("job data", JobOptions::new().size_limit(3)),
        (
            "parent queue",
            JobOptions::new().parent(Parent::new("p", JobId::existing("1"))),
        ),
    ] {
        match fixture.queue.add_with("job", &json!("é"), options).await {
            Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
            other => return Err(format!("{field}: {other:?}").into()),
        }
    }
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:id"]).await?, 0);
    // Four bytes of JSON are within a limit of four.
    fixture
        .queue
        .add_with(
            "job",
            &json!("é"),
            JobOptions::new().size_limit(4).priority(2_097_151),
        )
        .await?;
    Ok(())
}

/// An id that exists is left as it is, and the add returns that.
#[tokio::test]
async fn adding_an_existing_id_returns_duplicate() -> TestResult {
    let fixture = Fixture::start().await?;
    let options = || JobOptions::new().id(JobId::existing("mine"));
    let first = fixture.queue.add_with("a", &json!(1), options()).await?;
    let second = fixture.queue.add_with("b", &json!(2), options()).await?;
    assert_eq!(
        (first.outcome, second.outcome),
        (AddOutcome::Added, AddOutcome::Duplicate)
    );
    assert_eq!(second.id, first.id);
    assert_eq!(fixture.job(&first.id).await?.name, "a");
    let unique = fixture
        .queue
        .add_once("c", &json!(3), JobOptions::new())
        .await?;
    assert_eq!(unique.id.as_str().len(), 36);
    Ok(())
}

/// A job can be named by whatever holds its id.
#[tokio::test]
async fn jobs_are_named_by_text_or_id() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let id = queue.add("job", &json!(1)).await?.id;
    assert_eq!(id, "1");
    assert_eq!(queue.state("1").await?, Some(JobState::Waiting));
    assert_eq!(
        queue.job("1".to_owned()).await?.map(|job| job.id),
        Some(id.clone())
    );
    assert_eq!(queue.log(&id, "row", 0).await?, 1);
    assert!(queue.remove(id).await?);
    assert_eq!(queue.state("2").await?, None);
    Ok(())
}

/// A queue opens its workers and events without repeating its name and prefix.
#[tokio::test]
async fn queue_opens_workers_and_events_under_its_own_prefix() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = Queue::<String>::builder(&fixture.client, "other").prefix("app");
    let queue = queue.open().await?;
    let mut events = queue.events().open().await?;
    let worker = queue.worker().start(length).await?;
    let end: JobOutcome<usize> = queue
        .add_and_wait("job", &"four".to_owned(), JobOptions::new(), DEADLINE)
        .await?;
    assert_eq!(end, JobOutcome::Completed(4));
    let entry = events.next().await.ok_or("no event")??;
    assert!(matches!(entry.event, QueueEvent::Added { .. }), "{entry:?}");
    worker.close().await;
    Ok(())
}

async fn length(job: Job<String>) -> Result<usize, Error> {
    Ok(job.data().len())
}

/// An id that comes from outside must not reach the queue's own keys.
#[tokio::test]
async fn keys_of_the_queue_are_not_jobs() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    queue.set_global_concurrency(3).await?;
    for key in ["meta", "wait", "events", "id"] {
        let errors = [
            queue.job(key).await.err(),
            queue.state(key).await.err(),
            queue.remove(key).await.err(),
            queue.update_data(key, &json!(1)).await.err(),
            queue.log(key, "row", 0).await.err(),
            queue.retry(key, RetryOptions::new()).await.err(),
        ];
        for error in errors {
            assert!(
                matches!(error, Some(Error::Invalid { .. })),
                "{key}: {error:?}"
            );
        }
    }
    assert_eq!(queue.global_concurrency().await?, Some(3));
    Ok(())
}

/// Each job of a bulk add is added or refused by itself, in order.
#[tokio::test]
async fn bulk_adds_report_each_job() -> TestResult {
    let fixture = Fixture::start().await?;
    let orphan = JobOptions::new().parent(Parent::new("bull:none", JobId::existing("1")));
    let mut jobs: Vec<_> = (0..450).map(|n| NewJob::new("job", json!(n))).collect();
    jobs.insert(200, NewJob::new("orphan", json!(0)).options(orphan));
    let added = fixture.queue.add_bulk(jobs).await?;
    assert_eq!(added.len(), 451);
    let failures: Vec<_> = added.failures().map(|(place, _)| place).collect();
    assert_eq!(failures, [200]);
    let mut expected = 1;
    for (place, outcome) in added.into_iter().enumerate() {
        if place == 200 {
            let refused = matches!(
                &outcome,
                Err(Error::Refused {
                    source: Refusal::ParentMissing,
                    ..
                })
            );
            assert!(refused, "{outcome:?}");
        } else {
            assert_eq!(outcome?.id.as_str(), expected.to_string());
            expected += 1;
        }
    }
    assert_eq!(fixture.queue.counts().await?.waiting, 450);
    assert!(fixture.queue.add_bulk(Vec::new()).await?.is_empty());
    Ok(())
}

/// Adds that are made at the same time travel together.
#[tokio::test]
async fn concurrent_adds_share_calls() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.queue.add("first", &json!(0)).await?;
    let before = fixture.calls("evalsha").await?;
    let adds = (0..1000).map(|n| {
        let queue = fixture.queue.clone();
        async move { queue.add("job", &json!(n)).await }
    });
    for added in join_all(adds).await {
        added?;
    }
    let calls = fixture.calls("evalsha").await? - before;
    assert!(calls <= 50, "{calls} calls for 1000 adds");
    assert_eq!(fixture.queue.counts().await?.waiting, 1001);
    Ok(())
}

/// A child joins an existing parent, which then waits for it.
#[tokio::test]
async fn child_joins_its_parent() -> TestResult {
    let fixture = Fixture::start().await?;
    let parent = fixture.add("parent", JobOptions::new()).await?;
    let link = Parent::new(fixture.queue.qualified_name(), parent.clone())
        .on_failure(ChildPolicy::FailParent);
    let child = fixture.add("child", JobOptions::new().parent(link)).await?;
    let stored = fixture.job(&child).await?.parent.ok_or("no parent")?;
    assert_eq!((stored.queue.as_str(), &stored.id), ("bull:q", &parent));
    assert_eq!(stored.on_failure, ChildPolicy::FailParent);
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    assert_eq!(job.id, parent);
    let early = worker.finish(&job, "t", Ok(Outcome::Done(1))).await;
    assert!(matches!(
        early,
        Err(Error::Refused {
            source: Refusal::PendingDependencies,
            ..
        })
    ));
    worker
        .finish(&job, "t", Ok(Outcome::<()>::WaitForChildren))
        .await?;
    assert_eq!(
        fixture.queue.state(&parent).await?,
        Some(JobState::WaitingChildren)
    );
    let job = worker.fetch("t").await?.ok_or("no child")?;
    worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
    assert_eq!(fixture.queue.state(&parent).await?, Some(JobState::Waiting));
    Ok(())
}

/// A refusal names the state that the job is in and the one that it must be in, also where no state has the job.
#[tokio::test]
async fn refusals_name_both_states() -> TestResult {
    let fixture = Fixture::start().await?;
    let (queue, server) = (&fixture.queue, &fixture.server);
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let states = |refused: oxbull::Result<()>| match refused {
        Err(Error::Refused {
            source: Refusal::WrongState { found, needed, .. },
            ..
        }) => Ok((found, needed)),
        other => Err(format!("{other:?}")),
    };
    let id = JobId::existing("x");
    fixture.add("x", JobOptions::new().id(&id)).await?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    server.cli(&["LREM", "bull:q:active", "0", "x"]).await?;
    for state in [None].into_iter().chain(JobState::ALL.map(Some)) {
        let (key, list) = match state {
            None => (None, false),
            Some(JobState::Waiting) => (Some("wait"), true),
            Some(JobState::Active) => (Some("active"), true),
            Some(state) => (Some(state.as_str()), false),
        };
        let key = key.map(|key| format!("bull:q:{key}"));
        match &key {
            Some(key) if list => server.cli(&["LPUSH", key, "x"]).await?,
            Some(key) => server.cli(&["ZADD", key, "1", "x"]).await?,
            None => server.cli(&["PING"]).await?,
        };
        if state != Some(JobState::Failed) {
            let refused = states(queue.retry(&id, RetryOptions::new()).await)?;
            assert_eq!(refused, (state, JobState::Failed));
        }
        if state != Some(JobState::Completed) {
            let refused = states(queue.rerun(&id, RetryOptions::new()).await)?;
            assert_eq!(refused, (state, JobState::Completed));
        }
        if state != Some(JobState::Delayed) {
            for refused in [
                queue.promote(&id).await,
                queue.change_delay(&id, Duration::ZERO).await,
            ] {
                assert_eq!(states(refused)?, (state, JobState::Delayed));
            }
        }
        if state != Some(JobState::Active) {
            let refused = worker.finish(&job, "t", Ok(Outcome::Done(()))).await;
            assert_eq!(states(refused)?, (state, JobState::Active));
        }
        if let Some(key) = key {
            server.cli(&["DEL", &key]).await?;
        }
    }
    Ok(())
}

/// What an operator can do with a job.
#[tokio::test]
async fn jobs_can_be_changed() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let later = JobOptions::new().delay(Duration::from_secs(60)).priority(3);
    let id = fixture.add("late", later).await?;
    queue.change_delay(&id, Duration::from_secs(90)).await?;
    assert_eq!(fixture.job(&id).await?.delay, Duration::from_secs(90));
    queue.promote(&id).await?;
    assert_eq!(queue.state(&id).await?, Some(JobState::Prioritized));
    queue.change_priority(&id, 0, QueuePosition::Back).await?;
    assert_eq!(queue.state(&id).await?, Some(JobState::Waiting));
    let again = queue.promote(&id).await;
    assert!(matches!(
        again,
        Err(Error::Refused {
            source: Refusal::WrongState {
                found: Some(JobState::Waiting),
                needed: JobState::Delayed,
                ..
            },
            ..
        })
    ));

    queue.update_data(&id, &json!({ "new": true })).await?;
    queue.update_progress(&id, &json!(50)).await?;
    for row in 1..=4 {
        queue.log(&id, format!("row {row}"), 3).await?;
    }
    let job = fixture.job(&id).await?;
    assert_eq!(job.data::<Value>()?, json!({ "new": true }));
    assert_eq!(job.progress::<u32>()?, Some(50));
    let logs = queue.logs(&id, 0, -1).await?;
    assert_eq!(
        (logs.rows, logs.total),
        (vec!["row 2".into(), "row 3".into(), "row 4".into()], 3)
    );

    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    let locked = queue.remove(&id).await;
    assert!(matches!(
        locked,
        Err(Error::Refused {
            source: Refusal::Locked,
            ..
        })
    ));
    worker
        .finish::<()>(&job, "t", Err(oxbull::JobError::fatal("no")))
        .await?;
    queue
        .retry(&id, RetryOptions::new().reset_attempts_made())
        .await?;
    assert_eq!(fixture.job(&id).await?.attempts_made, 0);
    assert!(queue.remove(&id).await?);
    assert!(!queue.remove(&id).await?);
    assert_eq!(queue.state(&id).await?, None);
    Ok(())
}

/// Draining deletes what has not started, in steps, and leaves the rest.
#[tokio::test]
async fn drain_deletes_what_waits() -> TestResult {
    let fixture = Fixture::start().await?;
    let jobs = (0..700).map(|n| NewJob::new("job", json!(n)));
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    fixture
        .add("late", JobOptions::new().delay(Duration::from_secs(60)))
        .await?;
    fixture.add("ranked", JobOptions::new().priority(1)).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    worker.fetch("t").await?.ok_or("no job")?;
    assert_eq!(
        fixture.queue.drain(DrainScope::Ready).run().await?.jobs,
        700
    );
    let counts = fixture.queue.counts().await?;
    assert_eq!(
        (
            counts.waiting,
            counts.prioritized,
            counts.delayed,
            counts.active
        ),
        (0, 0, 1, 1)
    );
    assert_eq!(
        fixture
            .queue
            .drain(DrainScope::ReadyAndDelayed)
            .run()
            .await?
            .jobs,
        1
    );
    Ok(())
}

/// Default options fill what a call leaves open.
#[tokio::test]
async fn default_options_apply() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue: Queue<Value> = Queue::builder(&fixture.client, "d")
        .default_options(JobOptions::new().attempts(4).priority(2))
        .open()
        .await?;
    let id = queue
        .add_with("job", &json!({}), JobOptions::new().priority(9))
        .await?
        .id;
    let job = queue.job(&id).await?.ok_or("no job")?;
    assert_eq!(job.options, JobOptions::new().attempts(4).priority(9));
    Ok(())
}

/// The counter of priorities only orders jobs: if it is corrupt it restarts, and no job is half queued.
#[tokio::test]
async fn corrupt_priority_counter_restarts() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    for spoil in [["SET", "bull:q:pc", "odd"], ["SADD", "bull:q:pc", "odd"]] {
        let failing = JobOptions::new().priority(1).attempts(2);
        let id = fixture.add("fail", failing).await?;
        let job = worker.fetch("t").await?.ok_or("no job")?;
        assert_eq!(job.id, id);
        fixture.server.cli(&["DEL", "bull:q:pc"]).await?;
        fixture.server.cli(&spoil).await?;
        let failed = Err(JobError::retry("once more"));
        worker.finish::<()>(&job, "t", failed).await?;
        assert_eq!(fixture.queue.state(&id).await?, Some(JobState::Prioritized));
        fixture.server.cli(&["DEL", "bull:q:pc"]).await?;
        fixture.server.cli(&spoil).await?;
        let next = fixture.add("next", JobOptions::new().priority(2)).await?;
        for id in [id, next] {
            let job = worker.fetch("t").await?.ok_or("no job")?;
            assert_eq!(job.id, id);
            worker.finish(&job, "t", Ok(Outcome::Done(1))).await?;
        }
    }
    Ok(())
}

/// A key that others spoiled fails the whole call before its first write: no job of the batch is
/// half there, and the counter has not moved.
#[tokio::test]
async fn keys_of_the_wrong_type_fail_an_add_before_it_writes() -> TestResult {
    let fixture = Fixture::start().await?;
    let plain = JobOptions::new;
    let late = || plain().delay(Duration::from_secs(60));
    let first = || plain().priority(1);
    let alone = || plain().deduplication(Deduplication::new("k"));
    for (spoil, options) in [
        (["SET", "bull:q:events", "odd"], plain()),
        (["SET", "bull:q:wait", "odd"], plain()),
        (["SET", "bull:q:marker", "odd"], plain()),
        (["RPUSH", "bull:q:id", "odd"], plain()),
        (["SET", "bull:q:id", "odd"], plain()),
        (["SET", "bull:q:delayed", "odd"], late()),
        (["SET", "bull:q:prioritized", "odd"], first()),
        (["RPUSH", "bull:q:de:k", "odd"], alone()),
    ] {
        fixture.server.cli(&["DEL", "bull:q:meta"]).await?;
        fixture.server.cli(&spoil).await?;
        let jobs = [plain(), options.clone()].map(|o| NewJob::new("job", json!(1)).options(o));
        let together = fixture.queue.add_bulk(jobs).await?;
        // A job alone has a path of its own.
        let alone = fixture.queue.add_with("job", &json!(1), options).await;
        for added in together.into_iter().chain([alone]) {
            assert!(
                matches!(added, Err(Error::Server(_))),
                "{spoil:?}: {added:?}"
            );
        }
        let left = fixture.server.cli(&["KEYS", "*"]).await?;
        assert_eq!(left.texts(), [spoil[1]]);
        fixture.server.cli(&["DEL", spoil[1]]).await?;
    }
    Ok(())
}

/// What the first add under a deduplication id does not touch keeps it from nothing, when it is alone; a batch looks at all
/// that deduplication may write.
#[tokio::test]
async fn keys_that_a_lone_add_leaves_alone_may_be_of_the_wrong_type() -> TestResult {
    for key in ["bull:q:dn:k", "bull:q:failed"] {
        let fixture = Fixture::start().await?;
        fixture.server.cli(&["DEL", "bull:q:meta"]).await?;
        fixture.server.cli(&["SET", key, "odd"]).await?;
        let options = || JobOptions::new().deduplication(Deduplication::new("k"));
        let jobs = [JobOptions::new(), options()].map(|o| NewJob::new("job", json!(1)).options(o));
        for added in fixture.queue.add_bulk(jobs).await? {
            assert!(matches!(added, Err(Error::Server(_))), "{key}: {added:?}");
        }
        assert_eq!(fixture.server.cli(&["KEYS", "*"]).await?.texts(), [key]);
        let added = fixture.queue.add_with("job", &json!(1), options()).await?;
        assert_eq!(added.outcome, AddOutcome::Added);
        for read in [
            vec!["MGET", "bull:q:de:k"],
            vec!["LRANGE", "bull:q:wait", "0", "-1"],
        ] {
            let found = fixture.server.cli(&read).await?.texts();
            assert_eq!(found, [added.id.as_str()], "{key}: {read:?}");
        }
    }
    Ok(())
}
