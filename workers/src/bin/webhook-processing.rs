//! Handles the events of webhook deliveries: the worker of the queue `webhook-processing`.

use std::process::ExitCode;

use clap::Parser;
use oxbull_workers::app::{self, StartError, WorkerSettings};
use oxbull_workers::jobs::webhook_processing::{CONCURRENCY, Ledger, QUEUE, STALLS, handle};

/// Handles the events of Instagram's webhook deliveries, each once and in order
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    app::init_logging(arguments.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let signals = app::listen()?;
    let client = app::connect(&arguments.worker).await?;
    let ledger = Ledger::open(&client, arguments.worker.prefix()).await?;
    let worker = app::worker(&client, QUEUE, &arguments.worker, CONCURRENCY)
        .max_stalled_count(STALLS)
        .state(ledger)
        .start(handle)
        .await?;
    app::run_to_end(QUEUE, worker, client, signals).await;
    Ok(())
}
