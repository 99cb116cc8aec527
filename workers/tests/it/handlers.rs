//! Each queue's jobs by a real worker, on a private Redis and a simulated API; posts and deliveries
//! have modules of their own.

use oxbull::{JobState, Queue, Worker};
use oxbull_workers::jobs::analytics_refresh::{
    self, AnalyticsRefresh, Overview, Refresher, overview_key,
};
use oxbull_workers::simulator::{Fault, Operation, Simulator, SimulatorOptions};
use serde_json::json;

use crate::support::{ACCOUNT, Bench, LATER, TestResult, data, graph, reaches, tokens};

fn account() -> AnalyticsRefresh {
    data(json!({ "accountId": ACCOUNT }))
}

/// One account's limit puts its job off without an attempt, and its numbers reach the cache when
/// the limit is over.
#[tokio::test]
async fn limited_account_is_refreshed_later_in_the_same_attempt() -> TestResult {
    let bench = Bench::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    simulator.arm(Fault::rate_limit(LATER).on(Operation::Insights).times(1));
    let queue = Queue::open(&bench.client, analytics_refresh::QUEUE).await?;
    let refresher = Refresher {
        graph: graph(simulator.url()),
        tokens: tokens(),
        client: bench.client.clone(),
    };
    let worker = Worker::builder(&bench.client, analytics_refresh::QUEUE)
        .state(refresher)
        .start(analytics_refresh::handle)
        .await?;
    let id = queue.add("refresh", &account()).await?.id;
    let job = reaches(&queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 0);

    queue.promote(&id).await?;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 1);
    let key = overview_key(&account().account_id);
    let cached: Option<Overview> = bench.client.cache().get(&key).await?;
    assert_eq!(cached, job.return_value()?);
    assert!(cached.is_some());
    bench.end(worker).await;
    Ok(())
}
