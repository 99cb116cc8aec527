//! Publishes scheduled posts: the worker of the queue `post-publishing`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull_workers::app::{self, GraphSettings, StartError, WorkerSettings};
use oxbull_workers::jobs::post_publishing::{PublishLimits, Publisher, QUEUE, handle};

/// Publishes scheduled posts on Instagram
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    graph: GraphSettings,
    /// Milliseconds a job steps aside while the API prepares its media
    #[arg(long, env = "CONTAINER_POLL_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    container_poll_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    app::init_logging(arguments.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let publisher = Publisher {
        graph: arguments.graph.client()?,
        tokens: arguments.graph.tokens()?,
        poll_interval: Duration::from_millis(arguments.container_poll_ms),
        limits: PublishLimits::default(),
    };
    let signals = app::listen()?;
    let client = app::connect(&arguments.worker).await?;
    let worker = app::worker(&client, QUEUE, &arguments.worker, 10)
        .state(publisher)
        .start(handle)
        .await?;
    app::run_to_end(QUEUE, worker, client, signals).await;
    Ok(())
}
