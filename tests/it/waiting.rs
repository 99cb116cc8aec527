//! Waiting for the ends of jobs: every end is told once, whatever it races with.

use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Error, Job, JobError, JobId, JobOptions, JobOutcome, ManualWorker,
    Outcome, Queue, Retention, RetryOptions, Worker,
};
use oxbull_fixture::{Fixture, obey};
use oxbull_testkit::{Command, DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::events::{keep_away, readers, settles_at};

type Wait = JoinHandle<oxbull::Result<JobOutcome<Value>>>;

/// Waits for a job in a task of its own.
fn wait(queue: &Queue<Value>, job: &JobId) -> Wait {
    let (queue, job) = (queue.clone(), job.clone());
    tokio::spawn(async move { queue.wait_for(&job, DEADLINE).await })
}

fn completed(value: Value) -> JobOutcome<Value> {
    JobOutcome::Completed(value)
}

fn failed(reason: &str) -> JobOutcome<Value> {
    JobOutcome::Failed {
        reason: reason.to_owned(),
    }
}

/// Ends come typed, and only the last attempt of a job is one.
#[tokio::test]
async fn end_of_a_job_comes_to_whoever_waits() -> TestResult {
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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

/// A job that nobody has, and one that is taken away meanwhile, are told apart from one that
/// takes too long.
#[tokio::test]
async fn jobs_without_an_end_are_told_apart() -> TestResult {
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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
    let first = fixture.queue.add_and_wait("x", &data, kept.clone(), DEADLINE);
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
        .start(obey)
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
    assert_eq!(late.await??, completed(json!("x")));
    worker.close().await;
    Ok(())
}

/// Whoever waits behind a proxy, and whoever works past it.
struct Behind {
    server: RedisServer,
    proxy: Proxy,
    /// Waits.
    client: Client,
    queue: Queue<Value>,
    /// Works.
    direct: Queue<Value>,
    worker: ManualWorker,
}

impl Behind {
    async fn start() -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let proxy = Proxy::start(server.port()).await?;
        // From here on the server knows the script, so that one request is one look-up.
        let first = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        let nobody = JobId::existing("nobody");
        let queue = Queue::<Value>::open(&first, "q").await?;
        assert!(queue.wait_for::<Value>(&nobody, DEADLINE).await.is_err());
        first.close().await;
        let direct = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        let client = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
        Ok(Self {
            queue: Queue::open(&client, "q").await?,
            client,
            direct: Queue::open(&direct, "q").await?,
            worker: ManualWorker::new(&direct, "q")?,
            server,
            proxy,
        })
    }

    async fn add(&self, options: JobOptions) -> TestResult<JobId> {
        Ok(self.direct.add_with("job", &json!({}), options).await?.id)
    }

    /// Runs the next job to its end.
    async fn run(&self, result: Result<Value, JobError>) -> TestResult {
        let job = self.worker.fetch("token").await?.ok_or("nothing to run")?;
        self.worker
            .finish(&job, "token", result.map(Outcome::Done))
            .await?;
        Ok(())
    }

    /// Starts to wait, and returns once the job's state has been looked up.
    async fn wait(&self, job: &JobId) -> TestResult<Wait> {
        let seen = self
            .proxy
            .add(Rule::delay_reply(Duration::ZERO, Command::is_script));
        let wait = wait(&self.queue, job);
        seen.wait_fired(1, DEADLINE).await?;
        seen.remove();
        Ok(wait)
    }
}

/// The event is gone before the reader is back: the states of all who wait are looked up again.
#[tokio::test]
async fn end_whose_event_was_trimmed_is_found() -> TestResult {
    let behind = Behind::start().await?;
    let mut waits = Vec::new();
    for _ in 0..3 {
        let job = behind.add(JobOptions::new()).await?;
        waits.push(behind.wait(&job).await?);
    }
    let open = behind.add(JobOptions::new().delay(DEADLINE * 100)).await?;
    let open = behind.wait(&open).await?;
    let gone = behind
        .add(JobOptions::new().remove_on_complete(Retention::Remove))
        .await?;
    let vanished = behind.wait(&gone).await?;
    keep_away(&behind.proxy).await?;
    behind.run(Ok(json!(1))).await?;
    behind.run(Err(JobError::fatal("two"))).await?;
    behind.run(Ok(json!(3))).await?;
    behind.run(Ok(json!("nobody sees it"))).await?;
    behind
        .server
        .cli(&["XTRIM", "bull:q:events", "MAXLEN", "0"])
        .await?;
    behind.proxy.clear_rules();
    let ends = [completed(json!(1)), failed("two"), completed(json!(3))];
    for (wait, end) in waits.into_iter().zip(ends) {
        assert_eq!(wait.await??, end);
    }
    let vanished = vanished.await?;
    assert!(
        matches!(vanished, Err(Error::JobRemoved(_))),
        "{vanished:?}"
    );
    assert!(!open.is_finished());
    Ok(())
}

/// A whole queue that is deleted takes its jobs along, and those who wait learn it.
#[tokio::test]
async fn deleted_queue_ends_all_waits() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind.add(JobOptions::new()).await?;
    let wait = behind.wait(&job).await?;
    behind.server.cli(&["FLUSHALL"]).await?;
    let end = wait.await?;
    assert!(matches!(end, Err(Error::JobRemoved(_))), "{end:?}");
    Ok(())
}

/// The reader is behind, and the job was run again after an end that the reader has not seen
/// yet: that end is not the answer.
#[tokio::test]
async fn end_that_was_undone_is_no_end() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind.add(JobOptions::new()).await?;
    let other = behind.add(JobOptions::new().delay(DEADLINE * 100)).await?;
    let other = behind.wait(&other).await?;
    keep_away(&behind.proxy).await?;
    behind.run(Err(JobError::fatal("undone"))).await?;
    behind.direct.retry(&job, RetryOptions::new()).await?;
    let wait = behind.wait(&job).await?;
    behind.proxy.clear_rules();
    // The reader has passed the old end when it sees this one.
    behind.run(Ok(json!("for good"))).await?;
    assert_eq!(wait.await??, completed(json!("for good")));
    other.abort();
    Ok(())
}

/// The look-up finds no job, because it ended and was removed; the event that tells how is still
/// on its way.
#[tokio::test]
async fn end_of_a_vanished_job_is_told_by_its_event() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind
        .add(JobOptions::new().remove_on_complete(Retention::Remove))
        .await?;
    let other = behind.add(JobOptions::new().delay(DEADLINE * 100)).await?;
    let other = behind.wait(&other).await?;
    keep_away(&behind.proxy).await?;
    behind.run(Ok(json!("gone"))).await?;
    let wait = behind.wait(&job).await?;
    assert!(!wait.is_finished());
    behind.proxy.clear_rules();
    assert_eq!(wait.await??, completed(json!("gone")));

    // Once the reader has seen the end of the stream, there is no such job.
    let missing = behind.queue.wait_for::<Value>(&job, DEADLINE).await;
    assert!(matches!(missing, Err(Error::JobMissing(_))), "{missing:?}");
    other.abort();
    Ok(())
}

/// Lost answers to the look-up delay a wait and do not end it.
#[tokio::test]
async fn lost_answers_do_not_end_a_wait() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind.add(JobOptions::new()).await?;
    let lost = behind
        .proxy
        .add(Rule::drop_reply(Command::is_script).times(8));
    let opening = behind
        .proxy
        .add(Rule::drop_reply(|command| command.is("XINFO")).times(2));
    let wait = wait(&behind.queue, &job);
    lost.wait_fired(8, DEADLINE).await?;
    assert_eq!(opening.fired(), 2);
    behind.run(Ok(json!("at last"))).await?;
    assert_eq!(wait.await??, completed(json!("at last")));
    Ok(())
}

/// Closing the client ends every wait, and later ones at once.
#[tokio::test]
async fn closed_client_ends_all_waits() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind.add(JobOptions::new()).await?;
    let early = behind.wait(&job).await?;
    let many: Vec<Wait> = (0..100).map(|_| wait(&behind.queue, &job)).collect();
    behind.client.close().await;
    for wait in many.into_iter().chain([early]) {
        let end = wait.await?;
        assert!(matches!(end, Err(Error::Closed)), "{end:?}");
    }
    let late = behind.queue.wait_for::<Value>(&job, DEADLINE).await;
    assert!(matches!(late, Err(Error::Closed)), "{late:?}");
    settles_at(&behind.server, 0).await
}

/// What waiting cannot mend ends all waits with its reason, and the next wait tries again.
#[tokio::test]
async fn unusable_stream_ends_waits_with_its_reason() -> TestResult {
    let behind = Behind::start().await?;
    let job = behind.add(JobOptions::new()).await?;
    let wait = behind.wait(&job).await?;
    let key = "bull:q:events";
    behind.server.cli(&["SET", key, "x"]).await?;
    let end = wait.await?;
    assert!(matches!(end, Err(Error::Server(_))), "{end:?}");
    behind.server.cli(&["DEL", key]).await?;
    let wait = behind.wait(&job).await?;
    behind.run(Ok(json!(1))).await?;
    assert_eq!(wait.await??, completed(json!(1)));
    Ok(())
}

/// The runtime that reads for everybody may end before those who wait elsewhere.
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
        let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
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
        let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
        assert_eq!(wait.await??, completed(json!("x")));
        worker.close().await;
        Ok(())
    })
}

async fn echo(job: Job<Value>, _: oxbull::Context) -> oxbull::JobResult<Value> {
    Ok(Outcome::Done(job.data().clone()))
}

/// No end is missed while the reader's connection is killed again and again, and the stream is
/// so short that entries are gone before it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wait_is_lost_under_kills_and_trims() -> TestResult {
    let server = RedisServer::start_with(&["stream-node-max-entries 5"]).await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?.retries(20)).await?;
    let queue: Queue<Value> = Queue::builder(&client, "q").max_events(20).open().await?;
    let worker = Worker::builder(&client, "q")
        .concurrency(20)
        .start(echo)
        .await?;
    let mut waits = JoinSet::new();
    for task in 0..20 {
        let queue = queue.clone();
        waits.spawn(async move {
            for n in 0..50 {
                let data = json!([task, n]);
                let end: JobOutcome<Value> = if n % 2 == 0 {
                    let added = queue.add_once("job", &data, JobOptions::new()).await?;
                    queue.wait_for(&added.id, DEADLINE).await?
                } else {
                    queue
                        .add_and_wait("job", &data, JobOptions::new(), DEADLINE)
                        .await?
                };
                assert_eq!(end, completed(data));
            }
            Ok::<_, Error>(())
        });
    }
    let mut kills = 0;
    while !waits.is_empty() {
        for id in readers(&server).await? {
            server
                .cli(&["CLIENT", "KILL", "ID", &id.to_string()])
                .await?;
            kills += 1;
        }
        match tokio::time::timeout(Duration::from_millis(20), waits.join_next()).await {
            Ok(Some(done)) => done??,
            Ok(None) => break,
            Err(_) => {}
        }
    }
    println!("1000 waits, {kills} kills of their reader");
    worker.close().await;
    Ok(())
}
