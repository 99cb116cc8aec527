//! Running a program to its end.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use clap::builder::Resettable;
use oxbull::client::Client;
use oxbull::{
    BoxError, Queue, ShutdownOptions, ShutdownSignals, Worker, WorkerBuilder, WorkerEvent,
    WorkerEvents,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

use super::health::Health;
use super::http_server::ListenError;
use super::logging::init_logging_from;
use super::metrics::MetricsRegistry;
use super::problems::{Problems, with_causes};
use super::write_probe::WriteProbe;
use super::{LogFormat, WorkerSettings, init_logging};

/// How long the last requests about a program's health get.
const HEALTH_GRACE: Duration = Duration::from_secs(1);

/// How often histograms are drained without a scrape.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why a worker program did not start, or ended without being asked to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Redis: its settings, reaching it, or the queue on it.
    #[error("redis")]
    Redis(#[from] oxbull::Error),
    /// The address for health and metrics.
    #[error("health")]
    Health(#[from] ListenError),
    /// A setting of one part of the program: its error names the setting, never a secret.
    #[error(transparent)]
    Setting(BoxError),
}

/// Reads a program's settings and starts its logging. Ends the program when a setting is wrong,
/// naming it, or when only help was asked for. An empty variable, as compose files and charts make
/// them, counts as unset.
pub fn settings<S: Parser>(log_format: impl Fn(&S) -> LogFormat) -> S {
    let settings = arguments();
    init_logging(log_format(&settings));
    settings
}

/// As [`settings`], for a command that people type: it logs warnings and errors only, unless `RUST_LOG` says
/// otherwise.
pub fn command_settings<S: Parser>() -> S {
    let settings = arguments();
    init_logging_from(LogFormat::Text, LevelFilter::WARN);
    settings
}

fn arguments<S: Parser>() -> S {
    let command = S::command().mut_args(|arg| {
        let variable = arg.get_env().and_then(std::env::var_os);
        if variable.is_some_and(|value| value.is_empty()) {
            arg.env(Resettable::<clap::builder::OsStr>::Reset)
        } else {
            arg
        }
    });
    let settings = S::from_arg_matches(&command.get_matches());
    settings.unwrap_or_else(|error| error.exit())
}

/// The exit code of a program that ended with `result`; logs a failure with its causes.
pub fn exit_code(result: Result<(), StartError>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    tracing::error!(error = with_causes(&error), "stopped");
    ExitCode::FAILURE
}

/// Listens for SIGTERM and SIGINT from now on, before anything is started that they must stop in
/// order. SIGHUP ends the program no more: it asks for files to be read again, where there are any.
///
/// # Errors
/// [`StartError::Redis`] when the process cannot listen for signals.
pub fn listen() -> Result<ShutdownSignals, StartError> {
    let hangups = signal(SignalKind::hangup());
    // What has been listened to once no longer ends the process.
    drop(hangups.map_err(|error| StartError::Setting(error.into()))?);
    Ok(ShutdownSignals::listen()?)
}

/// Returns when the worker whose events these are has closed.
pub async fn closed(mut events: WorkerEvents) {
    while let Some(event) = events.next().await {
        if matches!(event, WorkerEvent::Closed) {
            return;
        }
    }
}

/// A worker program from its start to its end.
#[derive(Debug)]
pub struct Program {
    queue: &'static str,
    signals: ShutdownSignals,
    listener: Option<TcpListener>,
    client: Client,
    problems: Problems,
    metrics: MetricsRegistry,
}

impl Program {
    /// Listens for signals and serves health, then connects to the queues' server;
    /// the settings' password never shows.
    ///
    /// # Errors
    /// [`StartError::Health`] when the address for health is taken; [`StartError::Redis`] when the
    /// server cannot be reached, refuses or is unsuitable.
    pub async fn start(queue: &'static str, settings: &WorkerSettings) -> Result<Self, StartError> {
        let signals = listen()?;
        let listener = settings.health().listen().await?;
        let metrics = MetricsRegistry::default();
        metrics.install();
        Ok(Self {
            queue,
            signals,
            listener,
            client: Client::connect(settings.redis().config()?).await?,
            problems: Problems::default(),
            metrics,
        })
    }

    /// The client of the queues' server.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where parts of the program report what they cannot do.
    pub fn problems(&self) -> &Problems {
        &self.problems
    }

    /// A worker as the settings describe it, without its state and handler. `concurrency` is the
    /// queue's own, for when the settings name none.
    pub fn worker<D>(&self, settings: &WorkerSettings, concurrency: usize) -> WorkerBuilder<(), D> {
        Worker::builder(&self.client, self.queue)
            .name(settings.worker_name(self.queue))
            .prefix(settings.prefix())
            .concurrency(settings.concurrency(concurrency))
            .lock_duration(settings.lock_duration())
            .stalled_interval(settings.stalled_interval())
            .shutdown(ShutdownOptions::new().finish_within(settings.shutdown_grace()))
    }

    /// Works until a signal, then stops in stages and closes the client. Work `beside` the worker
    /// ends by itself once the worker has ended.
    ///
    /// # Errors
    /// [`StartError::Redis`] when the queue cannot be looked at.
    pub async fn run(
        self,
        worker: Worker,
        settings: &WorkerSettings,
        beside: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        let queue = self.queue;
        let stopping = CancellationToken::new();
        let events = worker.events();
        let worker = Arc::new(worker);
        let health = Health {
            queue: look(&self.client, queue, settings.prefix()).await?,
            worker: Arc::clone(&worker),
            client: self.client.clone(),
            problems: self.problems,
            metrics: self.metrics.clone(),
            writes: WriteProbe::new(&self.client),
            stopping: stopping.clone(),
        };
        let health = Arc::new(health);
        let server = self.listener.map(|listener| health.serve(listener));
        let told = cancel_on_closing(events, &stopping);
        let working = async { tokio::join!(worker.run_until(self.signals), told, beside) };
        let (closed, (), ()) = tokio::select! {
            ended = working => ended,
            () = upkeep(&self.metrics) => return Ok(()),
        };
        if let Some(server) = server {
            server.stop(HEALTH_GRACE).await;
        }
        self.client.close().await;
        let (released, abandoned) = (closed.released, closed.abandoned);
        if abandoned > 0 {
            tracing::warn!(
                queue,
                released,
                abandoned,
                "stopped; the abandoned jobs run elsewhere once their locks have expired"
            );
        } else {
            tracing::info!(queue, released, "stopped");
        }
        Ok(())
    }
}

/// The queue, for reading only.
async fn look(client: &Client, queue: &str, prefix: &str) -> oxbull::Result<Queue<Value>> {
    let queue = Queue::builder(client, queue).prefix(prefix);
    queue.skip_settings_update().open().await
}

/// Drains histograms ; never returns.
async fn upkeep(metrics: &MetricsRegistry) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// Cancels the token when the worker begins to stop; returns when it has.
async fn cancel_on_closing(mut events: WorkerEvents, stopping: &CancellationToken) {
    while let Some(event) = events.next().await {
        match event {
            WorkerEvent::Closing => stopping.cancel(),
            WorkerEvent::Closed => return,
            _ => {}
        }
    }
}
