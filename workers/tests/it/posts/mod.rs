//! Posts as jobs of a real worker: attempts, waits, limits, and the notices to users.

mod doubt;
mod limited;
mod published;
mod refused;
mod unhandled;

use std::time::Duration;

use oxbull::{Backoff, JobId, JobOptions, Queue, Worker};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::TestResult;
use oxbull_workers::graph::{AccessTokens, AccountId, Cooldowns, LimitScope};
use oxbull_workers::jobs::post_publishing::{PublishLimits, Publisher, QUEUE, handle};
use serde_json::{Value, json};

use crate::support::{ACCOUNT, LATER, RedisFixture, Subscriber, graph, tokens};

const USER: &str = "user-1";

/// A worker of posts, its API, and a subscriber to notices.
struct PostFixture {
    redis: RedisFixture,
    simulator: Simulator,
    subscriber: Subscriber,
    queue: Queue<Value>,
}

impl PostFixture {
    async fn start(options: SimulatorOptions) -> TestResult<Self> {
        let redis = RedisFixture::start().await?;
        let simulator = Simulator::start(options).await?;
        let subscriber = Subscriber::open(&redis.server).await?;
        let queue = Queue::open(&redis.client, QUEUE).await?;
        Ok(Self {
            redis,
            simulator,
            subscriber,
            queue,
        })
    }

    async fn work(&self, limits: PublishLimits) -> TestResult<Worker> {
        self.work_with(limits, tokens(), self.simulator.url()).await
    }

    async fn work_with(
        &self,
        limits: PublishLimits,
        tokens: AccessTokens,
        url: &str,
    ) -> TestResult<Worker> {
        let publisher = Publisher {
            graph: graph(url),
            tokens,
            limits,
        };
        let worker = Worker::builder(&self.redis.client, QUEUE)
            .state(publisher)
            .start(handle)
            .await?;
        Ok(worker)
    }

    async fn add(&self, post: &Value) -> TestResult<JobId> {
        self.add_with(post, quick()).await
    }

    async fn add_with(&self, post: &Value, options: JobOptions) -> TestResult<JobId> {
        Ok(self.queue.add_with("publish", post, options).await?.id)
    }

    /// Ends a cooldown of the account, as time does; returns whether there was one.
    async fn end_hold(&self, scope: LimitScope) -> TestResult<bool> {
        let cooldowns = Cooldowns::new(self.redis.client.clone());
        Ok(cooldowns.end(scope, &AccountId::new(ACCOUNT)?).await?)
    }

    async fn end(self, worker: Worker) {
        self.redis.end(worker).await;
    }
}

/// Three attempts at once.
fn quick() -> JobOptions {
    JobOptions::new()
        .attempts(3)
        .backoff(Backoff::fixed(Duration::from_millis(1)))
}

fn short() -> PublishLimits {
    PublishLimits {
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        settle: Duration::from_millis(1),
        hidden: Duration::from_millis(1),
        doubt: Duration::from_millis(20),
        ..PublishLimits::default()
    }
}

/// Every wait lasts until its job is promoted.
fn long() -> PublishLimits {
    PublishLimits {
        first_wait: LATER,
        longest_wait: 4 * LATER,
        ..PublishLimits::default()
    }
}

fn post(image_url: &str) -> Value {
    json!({
        "postId": "post-1",
        "userId": USER,
        "accountId": ACCOUNT,
        "imageUrl": image_url,
        "caption": "New shoes",
        "campaign": { "id": 7 },
    })
}

fn shoes() -> Value {
    post("https://cdn.example/shoes.jpg")
}
