//! The rate limit layer in an axum router, on a real server.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use futures::future::join_all;
use oxbull::Timestamp;
use oxbull::client::{Client, ClientConfig};
use oxbull::http::{OnFailure, RateLimitLayer};
use oxbull::kv::{RateLimit, RateLimiter, escape_id};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, TestResult, eventually};
use serde_json::{Value, json};
use tower::ServiceExt;

const START: i64 = 1_795_647_600_000;
const MINUTE: Duration = Duration::from_secs(60);

async fn limiter(url: &str, limit: RateLimit) -> TestResult<(Client, RateLimiter)> {
    let client = Client::connect(ClientConfig::from_url(url)?).await?;
    client.clock().set(Timestamp::from_millis(START + 500));
    let limiter = client.kv().rate_limiter(limit)?;
    Ok((client, limiter))
}

fn app(layer: &RateLimitLayer) -> Router {
    Router::new()
        .route("/x", get(|| async { "fine" }))
        .layer(layer.clone())
}

/// Whom the tests' requests are from: a header, as nothing here logs anybody in.
fn by_header(head: &axum::http::request::Parts) -> Option<String> {
    let user = head.headers.get("x-user")?.to_str().ok()?;
    Some(user.to_owned())
}

async fn ask(app: &Router, user: &str) -> TestResult<Response<Body>> {
    let request = Request::get("/x")
        .header("x-user", user)
        .body(Body::empty())?;
    Ok(app.clone().oneshot(request).await?)
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value.map_or("", |value| value.to_str().unwrap_or("odd"))
}

/// Every response carries the limit, and when to come back with a refusal.
#[tokio::test]
async fn answers_carry_the_limit_and_refusals_say_when_to_return() -> TestResult {
    let server = RedisServer::start().await?;
    let (_client, limiter) = limiter(&server.url(), RateLimit::fixed_window(2, MINUTE)).await?;
    let layer = RateLimitLayer::new(limiter, "overview", OnFailure::Deny).user(by_header);
    let app = app(&layer);

    let first = ask(&app, "7").await?;
    assert_eq!(first.status(), StatusCode::OK);
    for (name, value) in [
        ("ratelimit-limit", "2"),
        ("ratelimit-remaining", "1"),
        ("ratelimit-reset", "60"),
        ("ratelimit-policy", "\"overview\";q=2;w=60"),
        ("ratelimit", "\"overview\";r=1;t=60"),
        ("retry-after", ""),
    ] {
        assert_eq!(header(&first, name), value, "{name}");
    }
    assert_eq!(&to_bytes(first.into_body(), 100).await?[..], b"fine");
    ask(&app, "7").await?;

    let refused = ask(&app, "7").await?;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(header(&refused, "retry-after"), "60");
    assert_eq!(header(&refused, "ratelimit-remaining"), "0");
    assert_eq!(header(&refused, "content-type"), "application/json");
    let body: Value = serde_json::from_slice(&to_bytes(refused.into_body(), 1_000).await?)?;
    let expected = json!({
        "statusCode": 429,
        "error": "Too Many Requests",
        "message": "rate limit exceeded",
        "retryAfter": 60,
    });
    assert_eq!(body, expected);

    assert_eq!(
        ask(&app, "8").await?.status(),
        StatusCode::OK,
        "users are apart"
    );
    let key = format!("ratelimit:overview:7:{}", START / 60_000);
    assert_eq!(server.int(&["GET", &key]).await?, 2);
    let stats = layer.stats();
    assert_eq!((stats.allowed, stats.refused), (3, 1));
    Ok(())
}

/// However many requests there are at once, in two processes, the handlers run as often as the
/// limit says: a rush must not look like a failure of Redis, which would let it pass.
#[tokio::test]
async fn concurrent_requests_never_pass_the_limit() -> TestResult {
    let server = RedisServer::start().await?;
    let limit = RateLimit::sliding_window(30, MINUTE);
    let (_one, first) = limiter(&server.url(), limit).await?;
    let (_other, second) = limiter(&server.url(), limit).await?;
    let apps = [first, second].map(|limiter| {
        let layer = RateLimitLayer::new(limiter, "x", OnFailure::Allow).deadline(DEADLINE);
        app(&layer)
    });
    let calls = (0..600).flat_map(|_| apps.iter().map(|app| ask(app, "7")));
    let mut allowed = 0;
    for response in join_all(calls).await {
        allowed += usize::from(response?.status() == StatusCode::OK);
    }
    assert_eq!(allowed, 30);
    Ok(())
}

/// Without Redis a request goes on or not, as was chosen, and either way soon.
#[tokio::test]
async fn without_redis_the_limit_fails_open_or_closed_as_chosen() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let (_client, limiter) = limiter(&proxy.url(), RateLimit::token_bucket(9, 9, MINUTE)).await?;
    let short = Duration::from_millis(20);
    let open = RateLimitLayer::new(limiter.clone(), "x", OnFailure::Allow).deadline(short);
    let closed = RateLimitLayer::new(limiter, "x", OnFailure::Deny).deadline(short);
    proxy.half_open(); // the worst: connected, and silent

    let passed = ask(&app(&open), "7").await?;
    assert_eq!(passed.status(), StatusCode::OK);
    assert_eq!(header(&passed, "ratelimit-limit"), "", "nothing is known");
    let refused = ask(&app(&closed), "7").await?;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(open.stats().undecided + closed.stats().undecided, 2);

    proxy.pass().await?;
    let app = app(&closed.deadline(DEADLINE));
    eventually(DEADLINE, async || {
        ask(&app, "7")
            .await
            .is_ok_and(|r| r.status() == StatusCode::OK)
    })
    .await?;
    Ok(())
}

/// Callers that leave while Redis is silent leave no request behind that counts against later ones.
#[tokio::test]
async fn callers_that_leave_do_not_use_up_the_requests_in_flight() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let (_client, limiter) = limiter(&proxy.url(), RateLimit::fixed_window(9, MINUTE)).await?;
    let layer = RateLimitLayer::new(limiter, "x", OnFailure::Deny)
        .deadline(DEADLINE)
        .user(by_header);
    let app = app(&layer);
    proxy.half_open();
    let mut calls = Vec::new();
    for _ in 0..600 {
        let mut call = Box::pin(ask(&app, "7"));
        assert!(futures::poll!(&mut call).is_pending());
        calls.push(call);
    }
    tokio::task::yield_now().await;
    drop(calls);
    proxy.pass().await?;
    let answer = ask(&app, "8").await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(layer.stats().undecided, 0);
    Ok(())
}

/// An id that could break a key is no way around the limit, whatever happens without Redis.
#[tokio::test]
async fn invalid_ids_are_refused_even_where_failures_pass() -> TestResult {
    let server = RedisServer::start().await?;
    let (_client, limiter) = limiter(&server.url(), RateLimit::fixed_window(9, MINUTE)).await?;
    let layer = RateLimitLayer::new(limiter, "x", OnFailure::Allow).user(by_header);
    for odd in ["a:b", "{a}", "", "a b"] {
        let refused = ask(&app(&layer), odd).await?;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{odd:?}");
        let body = to_bytes(refused.into_body(), 1_000).await?;
        assert!(!String::from_utf8_lossy(&body).contains("a:b"));
    }
    assert_eq!(layer.stats().invalid, 4);
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    let by_address = layer.user(|_| Some(escape_id("fe80::1")));
    assert_eq!(ask(&app(&by_address), "").await?.status(), StatusCode::OK);
    let shown = format!("{by_address:?}");
    assert!(!shown.contains("fe80") && !shown.contains("a:b"), "{shown}");
    Ok(())
}

/// Requests from nobody known share one limit; the endpoint can be each request's own.
#[tokio::test]
async fn anonymous_requests_share_a_limit_of_each_endpoint() -> TestResult {
    let server = RedisServer::start().await?;
    let (_client, limiter) = limiter(&server.url(), RateLimit::fixed_window(1, MINUTE)).await?;
    let layer = RateLimitLayer::new(limiter, "all", OnFailure::Deny)
        .endpoint(|head| escape_id(head.uri.path()));
    let app = app(&layer);
    assert_eq!(ask(&app, "7").await?.status(), StatusCode::OK);
    assert_eq!(
        ask(&app, "8").await?.status(),
        StatusCode::TOO_MANY_REQUESTS
    );
    let key = format!("ratelimit:%2Fx:anonymous:{}", START / 60_000);
    assert_eq!(server.int(&["GET", &key]).await?, 1);
    Ok(())
}
