//! Whether the gateway works, for people, balancers and Prometheus.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use oxbull::Error;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::routes::App;
use crate::app::metrics::TEXT_FORMAT;
use crate::app::problems::with_causes;
use crate::app::write_probe::DEADLINE;

/// Whether Redis takes what the gateway writes.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    let (status, body) = match app.writes.problem().await.as_deref() {
        None => (StatusCode::OK, json!({ "redis": "up" })),
        Some(error) => (StatusCode::SERVICE_UNAVAILABLE, down(error)),
    };
    (status, Json(body)).into_response()
}

/// A server that refuses writes is distinguished from one that is unreachable.
fn down(error: &Error) -> Value {
    match error {
        Error::Overloaded(_) | Error::Denied(_) | Error::Server(_) => {
            json!({ "redis": "down", "problem": with_causes(error) })
        }
        _ => json!({ "redis": "down" }),
    }
}

/// Whether deliveries should be sent here.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = !app.draining.is_cancelled() && app.writes.problem().await.is_none();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready }))).into_response()
}

/// Answers requests; a restart repairs nothing else.
pub(super) async fn live() -> Response {
    Json(json!({ "live": true })).into_response()
}

/// The numbers, those read just now among them.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let backlog = timeout(DEADLINE, app.intake.queue().backlog()).await;
    let backlog = backlog.ok().and_then(Result::ok);
    app.metrics
        .registry()
        .redis_up(app.client.health(DEADLINE).await.is_up());
    app.metrics.cache(&app.overviews.stats());
    if let Some(backlog) = backlog {
        app.metrics.registry().backlog(app.intake.queue(), &backlog);
    }
    (
        [(CONTENT_TYPE, TEXT_FORMAT)],
        app.metrics.registry().render(),
    )
        .into_response()
}
