//! A rate limit in front of a service.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use serde::Serialize;
use serde_json::json;
use tower::{Layer, Service};

use super::body::LayerBody;
use super::bounded::BoundedConnection;
use super::{ANONYMOUS, Extract};
use crate::client::Throttle;
use crate::error::{Chain, Error};
use crate::kv::{RateLimitDecision, RateLimiter};

/// How long a request waits for its decision by default.
const DEADLINE: Duration = Duration::from_millis(100);

/// What happens to a request that Redis gives no decision on, in time or at all.
///
/// There is no default: a login must not be tried without limit because Redis is away, and
/// reading a page need not fail for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It goes on to the service, uncounted.
    Allow,
    /// It is answered with 503.
    Deny,
}

/// How a rate limit layer has decided, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RateLimitStats {
    /// Requests that went on within their limit.
    pub allowed: u64,
    /// Requests answered with 429.
    pub refused: u64,
    /// Requests without a decision, let through or answered with 503.
    pub undecided: u64,
    /// Requests whose endpoint or user id is none, answered with 400.
    pub invalid: u64,
}

/// A [`tower::Layer`] that counts requests against a [`RateLimiter`].
///
/// A request within its limit goes on, and its response gets `RateLimit-Limit`,
/// `RateLimit-Remaining` and `RateLimit-Reset` (seconds) as well as `RateLimit-Policy` and
/// `RateLimit` of the later drafts. Others get 429 with these, `Retry-After` (seconds) and a
/// JSON body. A request whose ids are invalid gets 400 and is never let through: otherwise an
/// odd id would be a way around the limit.
///
/// # Examples
/// ```no_run
/// # fn run(client: oxbull::Client) -> oxbull::Result<()> {
/// use std::time::Duration;
/// use oxbull::http::{OnFailure, RateLimitLayer};
/// use oxbull::kv::RateLimit;
///
/// #[derive(Clone)]
/// struct Session { user: String }
///
/// let limit = RateLimit::sliding_window(100, Duration::from_secs(60));
/// let limiter = client.kv().rate_limiter(limit)?;
/// let layer = RateLimitLayer::new(limiter, "overview", OnFailure::Allow)
///     .user(|head| Some(head.extensions.get::<Session>()?.user.clone()));
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RateLimitLayer {
    limiter: RateLimiter,
    bounded: BoundedConnection,
    endpoint: Extract<String>,
    user: Extract<Option<String>>,
    on_failure: OnFailure,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    allowed: AtomicU64,
    refused: AtomicU64,
    undecided: AtomicU64,
    invalid: AtomicU64,
    log: Throttle,
}

impl RateLimitLayer {
    /// Limits requests under the name of an endpoint. Without [`user`](Self::user), all of them
    /// count as one user's, `anonymous`. An invalid endpoint is not an error here: its requests are
    /// answered with 400.
    pub fn new(limiter: RateLimiter, endpoint: impl Into<String>, on_failure: OnFailure) -> Self {
        let endpoint = endpoint.into();
        Self {
            bounded: BoundedConnection::new(limiter.connection().clone(), DEADLINE),
            limiter,
            endpoint: Arc::new(move |_| endpoint.clone()),
            user: Arc::new(|_| None),
            on_failure,
            counters: Arc::default(),
        }
    }

    /// Sets how the user of a request is found; requests of `None` share the user `anonymous`.
    #[must_use]
    pub fn user(mut self, user: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.user = Arc::new(user);
        self
    }

    /// Sets how the endpoint of each request is found, instead of one for all.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Fn(&Parts) -> String + Send + Sync + 'static) -> Self {
        self.endpoint = Arc::new(endpoint);
        self
    }

    /// Waits at most this long for a decision; 100 ms by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.bounded = BoundedConnection::new(self.limiter.connection().clone(), deadline);
        self
    }

    /// Returns how this layer and its clones have decided.
    pub fn stats(&self) -> RateLimitStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RateLimitStats {
            allowed: read(&self.counters.allowed),
            refused: read(&self.counters.refused),
            undecided: read(&self.counters.undecided),
            invalid: read(&self.counters.invalid),
        }
    }

    /// Decides on a request: the headers of its response, or the response.
    async fn decide<B: Body>(
        &self,
        endpoint: String,
        user: String,
    ) -> Result<HeaderMap, Box<Response<LayerBody<B>>>> {
        let limiter = self.limiter.clone();
        let name = endpoint.clone();
        let decision = self
            .bounded
            .ask(move |_| async move { limiter.take(&name, &user).await })
            .await;
        match decision {
            Ok(decision) => {
                let headers = self.headers(&endpoint, &decision);
                let Some(wait) = decision.retry_after else {
                    count(&self.counters.allowed);
                    return Ok(headers);
                };
                count(&self.counters.refused);
                let wait = seconds(wait).max(1);
                let mut response = refusal(
                    StatusCode::TOO_MANY_REQUESTS,
                    "rate limit exceeded",
                    Some(wait),
                );
                response.headers_mut().extend(headers);
                Err(Box::new(response))
            }
            Err(Error::Invalid { field, .. }) => {
                count(&self.counters.invalid);
                if let Some(suppressed) = self.counters.log.admit() {
                    tracing::warn!(
                        field,
                        suppressed,
                        "a request without a valid id was refused"
                    );
                }
                let text = "the request cannot be attributed";
                Err(Box::new(refusal(StatusCode::BAD_REQUEST, text, None)))
            }
            Err(error) => {
                count(&self.counters.undecided);
                if let Some(suppressed) = self.counters.log.admit() {
                    let policy = self.on_failure;
                    let error = Chain(&error);
                    tracing::warn!(%error, ?policy, suppressed, "a rate limit has no decision");
                }
                match self.on_failure {
                    OnFailure::Allow => Ok(HeaderMap::new()),
                    OnFailure::Deny => Err(Box::new(refusal(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "rate limits are not available",
                        Some(1),
                    ))),
                }
            }
        }
    }

    fn headers(&self, endpoint: &str, decision: &RateLimitDecision) -> HeaderMap {
        let (limit, remaining) = (decision.limit, decision.remaining);
        let reset = seconds(decision.reset);
        let window = seconds(self.limiter.limit().window());
        // The endpoint passed as an id: it has no quotes.
        let headers = [
            ("ratelimit-limit", limit.to_string()),
            ("ratelimit-remaining", remaining.to_string()),
            ("ratelimit-reset", reset.to_string()),
            (
                "ratelimit-policy",
                format!("\"{endpoint}\";q={limit};w={window}"),
            ),
            (
                "ratelimit",
                format!("\"{endpoint}\";r={remaining};t={reset}"),
            ),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| {
            Some((
                HeaderName::from_static(name),
                HeaderValue::from_str(&value).ok()?,
            ))
        });
        headers.collect()
    }
}

impl fmt::Debug for RateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("limit", &self.limiter.limit())
            .field("on_failure", &self.on_failure)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service behind a [`RateLimitLayer`].
#[derive(Debug, Clone)]
pub struct RateLimitService<S> {
    inner: S,
    layer: RateLimitLayer,
}

impl<S, ReqB, ResB> Service<Request<ReqB>> for RateLimitService<S>
where
    S: Service<Request<ReqB>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send,
    ReqB: Send + 'static,
    ResB: Body<Data = Bytes> + Send + 'static,
    ResB::Error: Send,
{
    type Response = Response<LayerBody<ResB>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        // The service that said it is ready is the one to call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        let (head, body) = request.into_parts();
        let endpoint = (layer.endpoint)(&head);
        let user = (layer.user)(&head).unwrap_or_else(|| ANONYMOUS.to_owned());
        Box::pin(async move {
            match layer.decide(endpoint, user).await {
                Ok(headers) => {
                    let response = inner.call(Request::from_parts(head, body)).await?;
                    let mut response = response.map(LayerBody::inner);
                    response.headers_mut().extend(headers);
                    Ok(response)
                }
                Err(refusal) => Ok(*refusal),
            }
        })
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whole seconds, rounded up: waiting that long is long enough.
fn seconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX)
}

fn refusal<B: Body>(
    status: StatusCode,
    message: &str,
    retry_after: Option<u64>,
) -> Response<LayerBody<B>> {
    let mut body = json!({
        "statusCode": status.as_u16(),
        "error": status.canonical_reason(),
        "message": message,
    });
    if let (Some(wait), Some(fields)) = (retry_after, body.as_object_mut()) {
        fields.insert("retryAfter".to_owned(), wait.into());
    }
    let mut response = Response::new(LayerBody::whole(body.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = retry_after {
        headers.insert(RETRY_AFTER, wait.into());
    }
    response
}
