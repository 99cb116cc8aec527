//! A private Redis with a Node peer and this library on one queue.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use oxbull::client::{Client, Command, Repeat};
use oxbull::{Context, Job, JobError, JobResult, Outcome, Worker, WorkerBuilder};
use oxbull_fixture::Fixture;
use oxbull_testkit::{BullMq, NodePeer, TestResult};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The data of every job: what its handler does, in the words of `tests/interop/lib/behaviour.mjs`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    #[serde(rename = "do")]
    pub(crate) what: String,
}

impl Order {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
        }
    }
}

/// Where a handler of this library counts, and under which name.
#[derive(Debug, Clone)]
pub(crate) struct Counter {
    effects: String,
    own: String,
}

/// A queue with a Node peer beside this library's client.
pub(crate) struct Fleet {
    base: Fixture<Order>,
    pub(crate) node: NodePeer,
}

impl Deref for Fleet {
    type Target = Fixture<Order>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

impl Fleet {
    pub(crate) async fn start(version: BullMq) -> TestResult<Self> {
        let base = Fixture::builder().start().await?;
        let node = NodePeer::bullmq(version, base.server.port()).await?;
        Ok(Self { base, node })
    }

    /// Describes a worker of this library whose handler does what Node's does.
    pub(crate) fn rust_worker<D>(&self) -> WorkerBuilder<Counter, D> {
        Worker::builder(&self.client, &self.name).state(Counter {
            effects: "effects".to_owned(),
            own: "effects:rust".to_owned(),
        })
    }

    /// Starts a Node worker.
    pub(crate) async fn node_worker(&self, opts: Value) -> TestResult {
        let params = json!({ "queue": self.name, "effectsKey": "effects", "opts": opts });
        self.node.call("worker.start", params).await?;
        Ok(())
    }

    /// Calls a method of the peer on this queue.
    pub(crate) async fn ask(&self, method: &str, mut params: Value) -> TestResult<Value> {
        params["queue"] = json!(self.name);
        Ok(self.node.call(method, params).await?)
    }

    /// How often each job's handler was started or came to its end (`started`, `done`).
    pub(crate) async fn effects(&self, what: &str) -> TestResult<BTreeMap<String, u64>> {
        let key = format!("effects:{what}");
        let counts = self.server.cli(&["HGETALL", &key]).await?.map();
        counts
            .into_iter()
            .map(|(id, count)| Ok((id, count.parse()?)))
            .collect()
    }

    /// How many handler starts were this library's.
    pub(crate) async fn rust_starts(&self) -> TestResult<u64> {
        let starts = self.effects("rust").await?;
        Ok(starts.values().sum())
    }
}

/// Does what a job says; the counterpart of the Node peer's behaviours.
pub(crate) async fn scripted(job: Job<Order>, context: Context<Counter>) -> JobResult<Value> {
    let counter = context.state();
    let client = context.client();
    for key in [format!("{}:started", counter.effects), counter.own.clone()] {
        hincrby(client, &key, job.id().as_str()).await?;
    }
    for step in job.data().what.split(';') {
        let (verb, argument) = step.trim().split_once(':').unwrap_or((step.trim(), ""));
        match verb {
            "fail" => return Err(boom()),
            "failOnce" if job.attempts_made() < 1 => return Err(boom()),
            "failTimes" if job.attempts_made() < argument.parse()? => return Err(boom()),
            "unrecoverable" => return Err(JobError::fatal("boom")),
            "sleep" => tokio::time::sleep(Duration::from_millis(argument.parse()?)).await,
            "progress" => job.update_progress(&argument.parse::<u32>()?).await?,
            "log" => {
                job.log(argument).await?;
            }
            "delayOnce" if job.attempts_started() <= 1 => {
                return Ok(Outcome::DelayFor(Duration::from_millis(argument.parse()?)));
            }
            "waitOnce" if job.attempts_started() <= 1 => return Ok(Outcome::Release),
            "rateLimitOnce" if job.attempts_started() <= 1 => {
                let wait = Duration::from_millis(argument.parse()?);
                return Ok(Outcome::RateLimited(wait));
            }
            "ok" | "failOnce" | "failTimes" | "delayOnce" | "waitOnce" | "rateLimitOnce" => {}
            other => return Err(JobError::fatal(format!("no such behaviour: {other}"))),
        }
    }
    let key = format!("{}:done", counter.effects);
    hincrby(client, &key, job.id().as_str()).await?;
    Ok(Outcome::Done(json!({ "ok": true })))
}

fn boom() -> JobError {
    JobError::retry("boom")
}

async fn hincrby(client: &Client, key: &str, field: &str) -> oxbull::Result<()> {
    let command = Command::new("HINCRBY").arg(key).arg(field).arg(1);
    client.request(command, Repeat::Once).await.map(drop)
}
