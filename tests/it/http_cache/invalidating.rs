//! Old responses, tags and their invalidation.

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures::future::join_all;
use oxbull::http::CacheTags;
use oxbull_testkit::RedisServer;
use oxbull_testkit::eventually;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use super::{App, DEADLINE, TestResult, patient};

/// When the handler fails, an old response is better than none; without one the failure shows.
#[tokio::test]
async fn old_response_stands_in_for_a_failing_handler() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        match (request.uri().path(), run) {
            ("/strict", 1) => ([("cache-control", "must-revalidate")], Json(run)).into_response(),
            (_, 1) => ([("x-kept", "yes")], Json(run)).into_response(),
            ("/panics", _) => panic!("on purpose"),
            _ => StatusCode::BAD_GATEWAY.into_response(),
        }
    };
    let options = || patient().stale_while_error(Duration::from_secs(600));
    for path in ["/fails", "/panics"] {
        let app = App::start(&server.url(), options(), handler).await?;
        app.get(path).await?;
        server
            .cli(&["DEL", &format!("api:GET:{path}:anonymous")])
            .await?; // it expires
        app.later(4_000);
        for answer in join_all((0..10).map(|_| app.get(path))).await {
            let answer = answer?;
            assert_eq!(
                (answer.status, answer.cache()),
                (StatusCode::OK, "stale"),
                "{path}"
            );
            assert_eq!(
                (answer.body.as_str(), answer.header("x-kept")),
                ("1", "yes")
            );
            assert_eq!(answer.header("age"), "4000");
            assert!(answer.header("warning").starts_with("111 "));
        }
        assert_eq!(app.layer.stats().stale, 10);
        let left = server
            .int(&["TTL", &format!("api:stale:GET:{path}:anonymous")])
            .await?;
        assert!((4_100..=4_200).contains(&left), "{left}");
    }
    let app = App::start(&server.url(), options(), handler).await?;
    app.get("/strict").await?;
    server.cli(&["DEL", "api:GET:/strict:anonymous"]).await?;
    assert_eq!(app.get("/strict").await?.status, StatusCode::BAD_GATEWAY);
    assert_eq!(app.get("/never").await?.status, StatusCode::BAD_GATEWAY);
    let panicking = Arc::new(app);
    let caller = Arc::clone(&panicking);
    let panicked = tokio::spawn(async move { caller.get("/panics").await.is_ok() });
    // "/panics" of an earlier process is still there: without it the panic is the caller's.
    assert!(panicked.await?);
    server
        .cli(&["DEL", "api:stale:GET:/panics:anonymous"])
        .await?;
    let caller = Arc::clone(&panicking);
    let panicked = tokio::spawn(async move { caller.get("/panics").await.is_ok() });
    assert!(panicked.await.is_err_and(|error| error.is_panic()));
    Ok(())
}

/// A change deletes all that was made from what it changed, and nothing else.
#[tokio::test]
async fn invalidation_deletes_the_entries_of_a_tag() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, request: Request<Body>| async move {
        let account = request
            .uri()
            .path()
            .split('/')
            .nth(1)
            .unwrap_or_default()
            .to_owned();
        let tags = CacheTags::new([format!("account-{account}"), "all".to_owned()]).unwrap();
        (Extension(tags), Json(run)).into_response()
    };
    let options = patient().stale_while_error(Duration::from_secs(60));
    let app = App::start(&server.url(), options, handler).await?;
    for page in 0..450 {
        app.get(&format!("/7/{page}")).await?;
    }
    app.get("/8/0").await?;
    let left = server.int(&["PTTL", "api:tag:account-7"]).await?;
    assert!((3_500_000..=3_660_000).contains(&left), "{left}");
    server.cli(&["CONFIG", "RESETSTAT"]).await?;
    assert_eq!(app.layer.invalidate("account-7").await?, 450);
    let stats = server.info("commandstats").await?;
    let steps = stats
        .get("cmdstat_evalsha")
        .map(String::as_str)
        .unwrap_or_default();
    let texts = stats
        .get("cmdstat_eval")
        .map(String::as_str)
        .unwrap_or_default();
    assert!(
        steps.starts_with("calls=3,") && texts.starts_with("calls=1,"),
        "{steps} {texts}"
    );
    for never in ["cmdstat_keys", "cmdstat_scan"] {
        assert!(!stats.contains_key(never), "{never}");
    }
    assert_eq!(
        server
            .int(&[
                "EXISTS",
                "api:tag:account-7",
                "api:stale:GET:/7/0:anonymous"
            ])
            .await?,
        0
    );
    assert_eq!(app.get("/8/0").await?.cache(), "hit");
    app.later(1); // past the mark
    assert_eq!(app.get("/7/0").await?.cache(), "miss");
    assert_eq!(app.get("/7/0").await?.cache(), "hit");
    assert!(app.layer.invalidate("a:b").await.is_err());
    assert_eq!(app.layer.invalidate("unknown").await?, 0);
    Ok(())
}

/// An answer made before a change must not be stored after it.
#[tokio::test]
async fn answer_made_during_an_invalidation_is_not_stored() -> TestResult {
    let server = RedisServer::start().await?;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let handler = move |run: usize, _: Request<Body>| {
        let gate = Arc::clone(&held);
        async move {
            drop(gate.acquire().await);
            (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
        }
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    let call = app.get("/x");
    let change = async {
        eventually(DEADLINE, async || app.runs() == 1).await?;
        app.layer.invalidate("t").await?;
        gate.add_permits(9);
        TestResult::Ok(())
    };
    let (answer, changed) = futures::join!(call, change);
    changed?;
    assert_eq!(answer?.cache(), "miss");
    assert_eq!(
        server
            .int(&[
                "EXISTS",
                "api:GET:/x:anonymous",
                "api:lock:GET:/x:anonymous"
            ])
            .await?,
        0
    );
    Ok(())
}

/// Sets of tags drop what has expired, so that they stay bounded.
#[tokio::test]
async fn tags_lose_expired_entries() -> TestResult {
    let server = RedisServer::start().await?;
    let handler = |run: usize, _: Request<Body>| async move {
        (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    for page in 0..150 {
        app.get(&format!("/{page}")).await?;
    }
    assert_eq!(server.int(&["ZCARD", "api:tag:t"]).await?, 150);
    app.later(3_700);
    for (path, left) in [("/a", 51), ("/b", 2)] {
        app.get(path).await?;
        assert_eq!(server.int(&["ZCARD", "api:tag:t"]).await?, left);
    }
    Ok(())
}
