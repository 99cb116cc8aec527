//! Redis that fails, is away or loses answers.

use crate::logs::Logs;
use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::http::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures::future::join_all;
use oxbull::http::CacheOptions;
use oxbull::http::CacheTags;
use oxbull_testkit::Proxy;
use oxbull_testkit::RedisServer;
use oxbull_testkit::Rule;
use oxbull_testkit::eventually;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tracing::Level;

use super::{App, DEADLINE, TestResult, by_header, numbered, patient};

/// An entry that cannot be stored leaves no lock behind, which others would wait for.
#[tokio::test]
async fn lock_is_given_up_when_storing_fails() -> TestResult {
    let server = RedisServer::start().await?;
    server.cli(&["SET", "api:tag:t", "no set"]).await?;
    let handler = |run: usize, _: Request<Body>| async move {
        (Extension(CacheTags::new(["t"]).unwrap()), Json(run)).into_response()
    };
    let app = App::start(&server.url(), patient(), handler).await?;
    let answer = app.get("/x").await?;
    assert_eq!((answer.status, answer.cache()), (StatusCode::OK, "miss"));
    let stats = app.layer.stats();
    assert_eq!((stats.stores, stats.errors), (0, 1));
    // Nothing is left but the odd key: refused before the first write.
    let left = || server.int(&["DBSIZE"]);
    eventually(DEADLINE, async || left().await.is_ok_and(|keys| keys == 1)).await?;
    Ok(())
}

/// A lock that was taken after its caller had stopped waiting would make other processes wait for
/// nothing.
#[tokio::test]
async fn lock_taken_too_late_is_given_up() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let warm = App::start(&server.url(), patient(), numbered).await?;
    warm.get("/warm").await?; // the scripts are known
    let options = CacheOptions::default()
        .deadline(Duration::from_millis(500))
        .lease(Duration::from_secs(3_600));
    let app = App::start(&proxy.url(), options, numbered).await?;
    let late = proxy.add(Rule::delay_reply(Duration::from_secs(1), |c| c.is("EVALSHA")).nth(1));
    assert_eq!(app.get("/x").await?.cache(), "miss");
    assert_eq!(late.matched(), 1);
    eventually(DEADLINE, async || {
        let lock = server.int(&["EXISTS", "api:lock:GET:/x:anonymous"]).await;
        lock.is_ok_and(|found| found == 0)
    })
    .await?;
    assert_eq!(warm.get("/x").await?.cache(), "miss");
    Ok(())
}

/// Whatever is wrong with Redis, requests are answered by the handler, never with an error.
#[tokio::test]
async fn broken_redis_is_a_miss() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let options = CacheOptions::default().deadline(Duration::from_millis(20));
    let app = App::start(&proxy.url(), options, numbered).await?;
    let errors = || app.layer.stats().errors;
    let miss = async |what: &str| -> TestResult {
        let before = errors();
        let answers = join_all((0..20).map(|_| app.get("/x"))).await;
        for answer in answers {
            let answer = answer?;
            assert_eq!(answer.status, StatusCode::OK, "{what}");
            assert!(["miss", "hit"].contains(&answer.cache()), "{what}");
        }
        assert!(errors() > before, "{what}");
        Ok(())
    };
    server.freeze()?;
    miss("frozen").await?;
    server.thaw()?;
    proxy.half_open();
    miss("silent").await?;
    proxy.pass().await?;
    proxy.refuse().await?;
    proxy.kill_all();
    miss("refused").await?;
    proxy.pass().await?;
    server.kill_hard();
    miss("dead").await?;
    server.restart_with(&["maxmemory 1"]).await?;
    // It answers again, and refuses every write.
    eventually(DEADLINE, async || {
        let before = app.layer.stats().errors;
        app.get("/x").await.is_ok_and(|a| a.cache() == "miss") && app.layer.stats().errors > before
    })
    .await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await?;
    eventually(DEADLINE, async || {
        app.get("/x").await.is_ok_and(|a| a.cache() == "hit")
    })
    .await?;
    Ok(())
}

/// Redis that dies while the handler runs costs the entry, not the answer.
#[tokio::test]
async fn redis_that_dies_during_the_handler_costs_nothing_but_the_entry() -> TestResult {
    let server = Arc::new(RedisServer::start().await?);
    let killed = Arc::clone(&server);
    let handler = move |run: usize, _: Request<Body>| {
        let killed = Arc::clone(&killed);
        async move {
            killed.kill_hard();
            Json(run).into_response()
        }
    };
    let options = CacheOptions::default();
    let app = App::start(&server.url(), options, handler).await?;
    let answer = app.get("/x").await?;
    assert_eq!(
        (answer.status, answer.cache(), answer.body.as_str()),
        (StatusCode::OK, "miss", "1")
    );
    let stats = app.layer.stats();
    assert_eq!((stats.stores, stats.errors >= 1), (0, true));
    Ok(())
}

/// A lost answer to storing is asked for again and leaves the same entry.
#[tokio::test]
async fn lost_answers_are_asked_for_again() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let app = App::start(&proxy.url(), patient(), numbered).await?;
    app.get("/warm").await?; // the scripts are known
    proxy.add(Rule::drop_reply(|c| c.is("MGET")).nth(1));
    proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).times(2));
    assert_eq!(app.get("/x").await?.cache(), "miss");
    assert_eq!(app.get("/x").await?.cache(), "hit");
    assert_eq!(
        server.int(&["EXISTS", "api:lock:GET:/x:anonymous"]).await?,
        0
    );
    assert_eq!(app.layer.stats().errors, 0);
    Ok(())
}

/// Neither what is printed nor what is logged shows a user, a URL or a body.
#[tokio::test]
async fn nothing_secret_is_shown() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::start().await?;
    let options = patient().user(by_header);
    let app = App::start(&server.url(), options, |_, _| async {
        Json(Value::from("s3cret-body")).into_response()
    })
    .await?;
    let request = || Request::get("/x?token=s3cret-url").header("x-user", "s3cret-user");
    app.send(request()).await?;
    app.send(request()).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    app.send(request().header("x-user", "s3cret-other")).await?;
    let failing = Request::get("/y?token=s3cret-url").header("x-user", "s3cret-user");
    app.send(failing).await?;
    assert_eq!(logs.of(Level::DEBUG, "cache=Hit").len(), 2);
    assert_eq!(logs.of(Level::WARN, "without redis").len(), 1);
    for shown in [logs.all(), format!("{:?}", app.layer)] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    Ok(())
}
