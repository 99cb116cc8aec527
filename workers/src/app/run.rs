//! Running a program to its end.

use std::error::Error;
use std::process::ExitCode;

use oxbull::client::Client;
use oxbull::{ShutdownOptions, ShutdownSignals, Worker, WorkerBuilder};

use super::{WorkerSettings, health};
use crate::gateway::{GatewayError, InvalidSecret};
use crate::graph::{SetupError, TokenFileError};

/// Why a worker program did not start, or ended otherwise than by being told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Redis: its settings, reaching it, or the queue on it.
    #[error("redis")]
    Redis(#[from] oxbull::Error),
    /// The Graph API's settings.
    #[error("graph api")]
    Graph(#[from] SetupError),
    /// The file with the accounts' tokens.
    #[error("access tokens")]
    Tokens(#[from] TokenFileError),
    /// No token is configured, so no job could do its work.
    #[error("no access token: set GRAPH_ACCESS_TOKEN or --graph-tokens-file")]
    NoToken,
    /// A secret that has to be in the environment.
    #[error("{variable}")]
    Secret {
        /// The variable's name.
        variable: &'static str,
        /// What is wrong with it; never what is in it.
        source: InvalidSecret,
    },
    /// The gateway's own start.
    #[error("gateway")]
    Gateway(#[from] GatewayError),
}

/// The exit code of a program that ended with `result`; logs a failure with its causes.
pub fn exit_code(result: Result<(), StartError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!(error = text, "stopped");
    ExitCode::FAILURE
}

/// Connects to the queues' server; the settings' password never shows.
///
/// # Errors
/// [`StartError::Redis`] when the server cannot be reached, refuses or is unsuitable.
pub async fn connect(settings: &WorkerSettings) -> Result<Client, StartError> {
    Ok(Client::connect(settings.redis().config()?).await?)
}

/// A worker as the settings describe it, without its state and handler. `concurrency` is the
/// queue's own, for when the settings name none.
pub fn worker(
    client: &Client,
    queue: &str,
    settings: &WorkerSettings,
    concurrency: usize,
) -> WorkerBuilder {
    Worker::builder(client, queue)
        .prefix(settings.prefix())
        .concurrency(settings.concurrency(concurrency))
        .lock_duration(settings.lock_duration())
        .stalled_interval(settings.stalled_interval())
        .shutdown(ShutdownOptions::new().finish_within(settings.shutdown_grace()))
}

/// Listens for SIGTERM and SIGINT from now on, before anything is started that they must stop in
/// order.
///
/// # Errors
/// [`StartError::Redis`] when the process cannot listen for signals.
pub fn listen() -> Result<ShutdownSignals, StartError> {
    Ok(ShutdownSignals::listen()?)
}

/// Works until a signal, then stops in stages and closes the client.
pub async fn run_to_end(queue: &str, worker: Worker, client: Client, signals: ShutdownSignals) {
    run_beside(queue, worker, client, signals, std::future::ready(())).await;
}

/// As [`run_to_end`], with work beside the worker that ends by itself once the worker has ended.
pub async fn run_beside(
    queue: &str,
    worker: Worker,
    client: Client,
    signals: ShutdownSignals,
    beside: impl Future<Output = ()>,
) {
    tracing::info!(queue, "working");
    let working = async { tokio::join!(worker.run_until(signals), beside) };
    let (closed, ()) = tokio::select! {
        closed = working => closed,
        never = health::answer(&worker) => match never {},
    };
    client.close().await;
    if closed.abandoned > 0 {
        let jobs = closed.abandoned;
        tracing::warn!(
            queue,
            jobs,
            "stopped; other workers get the jobs left behind"
        );
    } else {
        tracing::info!(queue, "stopped");
    }
}
