//! The two webhook routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, to_bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use oxbull::BoxError;
use serde::Deserialize;
use tokio::time::timeout;

use super::intake::DeliveryOutcome;
use super::routes::App;

/// The header with the signature.
const SIGNATURE: &str = "x-hub-signature-256";

/// Seconds after which a sender may try again.
const TRY_AGAIN: &str = "5";

/// Longest challenge that is given back, in bytes.
const CHALLENGE_MAX: usize = 256;

/// The parameters of a challenge.
#[derive(Deserialize)]
pub(super) struct Challenge {
    #[serde(rename = "hub.mode")]
    mode: String,
    #[serde(rename = "hub.verify_token")]
    token: String,
    #[serde(rename = "hub.challenge")]
    text: String,
}

/// Returns the challenge to a request with the right token.
pub(super) async fn challenge(
    State(app): State<Arc<App>>,
    query: Result<Query<Challenge>, QueryRejection>,
) -> Response {
    let Ok(Query(asked)) = query else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let plain = (1..=CHALLENGE_MAX).contains(&asked.text.len())
        && asked.text.bytes().all(|byte| byte.is_ascii_graphic());
    if asked.mode == "subscribe" && app.token.is(&asked.token) && plain {
        tracing::info!("the webhook's address was verified");
        ([(CONTENT_TYPE, "text/plain")], asked.text).into_response()
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

/// Takes one delivery.
pub(super) async fn deliver(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    if headers.contains_key(CONTENT_ENCODING) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > app.body_limit as u64) {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let body = match timeout(app.read_timeout, to_bytes(body, app.body_limit)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return unread(error).into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    if !app.secrets.verify(&headers.get_all(SIGNATURE), &body) {
        app.metrics.signature_refused();
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let taken = match timeout(app.store_within, app.intake.take(&body)).await {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => return try_again(&app, Some(&error)),
        Err(_) => return try_again(&app, None),
    };
    app.metrics.delivery(taken);
    match taken {
        DeliveryOutcome::Enqueued | DeliveryOutcome::Duplicate => StatusCode::OK,
        DeliveryOutcome::NotJson => StatusCode::BAD_REQUEST,
        DeliveryOutcome::OutOfTime => StatusCode::FORBIDDEN,
    }
    .into_response()
}

/// A body that could not be read: too long, or cut off.
fn unread(error: axum::Error) -> StatusCode {
    let inner = error.into_inner();
    if inner.is::<http_body_util::LengthLimitError>() {
        StatusCode::PAYLOAD_TOO_LARGE
    } else {
        StatusCode::BAD_REQUEST
    }
}

/// The delivery may be stored or not. The sender repeats it, which its id makes safe.
fn try_again(app: &App, error: Option<&BoxError>) -> Response {
    app.metrics.not_stored();
    let count = app.not_stored.fetch_add(1, Ordering::Relaxed) + 1;
    // While Redis is unavailable every delivery ends here: the first is logged, then each hundredth.
    if count % 100 == 1 {
        if let Some(error) = error {
            tracing::error!(%error, count, "a delivery was not stored");
        } else {
            tracing::error!(count, "a delivery was not stored in time");
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, TRY_AGAIN)]).into_response()
}
