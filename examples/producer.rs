//! Adds jobs in each way there is, and shows what became of each add. No worker is needed.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example producer
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use oxbull::{Backoff, Client, Deduplication, JobOptions, NewJob, Queue, Retention};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

impl Mail {
    fn to(address: &str) -> Self {
        Self {
            to: address.to_owned(),
        }
    }
}

#[tokio::main]
async fn main() -> oxbull::Result<()> {
    let client = Client::from_env().await?;
    // What most jobs of this queue want; each add may override it.
    let defaults = JobOptions::new()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_secs(1)).jitter(0.5))
        .remove_on_complete(Retention::KeepLast(1000));
    let mails: Queue<Mail> = Queue::builder(&client, "example-mails")
        .default_options(defaults)
        .open()
        .await?;

    let first = mails.add("welcome", &Mail::to("ada@example.org")).await?;
    println!("added job {}", first.id);

    let later = JobOptions::new().delay(Duration::from_secs(3600));
    let reminder = Mail::to("ada@example.org");
    let delayed = mails.add_with("reminder", &reminder, later).await?;
    println!("job {} waits for an hour", delayed.id);

    // Any number of adds within a minute make one job.
    let once = Deduplication::new("digest:ada").ttl(Duration::from_secs(60));
    let digest = JobOptions::new().deduplication(once);
    let mail = Mail::to("ada@example.org");
    mails.add_with("digest", &mail, digest.clone()).await?;
    let again = mails.add_with("digest", &mail, digest).await?;
    println!("the second digest: {:?}", again.outcome);

    // One call for many jobs; each has a result of its own.
    let addresses = [
        "grace@example.org",
        "alan@example.org",
        "edsger@example.org",
    ];
    let batch = addresses.map(|address| {
        let urgent = JobOptions::new().priority(1);
        NewJob::new("invoice", Mail::to(address)).options(urgent)
    });
    let added = mails.add_bulk(batch).await?.into_result()?;
    println!("added {} invoices", added.len());

    let counts = mails.counts().await?;
    println!(
        "{} waiting, {} with a priority, {} delayed",
        counts.waiting, counts.prioritized, counts.delayed
    );
    client.close().await;
    Ok(())
}
