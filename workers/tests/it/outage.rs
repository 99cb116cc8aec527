//! A Redis that is full for a minute, with jobs of all three queues waiting.

use std::time::Duration;

use oxbull::{JobOptions, JobState, Queue};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{DEADLINE, TestResult, eventually, free_port};
use oxbull_workers::jobs::{analytics_refresh, post_publishing, webhook_processing};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::health::{answers, program};
use crate::support::{RedisFixture, Subscriber};

/// How long nothing can be written.
const FULL: Duration = Duration::from_secs(60);

/// Jobs of each queue.
const JOBS: usize = 40;

/// A program with short waits, and the port of its health.
fn start(path: &str, redis: &str, graph: &str) -> TestResult<(Child, u16)> {
    let port = free_port()?;
    let mut command: Command = program(path, redis);
    command
        .env("RUST_LOG", "error")
        .env("GRAPH_API_URL", graph)
        .env("HEALTH_PORT", port.to_string())
        .env("CONTAINER_POLL_MS", "20")
        .env("CONTAINER_POLL_MAX_MS", "40")
        .env("PUBLISH_SETTLE_MS", "100");
    Ok((command.spawn()?, port))
}

/// What is added to the queues: one attempt each, so that a single one that is used up fails its job.
fn jobs(now: i64) -> [(&'static str, Vec<Value>); 3] {
    let each = |make: &dyn Fn(usize) -> Value| (0..JOBS).map(make).collect::<Vec<_>>();
    [
        (
            post_publishing::QUEUE,
            each(&|n| {
                json!({ "postId": format!("p{n}"), "userId": format!("u{n}"),
                    "accountId": format!("{n}"), "imageUrl": "https://cdn.example/a.jpg" })
            }),
        ),
        (
            webhook_processing::QUEUE,
            each(&|n| {
                let message = json!({ "mid": format!("m{n}"), "text": "hi" });
                json!({ "object": "instagram", "entry": [{ "id": "1", "time": now, "messaging": [
                    { "sender": { "id": format!("{n}") }, "recipient": { "id": "1" },
                      "timestamp": now, "message": message }] }] })
            }),
        ),
        (
            analytics_refresh::QUEUE,
            each(&|n| json!({ "accountId": format!("{n}") })),
        ),
    ]
}

/// A full Redis is not the jobs' fault: for as long as it is full, none fails, programs say that they
/// are not ready, and no user hears of anything twice; once there is room, all complete by themselves,
/// each in its only attempt. Some are in their handlers when it begins.
#[tokio::test]
async fn full_redis_fails_no_job() -> TestResult {
    let redis = RedisFixture::start().await?;
    let subscriber = Subscriber::open(&redis.server).await?;
    let simulator = Simulator::start(SimulatorOptions::new().polls(3)).await?;
    let url = redis.server.url();
    let programs = [
        env!("CARGO_BIN_EXE_post-publishing"),
        env!("CARGO_BIN_EXE_webhook-processing"),
        env!("CARGO_BIN_EXE_analytics-refresh"),
    ]
    .map(|path| start(path, &url, simulator.url()));
    let mut queues = Vec::new();
    let now = redis.client.clock().now().as_millis();
    for (name, all) in jobs(now) {
        let queue: Queue<Value> = Queue::open(&redis.client, name).await?;
        for data in all {
            queue
                .add_with("job", &data, JobOptions::new().attempts(1))
                .await?;
        }
        queues.push(queue);
    }
    let mut running = Vec::new();
    for started in programs {
        running.push(started?);
    }
    // In the middle of the work.
    eventually(DEADLINE, async || {
        let counts = queues[0]
            .counts()
            .await
            .map_err(|error| error.to_string())?;
        (counts.of(JobState::Waiting) < JOBS as u64)
            .then_some(())
            .ok_or("nothing begun".to_owned())
    })
    .await?;
    redis
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "1"])
        .await?;
    let full = tokio::time::Instant::now();
    for (_, port) in &running {
        answers(*port, "/ready", 503).await?;
        answers(*port, "/health", 503).await?;
        answers(*port, "/live", 200).await?;
    }
    while full.elapsed() < FULL {
        for queue in &queues {
            let counts = queue.counts().await?;
            assert_eq!(counts.of(JobState::Failed), 0, "{queue:?}: {counts:?}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for (_, port) in &running {
        answers(*port, "/ready", 503).await?;
    }
    redis
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    for queue in &queues {
        eventually(DEADLINE, async || {
            let counts = queue.counts().await.map_err(|error| error.to_string())?;
            if counts.of(JobState::Completed) == JOBS as u64 {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        })
        .await?;
    }
    for (_, port) in &running {
        answers(*port, "/ready", 200).await?;
    }
    for n in 0..JOBS {
        let told = subscriber.wait_for(&format!("u{n}"), 1).await?;
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0]["type"], "post.published");
    }
    // Each event of a delivery is published exactly once, also those refused in between.
    assert_eq!(subscriber.wait_for("account:1", JOBS).await?.len(), JOBS);
    assert_eq!(simulator.published().len(), JOBS);
    redis.client.close().await;
    Ok(())
}
