//! Jobs that BullMQ stores although something in them is odd: each runs, once, and ends.
//!
//! Node.js adds them: only JavaScript cuts text inside a surrogate pair.

use std::sync::{Arc, Mutex, PoisonError};

use oxbull::{
    Context, Job, JobError, JobId, JobRecord, JobResult, JobState, Outcome, Worker, WorkerBuilder,
};
use oxbull_fixture::Fixture;
use oxbull_testkit::{BullMq, NodePeer, TestResult};
use serde_json::{Value, json};

mod fields;
mod surrogates;

/// How half a surrogate pair is written in JSON, and what Redis holds of it in plain text.
const HALF: &str = r"\ud83d";

const BYTES: &[u8] = b"\xed\xa0\xbd";

/// The records of the attempts whose handler began, in order.
type Heard = Arc<Mutex<Vec<JobRecord>>>;

struct Setup {
    fixture: Fixture,
    peer: NodePeer,
    heard: Heard,
}

fn key(parts: &[&[u8]]) -> Vec<u8> {
    [b"bull:q:".as_slice(), &parts.concat()].concat()
}

fn cut(text: &str) -> JobId {
    JobId::from_bytes([text.as_bytes(), BYTES].concat())
}

/// Does what the job's data says: `"fail"` fails, a parent looks at its children first.
async fn listen(job: Job<Value>, context: Context<Heard>) -> JobResult<String> {
    context
        .state()
        .lock()
        .map_err(|_| JobError::fatal("poisoned"))?
        .push(job.record().clone());
    match job.data()["do"].as_str().unwrap_or_default() {
        "fail" => Err(JobError::retry("it failed")),
        "progress" => {
            job.update_progress(&json!({ "half": true })).await?;
            job.log("a row").await?;
            job.update_data(&json!({ "do": "done" })).await?;
            Ok(Outcome::Done("kept".to_owned()))
        }
        "children" if job.attempts_started() == 1 => Ok(Outcome::WaitForChildren),
        other => Ok(Outcome::Done(other.to_owned())),
    }
}

impl Setup {
    async fn start() -> TestResult<Self> {
        let fixture = Fixture::start().await?;
        let peer = NodePeer::bullmq(BullMq::V6, fixture.server.port()).await?;
        peer.call("queue.open", json!({ "queue": "q" })).await?;
        let heard = Heard::default();
        Ok(Self {
            fixture,
            peer,
            heard,
        })
    }

    fn worker<D>(&self) -> WorkerBuilder<Heard, D> {
        Worker::builder(&self.fixture.client, "q").state(Arc::clone(&self.heard))
    }

    /// Calls Node.js with parameters in JSON that need not be text for us.
    async fn node(&self, method: &str, params: &str) -> TestResult {
        let params = json!({ "method": method, "params": params });
        self.peer.call("text.call", params).await?;
        Ok(())
    }

    /// Adds a job by Node.js.
    async fn add(&self, params: &str) -> TestResult {
        let params = format!(r#"{{"queue":"q",{params}}}"#);
        self.node("queue.add", &params).await
    }

    /// Runs everything that is there, until `ended` jobs have ended.
    async fn run(&self, ended: u64) -> TestResult {
        let worker = self.worker().start(listen).await?;
        self.fixture.ended(ended).await?;
        worker.close().await;
        Ok(())
    }

    fn heard(&self) -> Vec<JobRecord> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn set(&self, id: &JobId, field: &str, value: &[u8]) -> TestResult {
        let key = key(&[id.as_bytes()]);
        let args: [&[u8]; 4] = [b"HSET", &key, field.as_bytes(), value];
        self.fixture.server.cli(&args).await?;
        Ok(())
    }

    async fn state(&self, id: &JobId) -> TestResult<Option<JobState>> {
        Ok(self.fixture.queue.state(id).await?)
    }
}
