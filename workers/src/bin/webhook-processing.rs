//! Handles the events of webhook deliveries: the worker of the queue `webhook-processing`.

use std::process::ExitCode;

use clap::Parser;
use oxbull_workers::app::{self, Program, StartError, WorkerSettings};
use oxbull_workers::jobs::webhook_processing::{CONCURRENCY, Ledger, QUEUE, STALLS, handle};

/// Handles the events of Instagram's webhook deliveries, each once and in order
#[derive(Debug, Parser)]
#[command(version, before_help = "Worker of the queue webhook-processing")]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = app::settings(|these: &Arguments| these.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let program = Program::start(QUEUE, &arguments.worker).await?;
    let ledger = Ledger::open(program.client(), arguments.worker.prefix()).await?;
    let worker = program
        .worker(&arguments.worker, CONCURRENCY)
        .max_stalled_count(STALLS)
        .state(ledger)
        .start(handle)
        .await?;
    let nothing = std::future::ready(());
    program.run(worker, &arguments.worker, nothing).await
}
