//! The real programs under many deliveries: senders that repeat themselves, workers that die.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use oxbull::{Client, ClientConfig, JobState, ManualWorker, Queue};
use oxbull_testkit::{RedisServer, TestResult, eventually, free_port};
use oxbull_workers::jobs::webhook_processing::{Notice, QUEUE, events_key, unknown_key};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::http::{Http, SECRET, TOKEN};

/// A bound on liveness.
const DEADLINE: Duration = Duration::from_secs(240);

const ACCOUNTS: usize = 10;
const PEERS: usize = 10;
const SENDERS: usize = 16;
/// Different deliveries, and repeats of them: 10,000 in all.
const DELIVERIES: usize = 7_000;
const REPEATS: usize = 3_000;

fn program(path: &str, redis: &str) -> Command {
    let mut command = Command::new(path);
    command
        .env_clear()
        .env("RUST_LOG", "warn")
        .env("REDIS_URL", redis)
        .env("META_APP_SECRET", SECRET)
        .env("META_VERIFY_TOKEN", TOKEN)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

fn worker(redis: &str) -> TestResult<Child> {
    Ok(program(env!("CARGO_BIN_EXE_webhook-processing"), redis).spawn()?)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap()
}

/// The `n`-th delivery: every kind of event in turn, most of them messages, which are numbered
/// within their conversation by the time of acceptance.
fn delivery(n: usize, now: i64) -> Value {
    let conversation = n % (ACCOUNTS * PEERS);
    let account = (conversation % ACCOUNTS).to_string();
    let peer = format!("peer-{}", conversation / ACCOUNTS);
    let turn = n / (ACCOUNTS * PEERS);
    let id = format!("{n:05}");
    let mut item =
        json!({ "sender": {"id": peer}, "recipient": {"id": account}, "timestamp": turn });
    let (kind, value) = match turn % 10 {
        6 => ("postback", json!({ "mid": id, "payload": "BUY" })),
        7 => ("read", json!({ "mid": id })),
        8 => ("reaction", json!({ "mid": id, "action": "react" })),
        9 => ("referral", json!({ "ref": id })),
        _ => ("message", json!({ "mid": id, "text": "hello" })),
    };
    item[kind] = value;
    let mut entry = json!({ "id": account, "time": now, "messaging": [item] });
    if n.is_multiple_of(50) {
        entry["changes"] = json!([
            { "field": "comments", "value": {"id": id} },
            { "field": "mentions", "value": {"media_id": id} },
        ]);
    }
    json!({ "object": "instagram", "entry": [entry] })
}

/// Sends its conversations' deliveries in order, and some of them again: now or later, as they
/// were or with their events in another delivery. Returns how many it sent.
async fn send(sender: usize, address: SocketAddr, now: i64) -> TestResult<usize> {
    let mut http = Http::open(address).await?;
    let mut sent = Vec::new();
    let mut count = 0;
    for n in (0..DELIVERIES).filter(|n| n % (ACCOUNTS * PEERS) % SENDERS == sender) {
        let delivery = delivery(n, now);
        let mut bodies = vec![delivery.to_string()];
        sent.push(delivery);
        // Three of ten deliveries are repeats.
        if n % DELIVERIES * REPEATS / DELIVERIES != (n + 1) * REPEATS / DELIVERIES {
            let mut again = sent[sent.len() * 7 / 11].clone();
            if n.is_multiple_of(3) {
                again["entry"][0]["regrouped"] = json!(true);
            }
            bodies.push(again.to_string());
        }
        for body in bodies {
            // Without an answer it is sent again, as the API does.
            let status = loop {
                let answer = http.deliver(body.as_bytes()).await.ok();
                match answer {
                    Some(answer) => break answer.status,
                    None => http = reopen(address).await?,
                }
            };
            if status != 200 {
                return Err(format!("delivery {n} got {status}").into());
            }
            count += 1;
        }
    }
    Ok(count)
}

async fn reopen(address: SocketAddr) -> TestResult<Http> {
    Ok(eventually(DEADLINE, async || Http::open(address).await).await?)
}

/// Ten thousand deliveries, of which three thousand are repeats, while the gateway and a worker
/// are killed and another worker is told to stop: each event is handled once, in the order of its conversation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_deliveries_are_handled_once_and_in_order() -> TestResult {
    let server = RedisServer::start().await?;
    let redis = server.url();
    let port = free_port()?;
    let mut gateway = program(env!("CARGO_BIN_EXE_gateway"), &redis);
    gateway.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    let mut first_gateway = gateway.spawn()?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut doomed = worker(&redis)?;
    let mut other = worker(&redis)?;
    let client = Client::connect(ClientConfig::from_url(&redis)?).await?;
    let queue: Queue<Value> = Queue::open(&client, QUEUE).await?;
    reopen(address).await?;

    let now = client.clock().now().as_millis();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            tokio::spawn(async move {
                send(sender, address, now)
                    .await
                    .map_err(|error| error.to_string())
            })
        })
        .collect();
    // In the middle of it the gateway and one worker are killed with what they hold.
    eventually(DEADLINE, async || {
        let counts = queue.counts().await.map_err(|error| error.to_string())?;
        let done = counts.of(JobState::Completed);
        (done > 1_000 && counts.of(JobState::Active) > 0)
            .then_some(())
            .ok_or(format!("{done} done"))
    })
    .await?;
    doomed.kill().await?;
    first_gateway.kill().await?;
    let _gateway = gateway.spawn()?;
    let mut sent = 0;
    for sender in senders {
        sent += sender.await??;
    }
    assert_eq!(sent, DELIVERIES + REPEATS);

    // The other one finishes what it has, so that all locks left are the dead worker's.
    kill_process(pid(&other), Signal::TERM)?;
    assert!(other.wait().await?.success());
    let stuck = server.cli(&["LRANGE", "bull:webhook-processing:active", "0", "-1"]);
    for id in stuck.await?.texts() {
        let lock = format!("bull:webhook-processing:{id}:lock");
        server.cli(&["DEL", &lock]).await?;
    }
    let manual = ManualWorker::new(&client, QUEUE)?;
    for _ in 0..2 {
        server
            .cli(&["DEL", "bull:webhook-processing:stalled-check"])
            .await?;
        manual.check_stalled(Duration::from_millis(1), 1).await?;
    }
    let _last = [worker(&redis)?, worker(&redis)?];
    eventually(DEADLINE, async || {
        let counts = queue.counts().await.map_err(|error| error.to_string())?;
        let left = [JobState::Waiting, JobState::Active, JobState::Delayed];
        let left: u64 = left.into_iter().map(|state| counts.of(state)).sum();
        (left == 0).then_some(()).ok_or(format!("{left} left"))
    })
    .await?;

    let counts = queue.counts().await?;
    assert_eq!(counts.of(JobState::Failed), 0);
    let mut times: HashMap<(String, String), usize> = HashMap::new();
    for account in 0..ACCOUNTS {
        let account = account.to_string();
        for key in [events_key(&account), unknown_key(&account)] {
            let mut order: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            for (_, fields) in server.cli(&["XRANGE", &key, "-", "+"]).await?.entries() {
                let Notice { event } = serde_json::from_str(&fields["event"])?;
                let identity = (event.kind.name().to_owned(), event.event_id);
                *times.entry(identity).or_default() += 1;
                if let Some(conversation) = event.conversation {
                    let turns = order.entry(conversation).or_default();
                    turns.push(event.occurred_at.unwrap());
                }
            }
            assert_eq!(order.len(), PEERS);
            for (conversation, turns) in order {
                assert!(turns.is_sorted(), "{key} {conversation}: {turns:?}");
            }
        }
    }
    let expected = DELIVERIES + 2 * DELIVERIES.div_ceil(50);
    assert_eq!(times.len(), expected);
    let more: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(more.is_empty(), "{more:?}");
    client.close().await;
    Ok(())
}
