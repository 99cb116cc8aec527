//! Waits across failures of the connection between reader and server.

use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Error, Job, JobError, JobId, JobOptions, JobOutcome, ManualWorker,
    Outcome, Queue, Retention, RetryOptions, Worker,
};
use oxbull_testkit::{Command, DEADLINE, Proxy, RedisServer, Rule, TestResult};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Wait, completed, failed, wait};
use crate::events::{keep_away, readers, settles_at};

/// A client that waits behind a proxy, and a worker that connects directly.
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

/// A whole queue that is deleted takes its jobs along, and its waiters get an error.
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
/// yet: that end is not returned.
#[tokio::test]
async fn undone_end_is_not_returned() -> TestResult {
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
    behind.run(Ok(json!("final"))).await?;
    assert_eq!(wait.await??, completed(json!("final")));
    other.abort();
    Ok(())
}

/// The look-up finds no job, because it ended and was removed; the event that says how is still
/// on its way.
#[tokio::test]
async fn end_of_a_removed_job_comes_from_its_event() -> TestResult {
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
