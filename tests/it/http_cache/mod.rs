//! The cache layer in axum routers, on real servers. Two clients stand for two processes.

mod failing;
mod invalidating;
mod sharing;
mod storing;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::body::to_bytes;
use axum::http::HeaderMap;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use oxbull::Timestamp;
use oxbull::client::Client;
use oxbull::client::ClientConfig;
use oxbull::http::CacheLayer;
use oxbull::http::CacheOptions;
use oxbull_testkit::DEADLINE;
use oxbull_testkit::TestResult;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use tower::ServiceExt;

/// Where the clocks of the tests stand.
const START: i64 = 1_795_647_600_000;
/// An answer of Redis is waited for as long as it takes, but where a test is about that.
fn patient() -> CacheOptions {
    CacheOptions::default()
        .deadline(DEADLINE)
        .wait(DEADLINE)
        .lease(DEADLINE)
}

/// Whom the tests' requests are from: a header, as nothing here logs anybody in.
fn by_header(head: &axum::http::request::Parts) -> Option<String> {
    Some(head.headers.get("x-user")?.to_str().ok()?.to_owned())
}

/// A process: a client, its cache layer, and how often its handler ran.
struct App {
    client: Client,
    layer: CacheLayer,
    router: Router,
    runs: Arc<AtomicUsize>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |v| v.to_str().unwrap_or("odd"))
    }

    fn cache(&self) -> &str {
        self.header("x-cache")
    }
}

impl App {
    /// A handler that answers every path; `handler` gets the number of its run.
    async fn start<F, Fut>(url: &str, options: CacheOptions, handler: F) -> TestResult<Self>
    where
        F: Fn(usize, Request<Body>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response> + Send,
    {
        let client = Client::connect(ClientConfig::from_url(url)?).await?;
        client.clock().set(Timestamp::from_millis(START));
        let layer = CacheLayer::new(&client.cache(), options)?;
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let handler = move |request: Request<Body>| {
            let run = counted.fetch_add(1, Ordering::SeqCst) + 1;
            handler(run, request)
        };
        let router = Router::new()
            .route("/{*path}", get(handler.clone()).post(handler))
            .layer(layer.clone());
        Ok(Self {
            client,
            layer,
            router,
            runs,
        })
    }

    async fn send(&self, request: axum::http::request::Builder) -> TestResult<Answer> {
        let response = self
            .router
            .clone()
            .oneshot(request.body(Body::empty())?)
            .await?;
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await?;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.to_vec())?,
        })
    }

    async fn get(&self, url: &str) -> TestResult<Answer> {
        self.send(Request::get(url)).await
    }

    /// Moves the clock to so many seconds after the start.
    fn later(&self, seconds: i64) {
        let at = Timestamp::from_millis(START + seconds * 1_000);
        self.client.clock().set(at);
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

/// The number of the run, as JSON.
async fn numbered(run: usize, _: Request<Body>) -> Response {
    (
        [("etag", format!("\"{run}\""))],
        Json(json!({ "run": run })),
    )
        .into_response()
}
