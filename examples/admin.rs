//! What an operator asks of a queue, as a command line. It works on any queue, BullMQ's included, whatever
//! its jobs carry.
//!
//! ```sh
//! export REDIS_URL=redis://127.0.0.1:6379
//! cargo run --example admin -- mail counts
//! cargo run --example admin -- mail list failed          # the newest twenty
//! cargo run --example admin -- mail search '$.account.id == "42"' [NAME]
//! cargo run --example admin -- mail clean completed 86400 --dry-run
//! cargo run --example admin -- mail retry                # all that failed; Ctrl-C stops between two steps
//! cargo run --example admin -- mail pause                # and resume
//! cargo run --example admin -- mail flow ID              # two levels
//! cargo run --example admin -- mail remove ID            # with its children
//! cargo run --example admin -- mail blocked              # parents that nothing will release
//! ```
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxbull::inspect::{JobOrder, Search};
use oxbull::{
    BoxError, Client, FlowLimits, JobState, Operation, OperationReport, Queue, RetryOptions,
    ShutdownSignals,
};
use serde_json::json;

/// Runs an operation and prints how far it has come. A signal stops it after the step that is on its way;
/// the same command goes on.
async fn run(operation: Operation) -> oxbull::Result<OperationReport> {
    let mut signals = ShutdownSignals::listen()?;
    let stop = AtomicBool::new(false);
    let work = operation.run_with(|step| {
        println!("{} jobs so far", step.report.jobs);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    tokio::pin!(work);
    loop {
        tokio::select! {
            report = &mut work => return report,
            () = signals.next() => stop.store(true, Ordering::Relaxed),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let (queue, command) = match arguments.as_slice() {
        [queue, command @ ..] => (*queue, command),
        [] => return Err("usage: admin QUEUE COMMAND".into()),
    };
    let client = Client::from_env().await?;
    // Data of any form; and a queue that is only looked at is not created by that.
    let queue: Queue = Queue::builder(&client, queue)
        .skip_settings_update()
        .open()
        .await?;

    match command {
        ["counts"] => println!("{}", json!(queue.counts().await?)),
        ["list", state] => {
            let state: JobState = state.parse()?;
            let page = queue.jobs([state], 0..20, JobOrder::Descending).await?;
            for listed in &page.jobs {
                let job = &listed.job;
                println!("{} {} {:?}", job.id, job.name, job.failed_reason);
            }
            println!("{} of {}", page.jobs.len(), page.total);
        }
        ["search", condition, name @ ..] => {
            let mut search = Search::new().data(condition.parse()?);
            if let [name] = name {
                search = search.name(*name);
            }
            let mut found = queue.search(search)?;
            while let Some(listed) = found.next().await {
                println!("{}", json!(listed?));
            }
        }
        ["clean", state, seconds, dry_run @ ..] => {
            let grace = Duration::from_secs(seconds.parse()?);
            let mut clean = queue.clean(state.parse()?, grace);
            if dry_run == ["--dry-run"] {
                clean = clean.dry_run();
            }
            println!("{}", json!(run(clean).await?));
        }
        ["retry"] => {
            let options = RetryOptions::new().reset_attempts_made();
            let retry = queue.retry_jobs(None, options);
            println!("{}", json!(run(retry).await?));
        }
        ["pause"] => queue.pause().await?,
        ["resume"] => queue.resume().await?,
        ["flow", id] => {
            let flow = queue.flow(*id, FlowLimits::new().depth(2)).await?;
            println!("{}", json!(flow));
        }
        ["remove", id] => println!("removed: {}", queue.remove(*id).await?),
        ["blocked"] => {
            let mut blocked = queue.blocked_parents();
            while let Some(parent) = blocked.next().await {
                println!("{}", json!(parent?));
            }
        }
        _ => return Err("unknown command".into()),
    }
    client.close().await;
    Ok(())
}
