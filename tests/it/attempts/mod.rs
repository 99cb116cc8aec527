//! What becomes of an attempt: refused ends, jobs that were never run, backoff strategies.

use oxbull::{JobId, JobOptions, Parent, Queue};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;
use serde_json::json;

mod handlers;
mod manual;
mod refused;
mod storing;

/// Adds a job of `queue` and a child of it in another queue, which has no worker.
async fn parent_with_child(fixture: &Fixture, options: JobOptions) -> TestResult<(JobId, Queue)> {
    let id = fixture.add("ok", options).await?;
    let children: Queue = Queue::open(&fixture.client, "children").await?;
    let parent = Parent::new(fixture.queue.qualified_name(), id.clone());
    children
        .add_with("child", &json!({}), JobOptions::new().parent(parent))
        .await?;
    Ok((id, children))
}
