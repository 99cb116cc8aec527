//! Each queue's jobs by a real worker, on a private Redis and a simulated API.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use oxbull::{
    Backoff, Client, ClientConfig, JobId, JobOptions, JobRecord, JobState, Queue, Worker,
    WorkerEvent,
};
use oxbull_testkit::{RedisServer, eventually, free_port};
use oxbull_workers::graph::{AccessToken, AccessTokens, GraphClient, GraphOptions};
use oxbull_workers::jobs::analytics_refresh::{
    self, AnalyticsRefresh, Overview, Refresher, overview_key,
};
use oxbull_workers::jobs::post_publishing::{
    self, PostPublishing, PublishLimits, PublishedPost, Publisher,
};
use oxbull_workers::jobs::webhook_processing::{
    self, ProcessedDelivery, RedisClaims, WebhookDelivery,
};
use oxbull_workers::simulator::{Fault, Operation, Simulator, SimulatorOptions};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{ACCOUNT, TestResult};

/// A bound on liveness.
const DEADLINE: Duration = Duration::from_secs(30);

/// Longer than any test: what is put off for so long runs only when it is promoted.
const LATER: Duration = Duration::from_secs(3600);

struct Bench {
    server: RedisServer,
    client: Client,
}

impl Bench {
    async fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        Ok(Self { server, client })
    }

    async fn end(self, worker: Worker) {
        worker.close().await;
        self.client.close().await;
        drop(self.server);
    }
}

fn data<D: DeserializeOwned>(data: Value) -> D {
    serde_json::from_value(data).unwrap()
}

fn post(image_url: &str) -> PostPublishing {
    data(json!({
        "postId": "post-1",
        "userId": "user-1",
        "accountId": ACCOUNT,
        "imageUrl": image_url,
        "caption": "New shoes",
    }))
}

fn account() -> AnalyticsRefresh {
    data(json!({ "accountId": ACCOUNT }))
}

fn tokens() -> AccessTokens {
    AccessTokens::shared(AccessToken::new("s3cret-token"))
}

fn graph(url: &str) -> GraphClient {
    GraphClient::new(&GraphOptions::new(url)).unwrap()
}

fn publisher(url: &str, poll_interval: Duration) -> Publisher {
    Publisher {
        graph: graph(url),
        tokens: tokens(),
        poll_interval,
        limits: PublishLimits::default(),
    }
}

/// Waits until a job is in a state and reads it.
async fn reaches<D>(
    queue: &Queue<D>,
    id: &JobId,
    state: JobState,
) -> Result<JobRecord, Box<dyn std::error::Error>> {
    eventually(DEADLINE, async || {
        let found = queue.state(id).await.map_err(|error| error.to_string())?;
        if found == Some(state) {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await?;
    Ok(queue.job(id).await?.unwrap())
}

/// The plain way of a post: its job waits for the container as delayed, without an attempt.
#[tokio::test]
async fn post_is_published_in_one_attempt() -> TestResult {
    let bench = Bench::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new().polls(2)).await?;
    let queue = Queue::open(&bench.client, post_publishing::QUEUE).await?;
    let worker = Worker::builder(&bench.client, post_publishing::QUEUE)
        .state(publisher(simulator.url(), Duration::from_millis(1)))
        .start(post_publishing::handle)
        .await?;
    let shoes = post("https://cdn.example/shoes.jpg");
    let id = queue.add("publish", &shoes).await?.id;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = simulator.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        result.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    assert_eq!(job.attempts_made, 1);
    assert!(job.attempts_started > 1, "it stepped aside for its media");
    bench.end(worker).await;
    Ok(())
}

/// The answer to publishing is lost, and then an attempt fails: the next one finds the post
/// instead of publishing it again.
#[tokio::test]
async fn retry_does_not_publish_twice() -> TestResult {
    let bench = Bench::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new().polls(0)).await?;
    simulator.arm(Fault::lose_reply().on(Operation::Publish).times(1));
    let queue = Queue::open(&bench.client, post_publishing::QUEUE).await?;
    let worker = Worker::builder(&bench.client, post_publishing::QUEUE)
        .state(publisher(simulator.url(), LATER))
        .start(post_publishing::handle)
        .await?;
    let options = JobOptions::new()
        .attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(1)));
    let id = queue
        .add_with("publish", &post("https://cdn.example/shoes.jpg"), options)
        .await?
        .id;
    reaches(&queue, &id, JobState::Delayed).await?;
    assert_eq!(simulator.published().len(), 1);

    simulator.arm(Fault::error(500, 2).on(Operation::ContainerStatus).times(1));
    queue.promote(&id).await?;
    let job = reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(job.attempts_made, 2);
    let result: PublishedPost = job.return_value()?.unwrap();
    let published = simulator.published();
    assert_eq!(
        result.media_id.map(String::from),
        Some(published[0].media.clone())
    );
    let counters = simulator.counters();
    assert_eq!((counters.containers, counters.publications), (1, 1));
    assert_eq!(counters.repeated_publications, 0);
    bench.end(worker).await;
    Ok(())
}

/// What can never work must not use up attempts and the account's rate.
#[tokio::test]
async fn unusable_media_fails_without_a_retry() -> TestResult {
    let bench = Bench::start().await?;
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let queue = Queue::open(&bench.client, post_publishing::QUEUE).await?;
    let worker = Worker::builder(&bench.client, post_publishing::QUEUE)
        .state(publisher(simulator.url(), Duration::from_millis(1)))
        .start(post_publishing::handle)
        .await?;
    let gif = post("https://cdn.example/shoes.gif");
    let options = post_publishing::options();
    let id = queue.add_with("publish", &gif, options).await?.id;
    let job = reaches(&queue, &id, JobState::Failed).await?;
    assert_eq!(job.attempts_made, 1);
    assert!(job.failed_reason.is_some());
    assert!(simulator.published().is_empty());
    bench.end(worker).await;
    Ok(())
}

/// An API that cannot be reached costs attempts, not jobs: the next one works once it is back.
#[tokio::test]
async fn unreachable_api_ends_in_a_retry() -> TestResult {
    let bench = Bench::start().await?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let queue = Queue::open(&bench.client, post_publishing::QUEUE).await?;
    let url = format!("http://{address}/v23.0");
    let worker = Worker::builder(&bench.client, post_publishing::QUEUE)
        .state(publisher(&url, Duration::from_millis(1)))
        .start(post_publishing::handle)
        .await?;
    let mut events = worker.events();
    let options = JobOptions::new().attempts(2).backoff(Backoff::fixed(LATER));
    let shoes = post("https://cdn.example/shoes.jpg");
    let id = queue.add_with("publish", &shoes, options).await?.id;
    let retries = loop {
        match events.next().await {
            Some(WorkerEvent::Failed { retries, .. }) => break retries,
            Some(_) => {}
            None => panic!("the worker ended"),
        }
    };
    assert!(retries);
    let job = reaches(&queue, &id, JobState::Delayed).await?;
    assert_eq!(job.attempts_made, 1);

    let simulator = Simulator::start(SimulatorOptions::new().address(address)).await?;
    queue.promote(&id).await?;
    reaches(&queue, &id, JobState::Completed).await?;
    assert_eq!(simulator.published().len(), 1);
    bench.end(worker).await;
    Ok(())
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
