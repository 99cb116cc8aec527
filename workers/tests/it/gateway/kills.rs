//! `kill -9` of the real gateway while deliveries come.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use oxbull::{Client, ClientConfig, JobState, Queue, Worker};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually, free_port};
use oxbull_workers::gateway::job_id;
use oxbull_workers::jobs::webhook_processing::{
    CONCURRENCY, Ledger, Notice, QUEUE, events_key, handle,
};
use serde_json::{Value, json};

use super::program::program;
use crate::http::Http;

const SENDERS: usize = 4;
const EACH: usize = 150;
const KILLS: usize = 4;

/// What has been acknowledged: the bodies.
type Acknowledged = Arc<Mutex<Vec<Vec<u8>>>>;

/// One delivery of three accounts, of the sender's own conversation in each.
fn body(sender: usize, number: usize, now: i64) -> Vec<u8> {
    let entry: Vec<_> = (0..3)
        .map(|account| {
            json!({ "id": account.to_string(), "time": now, "messaging": [{
                "sender": {"id": format!("peer-{sender}")}, "timestamp": now,
                "message": {"mid": format!("{sender}-{number:04}")} }] })
        })
        .collect();
    let delivery = json!({ "object": "instagram", "entry": entry });
    delivery.to_string().into_bytes()
}

/// Sends one delivery after the other, each until it is acknowledged, as Meta does.
async fn send(
    sender: usize,
    address: SocketAddr,
    now: i64,
    acknowledged: Acknowledged,
) -> Result<(), String> {
    let open = async || {
        let opened = eventually(DEADLINE, async || Http::open(address).await).await;
        opened.map_err(|error| error.to_string())
    };
    let mut http = open().await?;
    for number in 0..EACH {
        let body = body(sender, number, now);
        loop {
            match http.deliver(&body).await {
                Ok(answer) if answer.status == 200 => break,
                Ok(answer) => return Err(format!("status {}", answer.status)),
                Err(_) => http = open().await?,
            }
        }
        acknowledged.lock().unwrap().push(body);
    }
    Ok(())
}

/// However often the gateway is killed: what was acknowledged has its job at once, each event is handled once and in
/// its conversation's order, and no conversation is left with a place that nobody takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_gateway_loses_nothing_that_it_acknowledged() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue<Value> = Queue::open(&client, QUEUE).await?;
    let port = free_port()?.to_string();
    let mut command = program(&server.url());
    command
        .env("PORT", &port)
        .env("RUST_LOG", "off")
        .stderr(Stdio::null());
    let mut gateway = command.spawn()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let now = client.clock().now().as_millis();
    let acknowledged = Acknowledged::default();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| tokio::spawn(send(sender, address, now, Arc::clone(&acknowledged))))
        .collect();
    let all = SENDERS * EACH;
    for kill in 1..=KILLS {
        eventually(DEADLINE, async || {
            let count = acknowledged.lock().unwrap().len();
            let enough = count >= kill * all / (KILLS + 1);
            enough.then_some(()).ok_or_else(|| count.to_string())
        })
        .await?;
        gateway.kill().await?;
        let bodies = acknowledged.lock().unwrap().clone();
        assert!(bodies.len() < all, "it was killed too late");
        for body in bodies {
            assert!(queue.state(&job_id(&body)?).await?.is_some());
        }
        gateway = command.spawn()?;
    }
    for sender in senders {
        sender.await??;
    }
    gateway.kill().await?;
    assert_eq!(queue.counts().await?.of(JobState::Waiting), all as u64);

    let worker = Worker::builder(&client, QUEUE)
        .concurrency(CONCURRENCY)
        .state(Ledger::open(&client, "bull").await?)
        .start(handle)
        .await?;
    eventually(DEADLINE, async || {
        let counts = queue.counts().await.map_err(|error| error.to_string())?;
        let done = counts.of(JobState::Completed);
        (done == all as u64)
            .then_some(())
            .ok_or_else(|| format!("{counts:?}"))
    })
    .await?;
    for account in ["0", "1", "2"] {
        let key = events_key(account);
        let entries = server.cli(&["XRANGE", &key, "-", "+"]).await?;
        let mut ids = Vec::new();
        for (_, fields) in entries.entries() {
            let Notice { event } = serde_json::from_str(&fields["event"])?;
            ids.push(event.event_id);
        }
        assert_eq!(ids.len(), all);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), all);
        for sender in 0..SENDERS {
            let prefix = format!("{sender}-");
            let own: Vec<_> = ids.iter().filter(|id| id.starts_with(&prefix)).collect();
            assert!(own.is_sorted(), "{own:?}");
        }
    }
    let places = server.cli(&["KEYS", "webhook:*:turns:*"]).await?.texts();
    assert!(places.is_empty(), "{places:?}");
    worker.close().await;
    client.close().await;
    Ok(())
}
