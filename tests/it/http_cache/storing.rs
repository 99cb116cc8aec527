//! What is stored, under which key, and for whom.

use axum::Json;
use axum::body::Body;
use axum::body::to_bytes;
use axum::http::Method;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures::stream;
use oxbull::http::CacheLayer;
use oxbull::http::CacheOptions;
use oxbull_testkit::RedisServer;
use oxbull_testkit::eventually;
use std::time::Duration;
use tower::ServiceExt;

use super::{App, DEADLINE, TestResult, by_header, numbered, patient};

/// A cached endpoint is slow once and fast after, and its key is the one other clients compute.
#[tokio::test]
async fn second_request_is_answered_from_the_brief_key() -> TestResult {
    let server = RedisServer::start().await?;
    let app = App::start(&server.url(), patient().user(by_header), numbered).await?;
    let first = app.get("/api/overview/7?b=2&a=1").await?;
    assert_eq!((first.status, first.cache()), (StatusCode::OK, "miss"));
    assert_eq!(first.header("age"), "");
    let second = app.get("/api/overview/7?b=2&a=1").await?;
    assert_eq!((second.status, second.cache()), (StatusCode::OK, "hit"));
    assert_eq!(second.body, first.body);
    assert_eq!(second.header("etag"), "\"1\"");
    assert_eq!(second.header("content-type"), "application/json");
    assert_eq!(second.header("age"), "0");
    assert_eq!(app.runs(), 1);

    let key = "api:GET:/api/overview/7?b=2&a=1:anonymous";
    let stored = server.text(&["GET", key]).await?;
    assert_eq!(
        stored.as_deref(),
        Some(r#"{"run":1}"#),
        "JSON.parse reads it"
    );
    let left = server.int(&["TTL", key]).await?;
    assert!((3_500..=3_600).contains(&left), "{left}");
    assert_eq!(
        server.int(&["DBSIZE"]).await?,
        2,
        "no lock and no copy stays"
    );

    // The query's order is part of the URL, as it is for other clients.
    assert_eq!(app.get("/api/overview/7?a=1&b=2").await?.cache(), "miss");
    app.later(90);
    assert_eq!(
        app.get("/api/overview/7?b=2&a=1").await?.header("age"),
        "90"
    );
    let stats = app.layer.stats();
    assert_eq!(
        (stats.hits, stats.misses, stats.stores, stats.errors),
        (2, 2, 2, 0)
    );
    Ok(())
}

/// What a NestJS interceptor stored is a hit here, also over our own older entry.
#[tokio::test]
async fn entries_of_other_clients_are_hits() -> TestResult {
    let server = RedisServer::start().await?;
    let app = App::start(&server.url(), patient(), numbered).await?;
    let key = "api:GET:/a:anonymous";
    server
        .cli(&["SETEX", key, "3600", r#"{"from":"node"}"#])
        .await?;
    let hit = app.get("/a").await?;
    assert_eq!(
        (hit.cache(), hit.body.as_str()),
        ("hit", r#"{"from":"node"}"#)
    );
    assert_eq!(hit.header("content-type"), "application/json");

    app.get("/b").await?;
    server
        .cli(&["SETEX", "api:GET:/b:anonymous", "3600", "[2]"])
        .await?;
    let hit = app.get("/b").await?;
    assert_eq!(
        (hit.cache(), hit.body.as_str(), hit.header("etag")),
        ("hit", "[2]", "")
    );

    // What cannot be an interceptor's is replaced, of whatever type it is.
    server
        .cli(&["SET", "api:GET:/c:anonymous", "{broken"])
        .await?;
    server.cli(&["RPUSH", "api:GET:/d:anonymous", "x"]).await?;
    for path in ["/c", "/d"] {
        assert_eq!(app.get(path).await?.cache(), "miss");
        assert_eq!(app.get(path).await?.cache(), "hit");
    }
    Ok(())
}

/// JSON.parse of an interceptor must never meet what is no JSON, or another request's variant.
#[tokio::test]
async fn bodies_that_others_cannot_read_stay_off_the_brief_key() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match request.uri().path() {
            "/text" => format!("run {run}").into_response(),
            "/lie" => ([("content-type", "application/json")], "{broken").into_response(),
            "/vary" => ([("vary", "accept")], Json(run)).into_response(),
            _ => ([("content-encoding", "br")], Json(run)).into_response(),
        }
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    for path in ["/text", "/lie", "/vary", "/packed"] {
        let key = format!("api:GET:{path}:anonymous");
        server.cli(&["SET", &key, "{older"]).await?;
        let first = app.get(path).await?;
        let second = app.get(path).await?;
        assert_eq!(second.cache(), "hit", "{path}");
        assert_eq!(second.body, first.body);
        assert_eq!(second.header("content-type"), first.header("content-type"));
        assert_eq!(server.int(&["EXISTS", &key]).await?, 0, "{path}");
    }
    let other = app
        .send(Request::get("/vary").header("accept", "text/html"))
        .await?;
    assert_eq!(other.cache(), "miss");
    let head = app.send(Request::head("/text")).await?;
    assert_eq!(head.cache(), "miss", "HEAD has entries of its own");
    let head = app.send(Request::head("/text")).await?;
    assert_eq!((head.cache(), head.body.as_str()), ("hit", ""));
    assert!(head.header("content-length") != "0");
    Ok(())
}

/// What is one user's is never another's, and never everybody's.
#[tokio::test]
async fn users_are_apart() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |_: usize, request: Request<Body>| async move {
        let user = request.headers().get("x-user").cloned();
        Json(user.map(|user| user.to_str().unwrap().to_owned())).into_response()
    };
    let app = App::start(&server.url(), patient().user(by_header), handler).await?;
    let by = |user: &str| Request::get("/me").header("x-user", user);
    for user in ["7", "8"] {
        assert_eq!(app.send(by(user)).await?.cache(), "miss");
        let hit = app.send(by(user)).await?;
        assert_eq!(hit.cache(), "hit");
        assert_eq!(hit.body, format!("\"{user}\""));
    }
    assert_eq!(app.get("/me").await?.body, "null");
    assert_eq!(
        server
            .int(&["EXISTS", "api:GET:/me:7", "api:GET:/me:anonymous"])
            .await?,
        2
    );

    let keys = server.int(&["DBSIZE"]).await?;
    for user in ["anonymous", "a:b", "{7}"] {
        assert_eq!(app.send(by(user)).await?.cache(), "bypass", "{user}");
    }
    for (name, value) in [("authorization", "Bearer t0ken"), ("cookie", "sid=t0ken")] {
        let answer = app.send(Request::get("/me").header(name, value)).await?;
        assert_eq!(answer.cache(), "bypass", "{name}");
    }
    let known = by("7").header("authorization", "Bearer t0ken");
    assert_eq!(app.send(known).await?.cache(), "hit");
    assert_eq!(server.int(&["DBSIZE"]).await?, keys);
    assert_eq!(app.layer.stats().bypassed, 5);
    Ok(())
}

/// Cookies, secrets, errors and other methods' answers are never stored.
#[tokio::test]
async fn responses_for_one_reader_are_not_stored() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        let json = Json(run);
        match request.uri().path() {
            "/cookie" => ([("set-cookie", "sid=t0ken")], json).into_response(),
            "/no-store" => ([("cache-control", "no-store")], json).into_response(),
            "/private" => ([("cache-control", "private, max-age=9")], json).into_response(),
            "/star" => ([("vary", "*")], json).into_response(),
            "/missing" => (StatusCode::NOT_FOUND, json).into_response(),
            "/broken" => (StatusCode::INTERNAL_SERVER_ERROR, json).into_response(),
            _ => json.into_response(),
        }
    };
    let options = patient().methods([Method::GET]);
    let app = App::start(&server.url(), options, handler).await?;
    for path in [
        "/cookie",
        "/no-store",
        "/private",
        "/star",
        "/missing",
        "/broken",
    ] {
        let first = app.get(path).await?;
        let second = app.get(path).await?;
        assert_eq!((first.cache(), second.cache()), ("miss", "miss"), "{path}");
        assert_ne!(first.body, second.body, "{path}");
    }
    assert_eq!(app.send(Request::post("/x")).await?.cache(), "bypass");
    assert_eq!(app.send(Request::head("/x")).await?.cache(), "bypass");
    let part = Request::get("/x").header("range", "bytes=0-1");
    assert_eq!(app.send(part).await?.cache(), "bypass");
    let long = format!("/{}", "x".repeat(2_048));
    assert_eq!(app.get(&long).await?.cache(), "bypass");
    eventually(DEADLINE, async || {
        server.int(&["DBSIZE"]).await.is_ok_and(|keys| keys == 0)
    })
    .await?;
    Ok(())
}

/// The answer's own time is kept where it is shorter, and other codes where they are asked for.
#[tokio::test]
async fn options_say_what_is_kept_and_for_how_long() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match request.uri().path() {
            "/short" => ([("cache-control", "max-age=60")], Json(run)).into_response(),
            _ => (StatusCode::NOT_FOUND, Json(run)).into_response(),
        }
    };
    let options = patient()
        .ttl(Duration::from_secs(600))
        .statuses([StatusCode::OK, StatusCode::NOT_FOUND]);
    let app = App::start(&server.url(), options, handler).await?;
    app.get("/short").await?;
    app.get("/missing").await?;
    let hit = app.get("/missing").await?;
    assert_eq!((hit.cache(), hit.status), ("hit", StatusCode::NOT_FOUND));
    for (key, most) in [
        ("api:GET:/short:anonymous", 60),
        ("api:meta:GET:/short:anonymous", 60),
        ("api:meta:GET:/missing:anonymous", 600),
    ] {
        let left = server.int(&["TTL", key]).await?;
        assert!((1..=most).contains(&left), "{key}: {left}");
    }
    let odd = [
        CacheOptions::default().ttl(Duration::ZERO),
        CacheOptions::default().methods([Method::POST]),
        CacheOptions::default().statuses([StatusCode::BAD_GATEWAY]),
        CacheOptions::default().lease(Duration::ZERO),
    ];
    for options in odd {
        let refused = CacheLayer::new(&app.client.cache(), options);
        assert!(
            matches!(refused, Err(oxbull::Error::Invalid { .. })),
            "{refused:?}"
        );
    }
    Ok(())
}

/// A body over the limit, or one that fails half way, passes as it is and is not stored.
#[tokio::test]
async fn large_and_broken_bodies_pass_unstored() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |_: usize, request: Request<Body>| async move {
        let chunk = |letter: &str| Ok::<_, std::io::Error>(letter.repeat(400));
        let mut chunks = vec![chunk("a"), chunk("b")];
        match request.uri().path() {
            "/large" => chunks.push(chunk("c")),
            "/broken" => chunks.push(Err(std::io::Error::other("cut"))),
            "/known" => return "x".repeat(1_001).into_response(),
            _ => {}
        }
        Body::from_stream(stream::iter(chunks)).into_response()
    };
    let app = App::start(&server.url(), patient().body_limit(1_000), handler).await?;
    for _ in 0..2 {
        let large = app.get("/large").await?;
        assert_eq!((large.cache(), large.body.len()), ("miss", 1_200));
        assert_eq!(large.body.find('c'), Some(800));
        let broken = app
            .router
            .clone()
            .oneshot(Request::get("/broken").body(Body::empty())?);
        assert!(
            to_bytes(broken.await?.into_body(), usize::MAX)
                .await
                .is_err()
        );
        assert_eq!(app.get("/known").await?.body.len(), 1_001);
    }
    assert_eq!(app.get("/fits").await?.cache(), "miss");
    let fits = app.get("/fits").await?;
    assert_eq!((fits.cache(), fits.body.len()), ("hit", 800));
    Ok(())
}
