//! Health of a worker program, for orchestrators and monitoring.
//!
//! | path | answer |
//! |---|---|
//! | `/health`, `/ready` | 200 while jobs are worked on, else 503 with the reason |
//! | `/live` | 200, but 503 where a restart can help |
//! | `/metrics` | numbers, in the text format of Prometheus |

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use oxbull::client::Client;
use oxbull::{Error, Queue, Worker};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::StartError;
use super::http_server::{self, ConnectionLimits, HttpServer};
use super::metrics::{MetricsRegistry, TEXT_FORMAT};
use super::problems::{Problems, with_causes};
use super::write_probe::{DEADLINE, WriteProbe};

/// An idle worker gets an answer from Redis every few seconds; one without an answer for this long is stuck.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Probes are few and short.
const LIMITS: ConnectionLimits = ConnectionLimits {
    read_timeout: Duration::from_secs(2),
    connections: 32,
};

/// Where a worker program answers for its health.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Health and metrics")]
pub struct HealthSettings {
    /// Port that answers GET /health, /ready, /live and /metrics; none when unset
    #[arg(long, env = "HEALTH_PORT")]
    health_port: Option<u16>,
    /// Address that it is on; 0.0.0.0 where others than this machine ask, as in Kubernetes
    #[arg(long, env = "HEALTH_HOST", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    health_host: IpAddr,
}

impl HealthSettings {
    /// Listens, if it should: first of all, so that a port that is taken ends the program before
    /// it has started a job.
    pub(super) async fn listen(&self) -> Result<Option<TcpListener>, StartError> {
        let Some(port) = self.health_port else {
            return Ok(None);
        };
        let address = SocketAddr::from((self.health_host, port));
        let (listener, address) =
            http_server::listen(address, "HEALTH_PORT or HEALTH_HOST").await?;
        tracing::info!(%address, "health and metrics are answered");
        Ok(Some(listener))
    }
}

/// What the answers are made of.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) queue: Queue<Value>,
    pub(super) worker: Arc<Worker>,
    pub(super) client: Client,
    pub(super) problems: Problems,
    pub(super) metrics: MetricsRegistry,
    pub(super) writes: WriteProbe,
    /// Cancelled when the worker starts no jobs any more.
    pub(super) stopping: CancellationToken,
}

impl Health {
    /// Serves the routes on this listener.
    pub(super) fn serve(self: Arc<Self>, listener: TcpListener) -> HttpServer {
        let router = Router::new()
            .route("/health", get(ready))
            .route("/ready", get(ready))
            .route("/live", get(live))
            .route("/metrics", get(metrics))
            .fallback(async || StatusCode::NOT_FOUND)
            .with_state(self);
        HttpServer::start(listener, router, LIMITS)
    }

    /// Why no jobs are worked on, if so.
    async fn problem(&self) -> Option<String> {
        if self.stopping.is_cancelled() {
            return Some("the program is stopping".to_owned());
        }
        if let Some(problem) = self.stuck() {
            return Some(problem);
        }
        if let Some(error) = self.writes.problem().await {
            return Some(with_causes(&*error));
        }
        self.problems.current()
    }

    /// What the worker itself reports.
    fn stuck(&self) -> Option<String> {
        let health = self.worker.health();
        if health.closed {
            return Some("the worker has ended".to_owned());
        }
        if let Some(trouble) = &health.trouble {
            let seconds = trouble.lasting.as_secs();
            return Some(format!("{} (for {seconds} s)", trouble.reason));
        }
        if health.is_healthy() {
            return None;
        }
        Some("redis has not answered a fetch yet".to_owned())
    }

    /// Why a restart could help, if so: the worker makes no progress for no known reason.
    fn hangs(&self) -> Option<String> {
        let health = self.worker.health();
        if health.closed && !self.stopping.is_cancelled() {
            return Some("the worker has ended".to_owned());
        }
        let silent = health.last_answer.is_some_and(|ago| ago > LONGEST_SILENCE);
        let explained = health.trouble.is_some() || health.paused || health.running > 0;
        let hangs = silent && !explained && !self.stopping.is_cancelled();
        hangs.then(|| "the worker has had no answer from redis, for no known reason".to_owned())
    }
}

async fn ready(State(health): State<Arc<Health>>) -> Response {
    response(health.problem().await, "working")
}

async fn live(State(health): State<Arc<Health>>) -> Response {
    response(health.hangs(), "live")
}

fn response(problem: Option<String>, well: &str) -> Response {
    match problem {
        None => (StatusCode::OK, well.to_owned()),
        Some(problem) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not {well}: {problem}"),
        ),
    }
    .into_response()
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    let backlog = timeout(DEADLINE, health.queue.backlog()).await;
    let backlog = backlog.unwrap_or(Err(Error::Timeout(DEADLINE)));
    match backlog {
        Ok(backlog) => health.metrics.backlog(&health.queue, &backlog),
        Err(error) => tracing::debug!(%error, "the backlog could not be read"),
    }
    health
        .metrics
        .worker(&health.queue, &health.worker.health());
    let redis = health.client.health(DEADLINE).await;
    health.metrics.redis_up(redis.is_up());
    ([(CONTENT_TYPE, TEXT_FORMAT)], health.metrics.render()).into_response()
}
