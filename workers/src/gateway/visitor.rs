//! Who a request is from, by its session.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use oxbull::kv::session::{SessionToken, Sessions, UserId};
use serde_json::Value;
use tokio::time::timeout;

use super::routes::App;

/// The cookie with a session's token.
pub(super) const SESSION_COOKIE: &str = "__Host-session";

/// How long Redis may take; after that the request is anonymous.
const DEADLINE: Duration = Duration::from_millis(500);

/// Notes whose session a request has, if it has one. No session, or one that cannot be verified
/// now, makes it anybody's.
pub(super) async fn recognise(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(sessions) = &app.sessions
        && let Some(token) = token(request.headers())
        && let Some(user) = verified(sessions, &token).await
    {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

/// The user whom [`recognise`] has found.
pub(super) fn user(head: &Parts) -> Option<String> {
    let user = head.extensions.get::<UserId>()?;
    Some(user.as_str().to_owned())
}

async fn verified(sessions: &Sessions, token: &SessionToken) -> Option<UserId> {
    match timeout(DEADLINE, sessions.load::<Value>(token)).await {
        Ok(Ok(session)) => Some(session?.user().clone()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a session was not read");
            None
        }
        Err(_) => None,
    }
}

/// The token, where exactly one cookie has it.
fn token(headers: &HeaderMap) -> Option<SessionToken> {
    let mut found = headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .filter(|(name, _)| *name == SESSION_COOKIE);
    match (found.next(), found.next()) {
        (Some((_, token)), None) => SessionToken::parse(token).ok(),
        _ => None,
    }
}
