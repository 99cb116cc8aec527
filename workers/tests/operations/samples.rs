//! A job of each of the application's queues.

use oxbull::{Client, NewJob, Queue};
use oxbull_testkit::TestResult;
use oxbull_workers::jobs::{analytics_refresh, post_publishing, webhook_processing};
use serde_json::Value;

use crate::fixture::read;

/// How many jobs [`add`] adds.
pub(crate) const COUNTS: [(&str, i64); 3] = [
    (post_publishing::QUEUE, 6),
    (webhook_processing::QUEUE, 6),
    (analytics_refresh::QUEUE, 3),
];

/// The data of the first samples of a queue.
pub(crate) fn of(queue: &str) -> TestResult<Vec<Value>> {
    let (file, count) = match queue {
        post_publishing::QUEUE => ("posts.json", 6),
        webhook_processing::QUEUE => ("webhook-deliveries.json", 6),
        _ => ("accounts.json", 3),
    };
    let samples: Vec<Value> = serde_json::from_str(&read(&format!("workers/samples/{file}"))?)?;
    let data = |sample: Value| sample.get("data").cloned().unwrap_or(sample);
    Ok(samples.into_iter().map(data).take(count).collect())
}

/// Adds them with the options of their queues.
pub(crate) async fn add(client: &Client) -> TestResult {
    for (queue, options) in [
        (post_publishing::QUEUE, post_publishing::options()),
        (webhook_processing::QUEUE, webhook_processing::options()),
        (analytics_refresh::QUEUE, analytics_refresh::options()),
    ] {
        let open: Queue<Value> = Queue::builder(client, queue)
            .default_options(options)
            .open()
            .await?;
        for added in open
            .add_bulk(of(queue)?.into_iter().map(|data| NewJob::new("job", data)))
            .await?
        {
            added?;
        }
    }
    Ok(())
}
