//! Operations on many jobs: dry runs, limits, stopping and going on, refusals.

use std::ops::ControlFlow;
use std::time::Duration;

use oxbull::inspect::JobOrder;
use oxbull::{
    ActiveJobs, Backoff, DrainScope, Error, Job, JobError, JobId, JobOptions, JobState,
    ManualWorker, NewJob, Operation, OperationStep, Outcome, Queue, Refusal, RetryOptions,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};
use tokio::runtime::Handle;

const NOW: Duration = Duration::ZERO;

/// Everything on a server, as one text.
async fn contents(server: &RedisServer) -> TestResult<String> {
    let text = "local all = {} for _, key in ipairs(redis.call('KEYS', '*')) do
        all[#all + 1] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)) end
        table.sort(all) return table.concat(all, ',')";
    Ok(server.text(&["EVAL", text, "0"]).await?.unwrap_or_default())
}

/// Runs an operation and returns the jobs that it told of, in any order.
async fn jobs_of(operation: Operation) -> oxbull::Result<Vec<JobId>> {
    let mut jobs = Vec::new();
    let watch = |step: &OperationStep| {
        jobs.extend(step.jobs.iter().cloned());
        ControlFlow::Continue(())
    };
    let report = operation.run_with(watch).await?;
    assert_eq!(report.jobs, jobs.len() as u64);
    assert!(report.complete && !report.at_least, "{report:?}");
    jobs.sort();
    Ok(jobs)
}

async fn add_many(queue: &Queue, count: usize, options: &JobOptions) -> TestResult {
    let jobs = (0..count).map(|n| NewJob::new("job", json!(n)).options(options.clone()));
    queue.add_bulk(jobs).await?.into_result()?;
    Ok(())
}

/// Jobs in every state, more than a step handles in some; and an orphan.
async fn fill(fixture: &Fixture) -> TestResult {
    let (queue, server) = (&fixture.queue, &fixture.server);
    let worker = ManualWorker::new(&fixture.client, "q")?;
    for n in 0..4 {
        fixture.add("ended", JobOptions::new()).await?;
        let job = worker.fetch("t").await?.ok_or("no job")?;
        let result = if n % 2 == 0 {
            Ok(Outcome::Done(1))
        } else {
            Err(oxbull::JobError::fatal("no"))
        };
        worker.finish(&job, "t", result).await?;
    }
    let later = JobOptions::new().delay(Duration::from_secs(600));
    add_many(queue, 130, &JobOptions::new()).await?;
    add_many(queue, 450, &later).await?;
    add_many(queue, 3, &JobOptions::new().priority(4)).await?;
    for command in [
        ["LPUSH", "bull:q:active", "stray"].as_slice(),
        &["HSET", "bull:q:stray", "name", "n", "timestamp", "1"],
        &["HSET", "bull:q:orphan", "name", "n", "data", "{}"],
        &["RPUSH", "bull:q:orphan:logs", "row"],
    ] {
        server.cli(command).await?;
    }
    Ok(())
}

/// A dry run tells what the operation does next, and changes no key.
#[tokio::test]
async fn dry_run_foretells_and_changes_nothing() -> TestResult {
    type Make = fn(&Queue) -> Operation;
    let operations: [(&str, Make, usize); 12] = [
        ("orphans", |q| q.remove_orphaned_jobs(), 1),
        ("active", |q| q.clean(JobState::Active, NOW), 1),
        ("completed", |q| q.clean(JobState::Completed, NOW), 2),
        ("failed", |q| q.clean(JobState::Failed, NOW), 2),
        ("waiting", |q| q.clean(JobState::Waiting, NOW), 130),
        ("delayed", |q| q.clean(JobState::Delayed, NOW), 450),
        ("prioritized", |q| q.clean(JobState::Prioritized, NOW), 3),
        ("retry", |q| q.retry_jobs(None, RetryOptions::new()), 2),
        ("rerun", |q| q.rerun_jobs(None, RetryOptions::new()), 2),
        ("promote", |q| q.promote_jobs(), 450),
        ("drain", |q| q.drain(DrainScope::ReadyAndDelayed), 583),
        ("obliterate", |q| q.obliterate(ActiveJobs::Delete), 588),
    ];
    let fixture = Fixture::start().await?;
    for (name, make, count) in operations {
        fixture.server.cli(&["FLUSHALL"]).await?;
        fill(&fixture).await?;
        let before = contents(&fixture.server).await?;
        let foretold = jobs_of(make(&fixture.queue).dry_run()).await?;
        assert_eq!(contents(&fixture.server).await?, before, "{name}");
        assert_eq!(foretold.len(), count, "{name}");
        assert_eq!(jobs_of(make(&fixture.queue)).await?, foretold, "{name}");
        assert_eq!(
            make(&fixture.queue).dry_run().run().await?.jobs,
            0,
            "{name}"
        );
    }
    Ok(())
}

/// What a stopped operation did stays done, its event is written, and the next one goes on from there.
#[tokio::test]
async fn stopped_operation_is_gone_on_with() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add_many(queue, 250, &JobOptions::new()).await?;
    fixture.server.cli(&["DEL", "bull:q:events"]).await?;
    let clean = || queue.clean(JobState::Waiting, NOW);
    let report = clean().run_with(|_| ControlFlow::Break(())).await?;
    assert_eq!((report.jobs, report.complete), (60, false));
    assert_eq!(queue.counts().await?.waiting, 190);
    let limited = clean().limit(30).run().await?;
    assert_eq!((limited.jobs, limited.complete), (30, false));
    let rest = clean().run().await?;
    assert_eq!((rest.jobs, rest.complete), (160, true));
    let events = fixture
        .server
        .cli(&["XRANGE", "bull:q:events", "-", "+"])
        .await?;
    let counts: Vec<_> = events
        .items()
        .iter()
        .map(|entry| entry.items()[1].texts())
        .collect();
    let cleaned = |n: &str| {
        vec![
            "event".to_owned(),
            "cleaned".into(),
            "count".into(),
            n.into(),
        ]
    };
    assert_eq!(counts, [cleaned("60"), cleaned("30"), cleaned("160")]);
    Ok(())
}

/// An operation that is dropped half way leaves the rest as it was.
#[tokio::test]
async fn dropped_operation_leaves_the_rest() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add_many(queue, 5000, &JobOptions::new().delay(DEADLINE)).await?;
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut stop = Some(stop);
    let promote = queue.promote_jobs().run_with(|step| {
        if step.report.jobs >= 300 {
            stop.take().map(|stop| stop.send(()));
        }
        ControlFlow::Continue(())
    });
    tokio::select! {
        biased;
        _ = stopped => {}
        report = promote => return Err(format!("it was not stopped: {report:?}").into()),
    }
    let counts = queue.counts().await?;
    assert_eq!(counts.waiting + counts.delayed, 5000);
    assert!(counts.waiting >= 300 && counts.delayed > 0, "{counts:?}");
    assert_eq!(queue.promote_jobs().run().await?.jobs, counts.delayed);
    assert_eq!(queue.counts().await?.waiting, 5000);
    Ok(())
}

/// A limit of nothing is a mistake, and nothing is sent.
#[tokio::test]
async fn limit_of_nothing_is_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.add("a", JobOptions::new()).await?;
    let before = contents(&fixture.server).await?;
    let refused = fixture.queue.drain(DrainScope::Ready).limit(0).run().await;
    let Err(Error::Invalid { field, .. }) = &refused else {
        return Err(format!("{refused:?}").into());
    };
    assert_eq!(*field, "limit");
    assert_eq!(contents(&fixture.server).await?, before);
    // No age is too large, and none is too small.
    let none = fixture.queue.clean(JobState::Waiting, Duration::MAX);
    assert_eq!(none.run().await?.jobs, 0);
    Ok(())
}

/// Workers take jobs from the end of the list that is being cleaned: no old job is passed over.
#[tokio::test]
async fn clean_passes_nothing_over_while_jobs_start() -> TestResult {
    let fixture = Fixture::start().await?;
    let fill = "for i = 1, 6000 do local id = 'j' .. i
        redis.call('HSET', 'bull:q:' .. id, 'name', 'n', 'data', '1', 'opts', '{}', 'timestamp',
          i % 3 == 0 and '1' or '9000000000000')
        redis.call('LPUSH', 'bull:q:wait', id) end";
    fixture.server.cli(&["EVAL", fill, "0"]).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let start = async {
        let mut started = 0;
        loop {
            match worker.fetch("t").await {
                Ok(Some(_)) => started += 1,
                other => break other.map(|_| started),
            }
        }
    };
    let mut clean = std::pin::pin!(fixture.queue.clean(JobState::Waiting, NOW).run());
    let report = tokio::select! {
        report = &mut clean => report?,
        started = start => return Err(format!("all were started: {started:?}").into()),
    };
    assert!(report.complete);
    let left = fixture
        .server
        .cli(&["LRANGE", "bull:q:wait", "0", "-1"])
        .await?;
    for id in left.texts() {
        let old = id.trim_start_matches('j').parse::<u32>()? % 3 == 0;
        assert!(!old, "{id} was passed over");
    }
    let active = fixture.queue.counts().await?.active;
    assert!(active > 0, "no job was started meanwhile");
    Ok(())
}

/// Whatever newer versions have written into a job stays there.
#[tokio::test]
async fn unknown_fields_and_options_survive() -> TestResult {
    let fixture = Fixture::start().await?;
    let (queue, server) = (&fixture.queue, &fixture.server);
    let opts = r#"{"newer":[],"lifo":null,"attempts":0}"#;
    for (place, id) in [("failed", "f"), ("completed", "c"), ("delayed", "d")] {
        let key = format!("bull:q:{id}");
        server
            .cli(&[
                "HSET", &key, "name", "n", "data", "1", "opts", opts, "newer", "7",
            ])
            .await?;
        server.cli(&["HSET", &key, "timestamp", "1"]).await?;
        server
            .cli(&["ZADD", &format!("bull:q:{place}"), "5", id])
            .await?;
    }
    server
        .cli(&["XADD", "bull:q:events", "*", "event", "newer"])
        .await?;
    assert_eq!(
        queue
            .retry_jobs(None, RetryOptions::new())
            .run()
            .await?
            .jobs,
        1
    );
    assert_eq!(
        queue
            .rerun_jobs(None, RetryOptions::new())
            .run()
            .await?
            .jobs,
        1
    );
    assert_eq!(queue.promote_jobs().run().await?.jobs, 1);
    for id in ["f", "c", "d"] {
        let key = format!("bull:q:{id}");
        assert_eq!(
            server.text(&["HGET", &key, "newer"]).await?.as_deref(),
            Some("7")
        );
        assert_eq!(
            server.text(&["HGET", &key, "opts"]).await?.as_deref(),
            Some(opts)
        );
        assert_eq!(queue.state(id).await?, Some(JobState::Waiting));
    }
    let events = server.cli(&["XRANGE", "bull:q:events", "-", "+"]).await?;
    assert_eq!(events.items()[0].items()[1].texts(), ["event", "newer"]);
    Ok(())
}

fn refusal(error: &Error) -> Option<Refusal> {
    match error {
        Error::QueueRefused { source, .. } => Some(*source),
        Error::Incomplete { source, .. } => refusal(source),
        _ => None,
    }
}

/// A queue at work is not deleted unless that is asked for; dry runs say so too.
#[tokio::test]
async fn obliterate_refuses_a_queue_at_work() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    fixture.add("a", JobOptions::new()).await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    let before = contents(&fixture.server).await?;
    for operation in [
        queue.obliterate(ActiveJobs::Refuse),
        queue.obliterate(ActiveJobs::Refuse).dry_run(),
    ] {
        let error = operation.run().await.unwrap_err();
        assert_eq!(refusal(&error), Some(Refusal::ActiveJobs), "{error:?}");
        assert!(error.is_unchanged() && !error.is_transient());
        let text = error.with_causes().to_string();
        assert_eq!(
            text,
            "queue bull:q was not changed: the queue has active jobs"
        );
        assert_eq!(contents(&fixture.server).await?, before);
    }
    assert_eq!(queue.obliterate(ActiveJobs::Delete).run().await?.jobs, 1);
    assert_eq!(contents(&fixture.server).await?, "");
    // Its handler's result has no effect.
    let ended = worker.finish(&job, "t", Ok(Outcome::Done(1))).await;
    assert!(matches!(ended, Err(Error::Refused { .. })), "{ended:?}");
    assert_eq!(queue.counts().await?, oxbull::JobCounts::default());
    Ok(())
}

/// Somebody who resumes the queue wants it: what is left stays.
#[tokio::test]
async fn obliterate_ends_when_the_queue_is_resumed() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add_many(queue, 20_000, &JobOptions::new()).await?;
    let mut obliterate = std::pin::pin!(queue.obliterate(ActiveJobs::Refuse).run());
    let resume = eventually(DEADLINE, || async {
        let counts = queue.counts().await;
        counts.is_ok_and(|counts| counts.waiting < 20_000) && queue.resume().await.is_ok()
    });
    let (ended, resumed) = tokio::join!(&mut obliterate, resume);
    resumed?;
    let error = ended.unwrap_err();
    assert_eq!(refusal(&error), Some(Refusal::NotPaused), "{error:?}");
    assert!(!error.is_unchanged());
    let left = queue.counts().await?.waiting;
    assert!(left > 0 && left < 20_000, "{left}");
    assert!(!queue.is_paused().await?);
    Ok(())
}

/// Reset counts give the jobs all of their attempts again.
#[tokio::test]
async fn retried_jobs_may_begin_anew() -> TestResult {
    let fixture = Fixture::start().await?;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    let id = fixture.add("a", JobOptions::new()).await?;
    let job = worker.fetch("t").await?.ok_or("no job")?;
    let failed: oxbull::JobResult<Value> = Err(oxbull::JobError::fatal("no"));
    worker.finish(&job, "t", failed).await?;
    let options = RetryOptions::new()
        .reset_attempts_made()
        .reset_attempts_started();
    assert_eq!(fixture.queue.retry_jobs(None, options).run().await?.jobs, 1);
    let job = fixture.job(&id).await?;
    assert_eq!((job.attempts_made, job.attempts_started), (0, 0));
    Ok(())
}

/// A worker fails the jobs again as fast as they come: each runs again once, whatever the time asked for.
#[tokio::test]
async fn retried_jobs_that_fail_again_are_not_taken_twice() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    add_many(queue, 300, &JobOptions::new()).await?;
    let fail = |_: Job<Value>| async { Err::<Outcome<()>, _>(JobError::fatal("no")) };
    let worker = queue.worker().concurrency(50).start(fail).await?;
    fixture.counts(|counts| counts.failed == 300).await?;
    let later = fixture.client.clock().now() + Duration::from_secs(3600);
    for until in [Some(later), None] {
        let report = queue.retry_jobs(until, RetryOptions::new()).limit(2_000);
        let report = report.run().await?;
        assert_eq!((report.jobs, report.complete), (300, true), "{until:?}");
        fixture.counts(|counts| counts.failed == 300).await?;
    }
    worker.close().await;
    Ok(())
}

/// A worker puts off the jobs that were promoted, for later attempts: each is promoted once.
#[tokio::test(flavor = "multi_thread")]
async fn promoted_jobs_that_are_delayed_again_stay_so() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let hour = Duration::from_secs(3600);
    let again = JobOptions::new()
        .attempts(9)
        .backoff(Backoff::fixed(2 * hour));
    add_many(queue, 400, &again.delay(hour)).await?;
    let fail = |_: Job<Value>| async { Err::<Outcome<()>, _>(JobError::retry("not yet")) };
    let worker = queue.worker().concurrency(50).start(fail).await?;
    // The steps after the first find those delayed again that it has promoted.
    let report = queue.promote_jobs().limit(2_000).run_with(|_| {
        let waited = tokio::task::block_in_place(|| {
            Handle::current().block_on(fixture.counts(|counts| counts.delayed == 400))
        });
        assert!(waited.is_ok(), "{waited:?}");
        ControlFlow::Continue(())
    });
    let report = report.await?;
    assert_eq!((report.jobs, report.complete), (400, true));
    worker.close().await;
    for job in queue
        .jobs([JobState::Delayed], .., JobOrder::Ascending)
        .await?
        .jobs
    {
        assert_eq!(job.job.attempts_made, 1);
    }
    // The next operation takes them.
    assert_eq!(queue.promote_jobs().run().await?.jobs, 400);
    Ok(())
}

/// What a flow holds that is being added becomes an orphan an hour after that began: its producer has died.
#[tokio::test]
async fn jobs_that_a_flow_holds_are_no_orphans_for_an_hour() -> TestResult {
    let fixture = Fixture::start().await?;
    let now = fixture.client.clock().now().as_millis();
    for (id, since) in [("held", now - 3_500_000), ("dead", now - 3_700_000)] {
        let (key, since) = (format!("bull:q:{id}"), since.to_string());
        let fields = ["HSET", &key, "name", "n", "data", "{}", "hold", &since];
        fixture.server.cli(&fields).await?;
    }
    let removed = jobs_of(fixture.queue.remove_orphaned_jobs()).await?;
    assert_eq!(removed, [JobId::new("dead")?]);
    let left = fixture.shown(&["KEYS", "bull:q:[hd]e*"]).await?;
    assert_eq!(left, "bull:q:held");
    Ok(())
}
