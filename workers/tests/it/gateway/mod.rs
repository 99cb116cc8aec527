//! The gateway over real connections, on a private Redis.

mod availability;
mod batches;
mod flights;
mod intake;
mod kills;
mod overviews;
mod program;

use oxbull::{Client, ClientConfig, JobState, Queue};
use oxbull_testkit::{RedisServer, TestResult};
use oxbull_workers::gateway::{Gateway, GatewayOptions};
use oxbull_workers::jobs::webhook_processing::QUEUE;
use serde_json::{Value, json};

use crate::http::{Answer, Http, options};
use crate::support::ACCOUNT;

struct GatewayFixture {
    server: RedisServer,
    client: Client,
    queue: Queue<Value>,
    gateway: Gateway,
}

impl GatewayFixture {
    async fn start() -> TestResult<Self> {
        Self::with(options()).await
    }

    async fn with(options: GatewayOptions) -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        Ok(Self {
            gateway: Gateway::start(&client, options).await?,
            queue: Queue::open(&client, QUEUE).await?,
            server,
            client,
        })
    }

    async fn http(&self) -> TestResult<Http> {
        Http::to(&self.gateway).await
    }

    async fn deliver(&self, body: &[u8]) -> TestResult<Answer> {
        self.http().await?.deliver(body).await
    }

    async fn jobs(&self) -> TestResult<u64> {
        Ok(self.queue.counts().await?.of(JobState::Waiting))
    }

    async fn end(self) {
        self.gateway.stop().await;
        self.client.close().await;
    }
}

fn delivery(mid: &str, time: i64) -> Vec<u8> {
    json!({ "object": "instagram", "entry": [{ "id": ACCOUNT, "time": time, "messaging": [
        { "sender": {"id": "5"}, "message": {"mid": mid} }] }] })
    .to_string()
    .into_bytes()
}

impl GatewayFixture {
    fn fresh(&self, mid: &str) -> Vec<u8> {
        delivery(mid, self.client.clock().now().as_millis())
    }
}

fn signature(text: &str) -> Vec<String> {
    vec![format!("x-hub-signature-256: {text}")]
}
