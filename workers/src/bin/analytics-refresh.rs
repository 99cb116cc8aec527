//! Refreshes the accounts' numbers: the worker of the queue `analytics-refresh`.

use std::process::ExitCode;

use clap::Parser;
use oxbull_workers::app::{self, GraphSettings, StartError, WorkerSettings};
use oxbull_workers::jobs::analytics_refresh::{QUEUE, Refresher, handle};

/// Reads the insights of Instagram accounts into the API cache
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    graph: GraphSettings,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    app::init_logging(arguments.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let graph = arguments.graph.client()?;
    let tokens = arguments.graph.tokens()?;
    let signals = app::listen()?;
    let client = app::connect(&arguments.worker).await?;
    let refresher = Refresher {
        graph,
        tokens,
        client: client.clone(),
    };
    let worker = app::worker(&client, QUEUE, &arguments.worker, 10)
        .state(refresher)
        .start(handle)
        .await?;
    app::run_to_end(QUEUE, worker, client, signals).await;
    Ok(())
}
