//! Refreshes the accounts' numbers: the worker of the queue `analytics-refresh`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use oxbull_workers::app::{self, Program, StartError, WorkerSettings};
use oxbull_workers::graph::GraphSettings;
use oxbull_workers::jobs::analytics_refresh::{QUEUE, ReadSettings, Reader, Refresher, handle};
use oxbull_workers::upkeep::{self, FileUpkeep, RefreshSettings};

/// Reads the insights of Instagram accounts into the API cache
#[derive(Debug, Parser)]
#[command(version, before_help = "Worker of the queue analytics-refresh")]
struct Arguments {
    #[command(flatten)]
    worker: WorkerSettings,
    #[command(flatten)]
    graph: GraphSettings,
    #[command(flatten)]
    tokens: RefreshSettings,
    #[command(flatten)]
    reading: ReadSettings,
    /// Milliseconds after a refresh was due for which limits may postpone it before it fails
    #[arg(long, env = "REFRESH_POSTPONE_MAX_MS", value_name = "REFRESH_POSTPONE_MAX_MS", default_value_t = 43_200_000, value_parser = clap::value_parser!(u64).range(1..))]
    postpone_max_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Arguments = app::settings(|these: &Arguments| these.worker.log_format());
    app::exit_code(run(&arguments).await)
}

async fn run(arguments: &Arguments) -> Result<(), StartError> {
    let graph = arguments.graph.client()?;
    let sources = arguments.graph.tokens()?;
    let program = Program::start(QUEUE, &arguments.worker).await?;
    let tokens = sources.connect(program.client());
    let file = FileUpkeep::new(&tokens, program.problems())?;
    let deadline = arguments.graph.deadline();
    let token_refresher = arguments
        .tokens
        .refresher(program.client(), &tokens, &graph, deadline);
    let options = arguments.reading.options();
    let refresher = Refresher {
        reader: Reader::new(program.client(), graph, tokens, options)?,
        postpone_max: Duration::from_millis(arguments.postpone_max_ms),
    };
    let worker = program
        .worker(&arguments.worker, 10)
        .state(refresher)
        .start(handle)
        .await?;
    let closed = app::closed(worker.events());
    let beside = async {
        tokio::select! {
            () = closed => {}
            () = upkeep::run(file, token_refresher) => {}
        }
    };
    program.run(worker, &arguments.worker, beside).await
}
