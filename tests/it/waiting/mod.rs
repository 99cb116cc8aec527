//! Waiting for the ends of jobs: every end is delivered once, whatever it races with.

use oxbull::{JobId, JobOutcome, Queue};
use oxbull_testkit::DEADLINE;
use serde_json::Value;
use tokio::task::JoinHandle;

mod ends;
mod failures;

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
