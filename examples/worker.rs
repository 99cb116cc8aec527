//! A worker whose handler shares state, behind a layer that measures every attempt.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example worker
//! ```
//!
//! It adds three jobs, processes them and ends. A worker of your own would call
//! `worker.run_until_signal()` instead.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use oxbull::tower::layer::layer_fn;
use oxbull::tower::{BoxError, Service};
use oxbull::{
    Backoff, Client, Context, Job, JobCall, JobError, JobOptions, JobOutcome, JobReply, JobResult,
    JobService, Outcome, Queue,
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// What all handlers of the worker share: connection pools, API clients, counters.
#[derive(Default)]
struct Mailer {
    sent: AtomicU32,
}

impl Mailer {
    fn send(&self, to: &str) -> Result<u32, std::io::Error> {
        if to.starts_with("busy") {
            return Err(std::io::Error::other("mailbox is busy"));
        }
        Ok(self.sent.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

async fn send(job: Job<Mail>, context: Context<Mailer>) -> JobResult<u32> {
    let to = &job.data().to;
    if !to.contains('@') {
        return Err(JobError::fatal("not an address")); // no retry can help
    }
    let number = context.state().send(to)?; // any error is a failed attempt
    job.update_progress(&100).await?;
    Ok(Outcome::Done(number))
}

/// A tower service around the handler: it sees each attempt before and after.
#[derive(Clone)]
struct Measure(JobService);

impl Service<JobCall> for Measure {
    type Response = JobReply;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<JobReply, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, call: JobCall) -> Self::Future {
        let (id, started) = (call.id().clone(), Instant::now());
        let attempt = self.0.call(call);
        Box::pin(async move {
            let reply = attempt.await;
            let verdict = if reply.is_ok() { "ok" } else { "failed" };
            println!(
                "attempt at job {id}: {verdict} after {:?}",
                started.elapsed()
            );
            reply
        })
    }
}

#[tokio::main]
async fn main() -> oxbull::Result<()> {
    let client = Client::from_env().await?;
    let mails: Queue<Mail> = Queue::open(&client, "example-worker").await?;
    let worker = mails
        .worker()
        .name("example")
        .concurrency(10)
        .timeout(Duration::from_secs(30))
        .state(Mailer::default())
        .layer(layer_fn(Measure))
        .start(send)
        .await?;

    for to in ["ada@example.org", "busy@example.org", "nobody"] {
        let options = JobOptions::new()
            .attempts(2)
            .backoff(Backoff::fixed(Duration::from_millis(100)));
        let mail = Mail { to: to.to_owned() };
        let wait = Duration::from_secs(10);
        match mails
            .add_and_wait::<u32>("mail", &mail, options, wait)
            .await?
        {
            JobOutcome::Completed(number) => println!("{to}: mail number {number}"),
            JobOutcome::Failed { reason } => println!("{to}: {reason}"),
            other => println!("{to}: {other:?}"),
        }
    }

    let report = worker.close().await; // lets running jobs finish
    println!("{report:?}");
    client.close().await;
    Ok(())
}
