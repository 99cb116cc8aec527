//! The two webhook routes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use oxbull::BoxError;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::body::{ReadBody, SMALL, Unread};
use super::intake::{Delivery, DeliveryOutcome};
use super::routes::App;
use super::secrets::Signature;

/// The header with the signature.
const SIGNATURE: &str = "x-hub-signature-256";

/// Seconds after which a sender may try again.
const TRY_AGAIN: &str = "5";

/// How many times as long a large delivery may take to be stored, its wait for a turn included. The API
/// waits 5 s.
const LARGE_WITHIN: u32 = 4;

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

/// Takes one delivery. Without a well-formed signature nothing of its body is read.
pub(super) async fn deliver(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Some(signature) = Signature::claimed(&headers.get_all(SIGNATURE)) else {
        return unsigned(&app);
    };
    if headers.contains_key(CONTENT_ENCODING) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > app.body_limit as u64) {
        return refused(&app, Unread::TooLong);
    }
    let body = app.bodies.read(body, app.body_limit);
    let body = match timeout(app.read_timeout, body).await {
        Ok(Ok(body)) => body,
        Ok(Err(unread)) => return refused(&app, unread),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let within = if body.bytes.len() > SMALL {
        app.store_within * LARGE_WITHIN
    } else {
        app.store_within
    };
    let taken = match timeout(within, take(&app, signature, body)).await {
        Ok(Ok(Some(taken))) => taken,
        Ok(Ok(None)) => return unsigned(&app),
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

/// Checks, reads and stores a delivery; `None` if it is not signed. Large ones are read on threads
/// where they hold up no other, and a few at a time, since what is read takes more memory than its text.
async fn take(
    app: &Arc<App>,
    signature: Signature,
    body: ReadBody,
) -> Result<Option<DeliveryOutcome>, BoxError> {
    let ReadBody { bytes, held } = body;
    if bytes.len() <= SMALL {
        return store(app, read(app, signature, &bytes)).await;
    }
    let turn = Arc::clone(&app.large).acquire_owned().await?;
    let reader = Arc::clone(app);
    // The memory is free only when the thread is done, which nothing stops.
    let reading = spawn_blocking(move || (read(&reader, signature, &bytes), held, turn));
    let (delivery, held, turn) = reading.await?;
    let stored = store(app, delivery).await;
    drop((held, turn));
    stored
}

/// Checks the signature, then reads; `None` if it is not signed.
fn read(app: &App, signature: Signature, body: &[u8]) -> Option<Result<Delivery, DeliveryOutcome>> {
    let signed = app.secrets.verify(signature, body);
    signed.then(|| app.intake.read(body))
}

async fn store(
    app: &App,
    delivery: Option<Result<Delivery, DeliveryOutcome>>,
) -> Result<Option<DeliveryOutcome>, BoxError> {
    Ok(match delivery {
        Some(Ok(delivery)) => Some(app.intake.take(&delivery).await?),
        Some(Err(outcome)) => Some(outcome),
        None => None,
    })
}

/// The same answer whether a signature is wrong, missing or given twice.
fn unsigned(app: &App) -> Response {
    app.metrics.signature_refused();
    StatusCode::UNAUTHORIZED.into_response()
}

/// A body that was not read.
fn refused(app: &App, unread: Unread) -> Response {
    match unread {
        Unread::TooLong => {
            app.metrics.too_large();
            StatusCode::PAYLOAD_TOO_LARGE.into_response()
        }
        Unread::NoRoom => {
            app.metrics.no_room();
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, TRY_AGAIN)]).into_response()
        }
        Unread::CutOff => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// The delivery may be stored or not: if it is, its job is whole in the queue. The sender repeats it,
/// which its id makes safe.
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
