//! Each queue's jobs by a real worker, on a private Redis and a simulated API; posts have modules
//! of their own.

use oxbull::{JobState, Queue, Worker};
use oxbull_workers::jobs::analytics_refresh::{
    self, AnalyticsRefresh, Overview, Refresher, overview_key,
};
use oxbull_workers::jobs::webhook_processing::{
    self, ProcessedDelivery, RedisClaims, WebhookDelivery,
};
use oxbull_workers::simulator::{Fault, Operation, Simulator, SimulatorOptions};
use serde_json::json;

use crate::support::{ACCOUNT, Bench, LATER, TestResult, data, graph, reaches, tokens};

fn account() -> AnalyticsRefresh {
    data(json!({ "accountId": ACCOUNT }))
}

/// The API delivers at least once; each event is passed on by one job only.
#[tokio::test]
async fn repeated_delivery_is_handled_once() -> TestResult {
    let bench = Bench::start().await?;
    let queue = Queue::open(&bench.client, webhook_processing::QUEUE).await?;
    let worker = Worker::builder(&bench.client, webhook_processing::QUEUE)
        .concurrency(webhook_processing::CONCURRENCY)
        .state(RedisClaims::new(bench.client.clone()))
        .start(webhook_processing::handle)
        .await?;
    let delivery: WebhookDelivery = data(json!({
        "object": "instagram",
        "entry": [{
            "id": ACCOUNT,
            "time": 1_700_000_000,
            "messaging": [
                { "sender": { "id": "5" }, "message": { "mid": "a", "text": "hello" } },
                { "sender": { "id": "5" }, "message": { "mid": "b", "text": "again" } },
            ],
        }],
    }));
    let mut events = 0;
    let mut repeated = 0;
    let mut added = Vec::new();
    for _ in 0..3 {
        added.push(queue.add("delivery", &delivery).await?.id);
    }
    for id in added {
        let job = reaches(&queue, &id, JobState::Completed).await?;
        let result: ProcessedDelivery = job.return_value()?.unwrap();
        events += result.events.len();
        repeated += result.repeated;
    }
    assert_eq!((events, repeated), (2, 4));
    bench.end(worker).await;
    Ok(())
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
