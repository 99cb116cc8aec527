//! Rate limits and global concurrency, as workers of this library keep them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Context, Error, Job, JobOptions, JobRateLimit, JobResult, ManualWorker,
    NewJob, Outcome, Queue, RateLimitState, Worker,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually};
use serde_json::{Value, json};

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than any test waits.
const NEVER: Duration = Duration::from_secs(3600);
/// How long workers wait under a limit, in tests that let them look again and again.
const BRIEFLY: Duration = Duration::from_millis(5);

/// Waits until workers have looked for jobs this often.
async fn looked(fixture: &Fixture, times: u64) -> TestResult {
    let before = fixture.calls("evalsha").await?;
    eventually(DEADLINE, || async {
        let now = fixture.calls("evalsha").await.map_err(|e| e.to_string())?;
        (now >= before + times).then_some(()).ok_or(now.to_string())
    })
    .await?;
    Ok(())
}

/// How often any job has started.
async fn starts(fixture: &Fixture) -> TestResult<usize> {
    let events = fixture
        .server
        .cli(&["XRANGE", "bull:q:events", "-", "+"])
        .await?;
    let active = |fields: &std::collections::BTreeMap<String, String>| {
        fields.get("event").is_some_and(|event| event == "active")
    };
    let events = events.entries();
    Ok(events.iter().filter(|(_, fields)| active(fields)).count())
}

/// A handler that asks for a minute each time it runs.
async fn limit(_: Job<Value>, _: Context) -> JobResult<()> {
    Ok(Outcome::RateLimited(MINUTE))
}

/// The job is released and the queue waits: the handler does not run again and again. That holds
/// for the worker whose handler it was also without a limit of its own; and each worker notices when
/// the limit is lifted, not only when the minute is over.
#[tokio::test]
async fn handler_that_limits_the_queue_runs_once_until_the_limit_is_lifted() -> TestResult {
    for (workers, own_limit) in [(1, false), (1, true), (3, true)] {
        let fixture = Fixture::start().await?;
        let mut fleet = Vec::new();
        for _ in 0..workers {
            let mut worker = Worker::builder(&fixture.client, "q")
                .concurrency(5)
                .drain_delay(BRIEFLY)
                .max_rate_limit_wait(BRIEFLY);
            if own_limit {
                worker = worker.rate_limit(JobRateLimit::new(1000, MINUTE));
            }
            fleet.push(worker.start(limit).await?);
        }
        let id = fixture.add("limit", JobOptions::new()).await?;
        for runs in 1..=3 {
            eventually(DEADLINE, || async {
                let job = fixture.job(&id).await.ok()?;
                let waits = fixture.queue.counts().await.ok()?.waiting == 1;
                (waits && job.attempts_started == runs).then_some(())
            })
            .await?;
            let other = fixture.add("other", JobOptions::new()).await?;
            looked(&fixture, 20).await?;
            assert_eq!(starts(&fixture).await?, usize::try_from(runs)?);
            let RateLimitState::Limited {
                retry_after: left, ..
            } = fixture.queue.rate_limit_state().await?
            else {
                return Err("the queue is not limited".into());
            };
            assert!(left <= MINUTE);
            // It would limit the queue as well.
            assert!(fixture.queue.remove(&other).await?);
            assert!(fixture.queue.lift_rate_limit().await?);
        }
        assert_eq!(fixture.job(&id).await?.attempts_made, 0);
        for worker in fleet {
            worker.close().await;
        }
    }
    Ok(())
}

/// A caller that paces itself by a limit sees whether a window is open, and what may start in it.
#[tokio::test]
async fn state_of_a_limit_shows_the_remaining_capacity() -> TestResult {
    let fixture = Fixture::start().await?;
    let queue = &fixture.queue;
    let worker = ManualWorker::new(&fixture.client, "q")?;
    queue
        .set_global_rate_limit(JobRateLimit::new(2, MINUTE))
        .await?;
    assert_eq!(queue.rate_limit_state().await?, RateLimitState::NoWindow);
    for _ in 0..2 {
        fixture.add("x", JobOptions::new()).await?;
    }
    assert!(worker.fetch("t").await?.is_some());
    let state = queue.rate_limit_state().await?;
    let window = match state {
        RateLimitState::Available {
            remaining: 1,
            reset: window,
            ..
        } => window,
        other => return Err(format!("{other:?}").into()),
    };
    assert!(state.may_start() && window <= MINUTE);
    assert!(worker.fetch("t").await?.is_some());
    let state = queue.rate_limit_state().await?;
    assert!(matches!(state, RateLimitState::Limited { retry_after: left, .. } if left <= MINUTE));
    let state = queue.rate_limit_state_of(5).await?;
    assert!(
        matches!(state, RateLimitState::Available { remaining: 3, .. }),
        "{state:?}"
    );
    queue.lift_rate_limit().await?;
    assert_eq!(queue.rate_limit_state().await?, RateLimitState::NoWindow);
    Ok(())
}

/// What a handler has learnt from its work may stop the queue while the work counts.
#[tokio::test]
async fn handler_limits_the_queue_and_goes_on() -> TestResult {
    async fn learn(job: Job<Value>, _: Context) -> JobResult<bool> {
        let bad = job.limit_rate(Duration::ZERO).await;
        let refused = matches!(
            bad,
            Err(Error::Invalid {
                field: "rate limit wait",
                ..
            })
        );
        assert_eq!(job.limit_rate(MINUTE).await?, MINUTE);
        Ok(Outcome::Done(refused))
    }
    let fixture = Fixture::start().await?;
    fixture
        .queue
        .set_global_rate_limit(JobRateLimit::new(1000, MINUTE))
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .max_rate_limit_wait(BRIEFLY)
        .start(learn)
        .await?;
    for done in 1..=2 {
        let id = fixture.add("learn", JobOptions::new()).await?;
        fixture.add("next", JobOptions::new()).await?;
        fixture.ended(done).await?;
        looked(&fixture, 10).await?;
        assert_eq!(starts(&fixture).await?, usize::try_from(done)?);
        if done == 1 {
            let job = fixture.job(&id).await?;
            assert_eq!(job.return_value::<bool>()?, Some(true));
        }
        fixture.queue.lift_rate_limit().await?;
    }
    worker.close().await;
    Ok(())
}

/// A worker asks for many jobs at once; the limit still holds, also over two calls in flight and
/// several workers.
#[tokio::test]
async fn batches_do_not_exceed_a_limit() -> TestResult {
    let fixture = Fixture::start().await?;
    let jobs = (0..300).map(|n| NewJob::new("ok", json!({ "do": "ok", "n": n })));
    fixture.queue.add_bulk(jobs).await?.into_result()?;
    let mut fleet = Vec::new();
    for _ in 0..3 {
        let worker = Worker::builder(&fixture.client, "q")
            .concurrency(30)
            .max_rate_limit_wait(BRIEFLY)
            .rate_limit(JobRateLimit::new(70, NEVER));
        fleet.push(worker.start(scripted).await?);
    }
    fixture.ended(70).await?;
    looked(&fixture, 20).await?;
    assert_eq!(starts(&fixture).await?, 70);
    // Each window that is ended by hand lets as many start as one that ended by itself.
    fixture.queue.lift_rate_limit().await?;
    fixture.ended(140).await?;
    looked(&fixture, 20).await?;
    assert_eq!(starts(&fixture).await?, 140);
    for worker in fleet {
        worker.close().await;
    }
    Ok(())
}

/// Waits until a worker waits for the marker, and nothing else is running.
async fn asleep(fixture: &Fixture) -> TestResult {
    eventually(DEADLINE, || async {
        let info = fixture.server.info("clients").await.ok()?;
        (info.get("blocked_clients")? != "0").then_some(())
    })
    .await?;
    Ok(())
}

/// A worker that sleeps because the queue is full starts the next job as soon as the bound is
/// raised or removed, or a job ends on a worker that takes no other.
#[tokio::test]
async fn sleeping_worker_wakes_when_a_full_queue_opens() -> TestResult {
    for opening in ["raise", "remove", "end", "delay"] {
        let fixture = Fixture::start().await?;
        fixture.queue.set_global_concurrency(1).await?;
        fixture.add("held", JobOptions::new()).await?;
        let holder = ManualWorker::new(&fixture.client, "q")?;
        let held = holder.fetch("token").await?.ok_or("no job to hold")?;
        fixture.add("next", JobOptions::new()).await?;
        let worker = Worker::builder(&fixture.client, "q")
            .drain_delay(NEVER)
            .start(scripted)
            .await?;
        // Its first look takes the wake-up that the held job's start left.
        eventually(DEADLINE, || async {
            let wakeups = fixture.server.int(&["ZCARD", "bull:q:marker"]).await;
            wakeups.is_ok_and(|wakeups| wakeups == 0)
        })
        .await?;
        asleep(&fixture).await?;
        assert!(fixture.queue.is_maxed().await?);
        let ended = match opening {
            "raise" => fixture.queue.set_global_concurrency(2).await.map(|()| 1)?,
            "remove" => fixture.queue.remove_global_concurrency().await.map(|_| 1)?,
            "end" => {
                let done = Ok(Outcome::Done(()));
                holder.finish(&held, "token", done).await?;
                2
            }
            _ => {
                let later = Ok(Outcome::<()>::DelayFor(NEVER));
                holder.finish(&held, "token", later).await?;
                1
            }
        };
        fixture.ended(ended).await?;
        worker.close().await;
    }
    Ok(())
}

/// A lowered bound interrupts no job; no job starts until fewer are active.
#[tokio::test]
async fn lowered_concurrency_lets_jobs_run_on() -> TestResult {
    let fixture = Fixture::start().await?;
    let seen = Arc::new(AtomicU32::new(0));
    let holder = ManualWorker::new(&fixture.client, "q")?;
    let mut held = Vec::new();
    for _ in 0..3 {
        fixture.add("held", JobOptions::new()).await?;
        held.push(holder.fetch("token").await?.ok_or("no job to hold")?);
    }
    fixture.queue.set_global_concurrency(2).await?;
    let count = |_: Job<Value>, context: Context<Arc<AtomicU32>>| async move {
        context.state().fetch_add(1, Ordering::Relaxed);
        Ok(Outcome::Done(()))
    };
    let worker = Worker::builder(&fixture.client, "q")
        .drain_delay(BRIEFLY)
        .state(Arc::clone(&seen))
        .start(count)
        .await?;
    fixture.add("next", JobOptions::new()).await?;
    // Three are active, then two: the next one starts when there is only one.
    let done = || Ok(Outcome::Done(()));
    holder.finish(&held[0], "token", done()).await?;
    assert!(fixture.queue.is_maxed().await?);
    looked(&fixture, 20).await?;
    assert_eq!(seen.load(Ordering::Relaxed), 0);
    holder.finish(&held[1], "token", done()).await?;
    fixture.ended(3).await?;
    assert_eq!(seen.load(Ordering::Relaxed), 1);
    worker.close().await;
    Ok(())
}

/// What is out of its bounds is refused by name, before anything is sent.
#[tokio::test]
async fn bad_limits_are_refused_and_change_nothing() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, "q").await?;
    queue
        .set_global_rate_limit(JobRateLimit::new(7, MINUTE))
        .await?;
    queue.set_global_concurrency(3).await?;
    let before = server.cli(&["HGETALL", "bull:q:meta"]).await?.map();
    let scripts = server
        .info("commandstats")
        .await?
        .get("cmdstat_evalsha")
        .cloned();
    let (none, tiny, huge) = (Duration::ZERO, Duration::from_micros(999), Duration::MAX);
    let mut refused = Vec::new();
    for window in [none, tiny, huge] {
        refused.push((
            queue
                .set_global_rate_limit(JobRateLimit::new(1, window))
                .await
                .err(),
            "rate limit window",
        ));
        refused.push((queue.limit_rate(window).await.err(), "rate limit wait"));
        let worker = Worker::builder(&client, "q").rate_limit(JobRateLimit::new(1, window));
        refused.push((worker.start(limit).await.err(), "rate limit window"));
        let worker = ManualWorker::new(&client, "q")?.rate_limit(JobRateLimit::new(1, window));
        refused.push((worker.fetch("t").await.err(), "rate limit window"));
    }
    refused.push((
        queue
            .set_global_rate_limit(JobRateLimit::new(0, MINUTE))
            .await
            .err(),
        "rate limit",
    ));
    refused.push((
        queue.set_global_concurrency(0).await.err(),
        "global concurrency",
    ));
    refused.push((queue.rate_limit_state_of(0).await.err(), "rate limit"));
    let worker = Worker::builder(&client, "q").rate_limit(JobRateLimit::new(0, MINUTE));
    refused.push((worker.start(limit).await.err(), "rate limit"));
    let worker = Worker::builder(&client, "q").max_rate_limit_wait(none);
    refused.push((worker.start(limit).await.err(), "rate limit wait"));
    for (error, name) in refused {
        let named = matches!(&error, Some(Error::Invalid { field, .. }) if *field == name);
        assert!(named, "{error:?}, not {name}");
    }
    assert_eq!(server.cli(&["HGETALL", "bull:q:meta"]).await?.map(), before);
    assert_eq!(
        server
            .info("commandstats")
            .await?
            .get("cmdstat_evalsha")
            .cloned(),
        scripts
    );
    assert_eq!(server.int(&["DBSIZE"]).await?, 1);
    Ok(())
}

/// A key of the wrong type is an error, and stays as it is.
#[tokio::test]
async fn keys_of_another_type_are_errors_and_stay_unchanged() -> TestResult {
    let fixture = Fixture::start().await?;
    fixture.server.cli(&["DEL", "bull:q:meta"]).await?;
    for key in ["meta", "limiter"] {
        let key = format!("bull:q:{key}");
        fixture.server.cli(&["RPUSH", &key, "odd"]).await?;
    }
    let queue = &fixture.queue;
    let answers = [
        queue.set_global_concurrency(1).await.err(),
        queue.remove_global_concurrency().await.err(),
        queue.global_concurrency().await.err(),
        queue.is_maxed().await.err(),
        queue
            .set_global_rate_limit(JobRateLimit::new(1, MINUTE))
            .await
            .err(),
        queue.remove_global_rate_limit().await.err(),
        queue.global_rate_limit().await.err(),
        queue.limit_rate(MINUTE).await.err(),
        queue.lift_rate_limit().await.err(),
        queue.rate_limit_state().await.err(),
    ];
    for (at, error) in answers.iter().enumerate() {
        assert!(matches!(error, Some(Error::Server(_))), "{at}: {error:?}");
    }
    for key in ["bull:q:meta", "bull:q:limiter"] {
        let left = fixture.server.cli(&["LRANGE", key, "0", "-1"]).await?;
        assert_eq!(left.texts(), ["odd"]);
    }
    Ok(())
}
