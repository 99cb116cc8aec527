//! Follows what happens in a queue, whichever process makes it happen, and resumes where it stopped.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example events
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use oxbull::{Client, Job, Queue, QueueEvent};

async fn double(job: Job<u32>) -> Result<u32, &'static str> {
    job.data().checked_mul(2).ok_or("too large")
}

#[tokio::main]
async fn main() -> oxbull::Result<()> {
    let client = Client::from_env().await?;
    let numbers: Queue<u32> = Queue::open(&client, "example-events").await?;
    // From now on; `from_beginning` starts with the oldest event that is still there.
    let mut events = numbers.events().open().await?;

    let worker = numbers.worker().start(double).await?;
    numbers.add("double", &21).await?;
    numbers.add("double", &u32::MAX).await?;

    let mut ended = 0;
    while let Some(entry) = events.next().await {
        match entry?.event {
            QueueEvent::Added { job, name, .. } => println!("{name} {job} was added"),
            QueueEvent::Active { job, .. } => println!("{job} was started"),
            QueueEvent::Completed {
                job, return_value, ..
            } => {
                println!("{job} completed: {}", return_value.decode::<u32>()?);
                ended += 1;
            }
            QueueEvent::Failed { job, reason, .. } => {
                println!("{job} failed: {reason}");
                ended += 1;
            }
            // Entries that were trimmed before we could read them: look at the jobs' states.
            QueueEvent::Gap { missed, .. } => println!("missed {missed:?} events"),
            _ => {}
        }
        if ended == 2 {
            break;
        }
    }
    // Stored somewhere, this id lets another process go on without a gap.
    let place = events.last_id();
    events.close();

    numbers.add("double", &4).await?;
    let mut later = numbers.events().after(place).open().await?;
    while let Some(entry) = later.next().await {
        if let QueueEvent::Completed { job, .. } = entry?.event {
            println!("{job} completed meanwhile");
            break;
        }
    }
    worker.close().await;
    client.close().await;
    Ok(())
}
