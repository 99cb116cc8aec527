//! An account's numbers for readers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use oxbull::client::Client;
use oxbull::http::{CacheLayer, CacheOptions};
use serde_json::json;
use tokio::time::timeout;

use super::routes::App;
use super::visitor;
use crate::graph::{AccessTokens, AccountId, Failure, GraphClient, TokenError};
use crate::jobs::analytics_refresh::{
    OVERVIEW_TTL, Overview, ReadOptions, Reader, RefreshError, overview_key,
};

/// How long the snapshot of the last refresh is waited for before the API is asked.
const SNAPSHOT_WITHIN: Duration = Duration::from_millis(500);

/// Where the numbers come from when no refresh has stored them.
#[derive(Debug, Clone, Default)]
pub struct Overviews {
    graph: Option<(GraphClient, AccessTokens, ReadOptions)>,
}

impl Overviews {
    /// No source: only stored numbers are served.
    pub fn stored() -> Self {
        Self::default()
    }

    /// The Graph API, within the budgets that the workers share.
    pub fn from_api(graph: GraphClient, tokens: AccessTokens, options: ReadOptions) -> Self {
        Self {
            graph: Some((graph, tokens, options)),
        }
    }
}

/// The numbers behind their cache.
pub(super) struct Source {
    reader: Option<Reader>,
    client: Client,
    cache: CacheLayer,
}

impl Source {
    /// Keeps answers on the client's cache server.
    pub(super) fn new(client: &Client, overviews: Overviews) -> oxbull::Result<Self> {
        // No cookie or token makes a difference to the handler, so none passes by the cache.
        let options = CacheOptions::default()
            .ttl(OVERVIEW_TTL)
            .credentials([])
            .user(visitor::user)
            .stale_while_error(OVERVIEW_TTL);
        let read = |(graph, tokens, options)| Reader::new(client, graph, tokens, options);
        Ok(Self {
            reader: overviews.graph.map(read).transpose()?,
            cache: CacheLayer::new(&client.cache(), options)?,
            client: client.clone(),
        })
    }

    /// What the cache has done.
    pub(super) fn stats(&self) -> Vec<(&'static str, u64)> {
        let stats = self.cache.stats();
        vec![
            ("hit", stats.hits),
            ("miss", stats.misses),
            ("stale", stats.stale),
            ("bypass", stats.bypassed),
            ("error", stats.errors),
        ]
    }

    /// The snapshot of the last refresh, if there is one and the cache server answers in time.
    async fn stored(&self, account: &AccountId) -> Option<Overview> {
        let cache = self.client.cache();
        let key = overview_key(account);
        match timeout(SNAPSHOT_WITHIN, cache.get(&key)).await {
            Ok(Ok(overview)) => overview,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the snapshot was not read");
                None
            }
            Err(_) => None,
        }
    }

    async fn find(&self, account: &AccountId) -> Result<Overview, Absent> {
        if let Some(overview) = self.stored(account).await {
            return Ok(overview);
        }
        let reader = self.reader.as_ref().ok_or(Absent::Unknown)?;
        let overview = match reader.read(account, false).await {
            Err(RefreshError::NoToken(TokenError::Missing(_))) => return Err(Absent::Disconnected),
            read => read?,
        };
        if let Err(error) = reader.keep(&overview).await {
            tracing::warn!(%error, "numbers were read, but not cached");
        }
        Ok(overview)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("reader", &self.reader)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// The route with its cache.
pub(super) fn route(app: &Arc<App>) -> MethodRouter<Arc<App>> {
    get(overview)
        .layer(app.overviews.cache.clone())
        .layer(from_fn_with_state(Arc::clone(app), visitor::recognise))
}

async fn overview(State(app): State<Arc<App>>, Path(account): Path<String>) -> Response {
    let Ok(account) = AccountId::new(account) else {
        return Absent::Unknown.into_response();
    };
    match app.overviews.find(&account).await {
        Ok(overview) => {
            // The snapshot has aged already, so the answer lasts for the rest of its hour.
            let now = app.client.clock().now().as_millis();
            let age = now.saturating_sub(overview.fetched_at) / 1000;
            let left = OVERVIEW_TTL
                .as_secs()
                .saturating_sub(u64::try_from(age).unwrap_or(0));
            let control = HeaderValue::try_from(format!("s-maxage={left}, max-age=0"));
            let mut response = Json(overview).into_response();
            if let Ok(control) = control {
                response.headers_mut().insert(CACHE_CONTROL, control);
            }
            response
        }
        Err(absent) => absent.into_response(),
    }
}

/// Why there are no numbers.
#[derive(Debug)]
enum Absent {
    /// It is no account id, or there is nothing to read accounts with.
    Unknown,
    /// There is no token for this account, or the API refuses the one there is or a permission.
    Disconnected,
    /// The API does not give them.
    Api(RefreshError),
}

impl From<RefreshError> for Absent {
    fn from(error: RefreshError) -> Self {
        if error.failure().needs_reconnection() {
            tracing::warn!(%error, "an account has to be connected again");
            Self::Disconnected
        } else {
            Self::Api(error)
        }
    }
}

impl IntoResponse for Absent {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Unknown => {
                let body = json!({ "code": "unknown", "error": "no numbers of this account" });
                return (StatusCode::NOT_FOUND, Json(body)).into_response();
            }
            Self::Disconnected => {
                let error = "the account has to be connected again";
                let body = json!({ "code": "reconnect", "error": error });
                return (StatusCode::CONFLICT, Json(body)).into_response();
            }
            Self::Api(error) => error,
        };
        tracing::warn!(%error, "an account's numbers were not read");
        if let Failure::RateLimited { wait, .. } = error.failure() {
            let seconds = wait.unwrap_or(Duration::from_secs(60)).as_secs().max(1);
            let body = json!({ "code": "limited", "error": "the api's limit is reached" });
            let again = [(RETRY_AFTER, seconds.to_string())];
            return (StatusCode::SERVICE_UNAVAILABLE, again, Json(body)).into_response();
        }
        let body = json!({ "code": "unavailable", "error": "the api did not give the numbers" });
        (StatusCode::BAD_GATEWAY, Json(body)).into_response()
    }
}
