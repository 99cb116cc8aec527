//! The routes and what all of them share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use oxbull::client::Client;
use oxbull::kv::session::Sessions;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::body::BodyMemory;
use super::intake::Intake;
use super::metrics::Metrics;
use super::overview::{self, Source};
use super::{AppSecrets, VerifyToken, health, webhooks};
use crate::app::write_probe::WriteProbe;

const WEBHOOKS: &str = "/instagram/webhooks";
const OVERVIEW: &str = "/api/analytics/overview/{accountId}";
const HEALTH: &str = "/health";
const READY: &str = "/ready";
const LIVE: &str = "/live";
const METRICS: &str = "/metrics";

/// What the handlers work with.
pub(super) struct App {
    pub(super) client: Client,
    pub(super) intake: Intake,
    pub(super) overviews: Source,
    pub(super) sessions: Option<Sessions>,
    pub(super) writes: WriteProbe,
    pub(super) metrics: Metrics,
    /// Deliveries that were not stored, as far as is known.
    pub(super) not_stored: AtomicU64,
    pub(super) secrets: AppSecrets,
    pub(super) token: VerifyToken,
    pub(super) body_limit: usize,
    pub(super) bodies: BodyMemory,
    /// Turns of the large deliveries.
    pub(super) large: Arc<Semaphore>,
    pub(super) read_timeout: Duration,
    pub(super) store_within: Duration,
    /// Cancelled when requests should go elsewhere.
    pub(super) draining: CancellationToken,
}

/// All routes.
pub(super) fn router(app: Arc<App>) -> Router {
    let overview = overview::route(&app);
    Router::new()
        .route(WEBHOOKS, get(webhooks::challenge).post(webhooks::deliver))
        .route(HEALTH, get(health::health))
        .route(READY, get(health::ready))
        .route(LIVE, get(health::live))
        .route(METRICS, get(health::metrics))
        .route(OVERVIEW, overview)
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// Counts every request, and gives every answer the headers that keep browsers from making more
/// of it than it is.
async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let route = route_of(request.uri().path());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    app.metrics
        .request(route, response.status(), start.elapsed());
    response
}

/// The route's name in the metrics, which must be few however many paths are asked for.
fn route_of(path: &str) -> &'static str {
    match path {
        WEBHOOKS => WEBHOOKS,
        HEALTH => HEALTH,
        READY => READY,
        LIVE => LIVE,
        METRICS => METRICS,
        _ if path.starts_with("/api/analytics/overview/") => OVERVIEW,
        _ => "other",
    }
}
