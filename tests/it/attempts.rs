//! What becomes of an attempt: refused ends, jobs that were never run, backoff strategies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use oxbull::{
    AttemptError, Backoff, BackoffKind, BoxError, Client, ClientConfig, Context, FailedAttempt,
    Job, JobError, JobId, JobOptions, JobResult, JobState, ManualWorker, NewJob, Outcome, Parent,
    Queue, Refusal, Retention, Worker, WorkerEvent, WorkerStart,
};
use oxbull_fixture::{Fixture, obey};
use oxbull_testkit::{DEADLINE, Proxy, Rule, TestResult, eventually};
use serde_json::{Value, json};

/// Adds a job of `queue` and a child of it in another queue, which nobody works on.
async fn parent_with_child(fixture: &Fixture, options: JobOptions) -> TestResult<(JobId, Queue)> {
    let id = fixture.add("ok", options).await?;
    let children: Queue = Queue::open(&fixture.client, "children").await?;
    let parent = Parent::new(fixture.queue.qualified_name(), id.clone());
    children
        .add_with("child", &json!({}), JobOptions::new().parent(parent))
        .await?;
    Ok((id, children))
}

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
    let worker = builder.start(obey).await?;
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
        .start(obey)
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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
    // The same for a lock that is somebody else's.
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
    // Answers are late, so that each closing worker is told of jobs that it does not run any more.
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

/// Who has kept nothing but the id can end the job all the same.
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

/// A fetch may wait: for a job that is added, for one that falls due, or in vain.
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

/// Results that a call leaves because very many jobs are active are sent again until all are stored.
#[tokio::test]
async fn results_among_very_many_active_jobs_are_all_stored() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut push = vec!["RPUSH".to_owned(), "bull:q:active".to_owned()];
    push.extend((0..30_000).map(|n| format!("other-{n}")));
    fixture.server.cli(&push).await?;
    for added in fixture
        .queue
        .add_bulk((0..200).map(|n| NewJob::new("ok", json!({ "n": n }))))
        .await?
    {
        added?;
    }
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(100)
        .skip_stalled_check()
        .start(obey)
        .await?;
    fixture.ended(200).await?;
    assert_eq!(worker.close().await.abandoned, 0);
    assert_eq!(fixture.queue.counts().await?.active, 30_000);
    Ok(())
}

/// A job whose key somebody has overwritten cannot end; those whose results share its call end as ever.
#[tokio::test]
async fn damaged_job_costs_its_neighbours_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    for n in 0..5 {
        fixture.add(&n.to_string(), JobOptions::new()).await?;
    }
    let gate = Arc::new(tokio::sync::Barrier::new(6));
    let handlers = Arc::clone(&gate);
    let together = move |_: Job<Value>, _: Context| {
        let gate = Arc::clone(&handlers);
        async move {
            gate.wait().await;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .lock_duration(Duration::from_secs(1))
        .start(together)
        .await?;
    eventually(DEADLINE, || async { worker.health().running == 5 }).await?;
    fixture.server.cli(&["DEL", "bull:q:3"]).await?;
    fixture.server.cli(&["SET", "bull:q:3", "no job"]).await?;
    gate.wait().await;
    let counts = fixture.counts(|counts| counts.completed == 4).await?;
    assert_eq!(counts.failed, 0);
    worker.close().await;
    Ok(())
}

/// A worker whose handlers a full Redis refuses is not healthy, and tries one job at a time, although
/// its own calls succeed; with memory again it goes on by itself.
#[tokio::test]
async fn full_redis_is_told_and_tried_with_one_job_at_a_time() -> TestResult {
    const JOBS: u64 = 200;
    const CONCURRENCY: usize = 20;
    let fixture = Fixture::start().await?;
    for added in fixture
        .queue
        .add_bulk((0..JOBS).map(|n| NewJob::new("x", json!(n))))
        .await?
    {
        added?;
    }
    let full = ["CONFIG", "SET", "maxmemory", "1"];
    fixture.server.cli(&full).await?;
    let starts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&starts);
    let report = move |job: Job<Value>, _: Context| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            job.update_progress(&1).await?;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let worker = Worker::builder(&fixture.client, "q")
        .concurrency(CONCURRENCY)
        .start(report)
        .await?;
    eventually(DEADLINE, || async { worker.health().trouble.is_some() }).await?;
    let mut healthy = 0;
    while starts.load(Ordering::SeqCst) < CONCURRENCY + 3 {
        healthy += usize::from(worker.health().is_healthy());
        fixture.server.cli(&["PING"]).await?;
    }
    assert_eq!(healthy, 0, "{:?}", worker.health());
    let started = starts.load(Ordering::SeqCst);
    assert!(started < 2 * CONCURRENCY, "{started}");
    let roomy = ["CONFIG", "SET", "maxmemory", "0"];
    fixture.server.cli(&roomy).await?;
    let counts = fixture.ended(JOBS).await?;
    assert_eq!((counts.completed, counts.failed), (JOBS, 0));
    assert!(worker.health().is_healthy(), "{:?}", worker.health());
    worker.close().await;
    Ok(())
}

/// Failures that no handler returned have a type too, and options can be read.
#[tokio::test]
async fn strategies_tell_panics_and_timeouts_by_type() -> TestResult {
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
        .start(obey)
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

/// A result that cannot be stored is tried for as long as its job's lock lasts; the others are settled
/// meanwhile, and their slots are free.
#[tokio::test]
async fn result_that_cannot_be_stored_holds_up_no_other() -> TestResult {
    let fixture = Fixture::start().await?;
    for n in 1..=5 {
        fixture.add(&n.to_string(), JobOptions::new()).await?;
    }
    let gate = Arc::new(tokio::sync::Barrier::new(6));
    let opened = Arc::clone(&gate);
    let together = move |_: Job<Value>, _: Context| {
        let gate = Arc::clone(&opened);
        async move {
            gate.wait().await;
            Ok::<_, JobError>(Outcome::Done(()))
        }
    };
    let builder = Worker::builder(&fixture.client, "q")
        .concurrency(5)
        .lock_duration(Duration::from_secs(3600));
    let mut events = builder.events();
    let worker = builder.start(together).await?;
    eventually(DEADLINE, || async { worker.health().running == 5 }).await?;
    fixture.server.cli(&["DEL", "bull:q:3"]).await?;
    fixture.server.cli(&["SET", "bull:q:3", "no job"]).await?;
    gate.wait().await;
    let mut completed = 0;
    while completed < 4 {
        let event = tokio::time::timeout(DEADLINE, events.next()).await?;
        completed += usize::from(matches!(event, Some(WorkerEvent::Completed { .. })));
    }
    worker.close_now().await;
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
