//! An HTTP service that adds jobs, waits for results, shows states and is scraped by Prometheus. A worker in the same process
//! runs them; it could be any other, in Rust or Node.js.
//!
//! ```sh
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example axum_service
//! id=$(curl -sX POST localhost:3000/sums -H 'content-type: application/json' -d '[1, 2, 3]' | tr -d '"')
//! curl localhost:3000/sums/$id
//! curl -X POST localhost:3000/sums/wait -H 'content-type: application/json' -d '[1, 2, 3]'
//! curl localhost:3000/counts
//! curl localhost:3000/metrics
//! ```
//!
//! `PORT` sets another port, 0 any free one. SIGINT or SIGTERM ends it.
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use oxbull::inspect::Exporter;
use oxbull::{
    BoxError, Client, Error, Job, JobCounts, JobId, JobOptions, JobOutcome, JobRecord, Queue,
    Retention, ShutdownSignals,
};
use tokio::net::TcpListener;

type Sums = Queue<Vec<u32>>;

/// What a caller is told; the details are for the log.
struct Failure(Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::JobMissing(_) | Error::JobRemoved(_) => StatusCode::NOT_FOUND,
            Error::JobNotEnded { .. } => StatusCode::GATEWAY_TIMEOUT,
            error if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, self.0.to_string()).into_response()
    }
}

/// Answers at once: the job will be run.
async fn add(
    State(sums): State<Sums>,
    Json(numbers): Json<Vec<u32>>,
) -> Result<(StatusCode, Json<JobId>), Failure> {
    // An id of its own, so that a lost answer is settled and the job is added once.
    let added = sums.add_once("sum", &numbers, JobOptions::new()).await?;
    Ok((StatusCode::ACCEPTED, Json(added.id)))
}

/// Answers when the job has ended. All callers share one connection to Redis for that.
async fn wait(
    State(sums): State<Sums>,
    Json(numbers): Json<Vec<u32>>,
) -> Result<Json<JobOutcome<u32>>, Failure> {
    let options = JobOptions::new().remove_on_complete(Retention::Remove);
    let within = Duration::from_secs(5);
    Ok(Json(
        sums.add_and_wait("sum", &numbers, options, within).await?,
    ))
}

async fn show(State(sums): State<Sums>, Path(id): Path<JobId>) -> Result<Json<JobRecord>, Failure> {
    let job = sums.job(&id).await?.ok_or(Error::JobMissing(id))?;
    Ok(Json(job))
}

async fn counts(State(sums): State<Sums>) -> Result<Json<JobCounts>, Failure> {
    Ok(Json(sums.counts().await?))
}

/// For Prometheus: BullMQ's metrics of the queue, and ours.
async fn metrics(State(exporter): State<Exporter>) -> Result<impl IntoResponse, Failure> {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((content_type, exporter.render().await?))
}

async fn sum(job: Job<Vec<u32>>) -> Result<u32, &'static str> {
    let numbers = job.data().iter();
    let total = numbers.copied().try_fold(0, u32::checked_add);
    total.ok_or("the sum is too large")
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut signals = ShutdownSignals::listen()?;
    let client = Client::from_env().await?;
    let sums: Sums = Queue::open(&client, "example-sums").await?;
    let worker = sums.worker().concurrency(10).start(sum).await?;

    let exporter = Exporter::new().queue(&sums).latencies();
    let scraped = Router::new()
        .route("/metrics", get(metrics))
        .with_state(exporter);
    let routes = Router::new()
        .route("/sums", post(add))
        .route("/sums/wait", post(wait))
        .route("/sums/{id}", get(show))
        .route("/counts", get(counts))
        .with_state(sums)
        .merge(scraped);
    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse::<u16>())?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes)
        .with_graceful_shutdown(async move { signals.next().await })
        .await?;

    // No request is left; running jobs may finish.
    worker.close().await;
    client.close().await;
    println!("closed");
    Ok(())
}
