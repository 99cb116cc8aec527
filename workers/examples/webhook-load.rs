//! Sends signed deliveries to a gateway at a fixed rate and says how long the answers took.
//!
//! ```text
//! META_APP_SECRET=… cargo run --release --example webhook-load -- --url http://127.0.0.1:4000
//! ```
//!
//! Deliveries leave at their time whether earlier ones are answered or not, so an answer's time
//! has all that its sender waits for.

use std::error::Error;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use oxbull_workers::gateway::sign;
use serde_json::json;
use tokio::time::{Instant, interval};
use tokio_util::task::TaskTracker;

/// Measures a gateway's answers
#[derive(Debug, Parser)]
struct Arguments {
    /// The gateway
    #[arg(long, default_value = "http://127.0.0.1:4000")]
    url: String,
    /// Deliveries a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let secret = std::env::var("META_APP_SECRET").map_err(|_| "META_APP_SECRET is not set")?;
    let secret = Arc::new(secret);
    // The library asks for a provider although nothing here is encrypted.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "another TLS provider is installed")?;
    let http = reqwest::Client::new();
    let url = format!("{}/instagram/webhooks", arguments.url);
    let times = Arc::new(Mutex::new(Vec::new()));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let tasks = TaskTracker::new();
    let mut tick = interval(Duration::from_secs(1) / arguments.rate);
    let run = uuid::Uuid::new_v4();
    for n in 0..arguments.rate * arguments.seconds {
        tick.tick().await;
        let due = Instant::now();
        let (http, url, secret) = (http.clone(), url.clone(), Arc::clone(&secret));
        let (times, failed) = (Arc::clone(&times), Arc::clone(&failed));
        tasks.spawn(async move {
            let body = delivery(&run, n);
            let signature = sign(&secret, body.as_bytes());
            let request = http.post(url).header("x-hub-signature-256", signature);
            let outcome = match request.body(body).send().await {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(answer.status().to_string()),
                Err(error) => Some(error.to_string()),
            };
            let took = due.elapsed();
            match outcome {
                None => lock(&times).push(took),
                Some(problem) => lock(&failed).push(problem),
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    let mut times = std::mem::take(&mut *lock(&times));
    times.sort_unstable();
    let failed = lock(&failed);
    let mut out = std::io::stdout();
    writeln!(out, "{} answered, {} failed", times.len(), failed.len())?;
    for percent in [50, 90, 99, 100] {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        let took = times.get(rank - 1).copied().unwrap_or_default();
        writeln!(out, "p{percent:<3} {:7.2} ms", took.as_secs_f64() * 1e3)?;
    }
    match failed.first() {
        None => Ok(()),
        Some(problem) => Err(problem.clone().into()),
    }
}

fn delivery(run: &uuid::Uuid, n: u32) -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or_default();
    let (account, peer) = (n % 50, n % 1_000);
    json!({ "object": "instagram", "entry": [{
        "id": account.to_string(), "time": now, "messaging": [{
            "sender": { "id": peer.to_string() }, "recipient": { "id": account.to_string() },
            "timestamp": now,
            "message": { "mid": format!("{run}-{n}"), "text": "Which sizes do you have?" },
        }],
    }]})
    .to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
