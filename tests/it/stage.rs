//! What the tests of queues and workers start from: a private server, a client, a queue.

use std::time::Duration;

use oxbull::{
    Client, ClientConfig, Context, Job, JobCounts, JobError, JobId, JobOptions, JobRecord,
    JobResult, Outcome, Queue,
};
use oxbull_testkit::{RedisServer, eventually};
use serde_json::{Value, json};

pub(crate) type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Bounds liveness only.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A queue on a server of its own.
pub(crate) struct Stage {
    pub(crate) server: RedisServer,
    pub(crate) client: Client,
    pub(crate) queue: Queue<Value>,
}

impl Stage {
    pub(crate) async fn start() -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        let queue = Queue::open(&client, "q").await?;
        Ok(Self {
            server,
            client,
            queue,
        })
    }

    /// Adds a job whose handler does what `what` says.
    pub(crate) async fn add(&self, what: &str, options: JobOptions) -> TestResult<JobId> {
        Ok(self
            .queue
            .add_with(what, &json!({ "do": what }), options)
            .await?
            .id)
    }

    /// Waits until the counts are as `holds` wants them, and returns them.
    pub(crate) async fn counts(&self, holds: impl Fn(&JobCounts) -> bool) -> TestResult<JobCounts> {
        let counts = eventually(SOON, || async {
            let counts = self.queue.counts().await.ok()?;
            holds(&counts).then_some(counts)
        })
        .await?;
        Ok(counts)
    }

    /// Waits until `total` jobs have ended.
    pub(crate) async fn ended(&self, total: u64) -> TestResult<JobCounts> {
        self.counts(|counts| counts.completed + counts.failed == total)
            .await
    }

    pub(crate) async fn job(&self, id: &JobId) -> TestResult<JobRecord> {
        Ok(self.queue.job(id).await?.ok_or("the job is gone")?)
    }

    /// The queue's event stream as text.
    pub(crate) async fn queue_events(&self) -> TestResult<String> {
        let entries = self
            .server
            .cli(&["XRANGE", "bull:q:events", "-", "+"])
            .await?;
        let fields = entries
            .items()
            .iter()
            .filter_map(|entry| entry.items().last());
        let lines = fields.map(|fields| fields.texts().join(" "));
        Ok(lines.collect::<Vec<_>>().join("\n"))
    }

    /// What the server answers, as text to look for something in.
    #[cfg(feature = "sessions")]
    pub(crate) async fn shown(&self, args: &[&str]) -> TestResult<String> {
        Ok(self.server.cli(args).await?.texts().join("\n"))
    }

    /// How often the server has run a command.
    pub(crate) async fn calls(&self, command: &str) -> TestResult<u64> {
        let stats = self.server.info("commandstats").await?;
        let calls = stats
            .get(&format!("cmdstat_{command}"))
            .and_then(|text| text.split(',').next()?.strip_prefix("calls=")?.parse().ok());
        Ok(calls.unwrap_or(0))
    }
}

/// A handler that does what its job says.
#[expect(clippy::panic, reason = "what a job may ask for")]
pub(crate) async fn obey(job: Job<Value>, context: Context) -> JobResult<Value> {
    let first = job.attempts_started() == 1;
    match job.data()["do"].as_str().unwrap_or_default() {
        "fail" => Err(JobError::retry("it failed")),
        "fail once" if first => Err(JobError::retry("it failed once")),
        "give up" => Err(JobError::fatal("no use")),
        "panic" => panic!("it panicked"),
        "delay once" if first => Ok(Outcome::DelayFor(Duration::from_millis(30))),
        "delay until" if first => Ok(Outcome::DelayUntil(
            job.timestamp() + Duration::from_millis(50),
        )),
        "release once" if first => Ok(Outcome::Release),
        "limit once" if first => Ok(Outcome::RateLimited(Duration::from_millis(100))),
        "hang" => {
            context.cancelled().await;
            std::future::pending().await
        }
        other => Ok(Outcome::Done(json!(other))),
    }
}
