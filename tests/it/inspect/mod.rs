//! Looking at queues. Most of what is listed and counted is compared with BullMQ in `tests/parity`; here is
//! what BullMQ does not have, or does otherwise.

mod exporting;
mod latencies;
mod listing;
mod searching;
mod spoiled;
mod walking;
mod workers;

use oxbull::JobId;
use oxbull::inspect::{JobStream, ListedJob};
use oxbull_testkit::TestResult;

use futures::TryStreamExt as _;

/// The ids of jobs, in order.
fn ids(jobs: &[ListedJob]) -> Vec<&str> {
    jobs.iter().map(|listed| listed.job.id.as_str()).collect()
}

/// Everything that a stream gives.
async fn all(stream: JobStream) -> TestResult<Vec<ListedJob>> {
    Ok(stream.try_collect().await?)
}

fn texts(ids: &[JobId]) -> Vec<&str> {
    ids.iter().map(JobId::as_str).collect()
}
