//! Whether the gateway works, for people, balancers and Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::metrics::Gauges;
use super::routes::App;

/// How long Redis gets to answer.
const DEADLINE: Duration = Duration::from_millis(500);

/// Whether Redis answers.
pub(super) async fn health(State(app): State<Arc<App>>) -> Response {
    if is_up(&app).await {
        Json(json!({ "redis": "up" })).into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "redis": "down" })),
        )
            .into_response()
    }
}

/// Whether deliveries should be sent here.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = !app.stopping.is_cancelled() && is_up(&app).await;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready }))).into_response()
}

/// The counters, and what they do not count.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let counts = timeout(DEADLINE, app.intake.queue().counts()).await;
    let gauges = Gauges {
        redis_up: is_up(&app).await,
        queue: counts.ok().and_then(Result::ok),
        overviews: app.overviews.stats(),
    };
    let text = app.metrics.text(&gauges);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

async fn is_up(app: &App) -> bool {
    app.client.health(DEADLINE).await.is_up()
}
