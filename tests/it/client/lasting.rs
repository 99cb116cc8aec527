//! Connections that come back, callers who give up, and the end of a client.

use std::time::Duration;

use oxbull::Error;
use oxbull::client::{Client, Command, Repeat, Value};
use oxbull_testkit::{Proxy, RedisServer, eventually};
use tracing::Level;

use super::*;
use crate::logs::Logs;

/// A killed server costs failures while it is away, and nothing once it is back.
#[tokio::test]
async fn client_is_back_after_a_server_restart() -> TestResult {
    let server = RedisServer::builder().durable().start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    client.kv().set_text("k", "kept").await?;
    server.kill_hard();
    let away = async || client.kv().get_text("k").await.is_err();
    eventually(DEADLINE, away).await?;
    server.restart().await?;
    let value = eventually(DEADLINE, async || client.kv().get_text("k").await).await?;
    assert_eq!(value.as_deref(), Some("kept"));
    settles_at(&server, 1).await?;
    Ok(())
}

/// The client reconnects by itself: the next request finds the connection made.
#[tokio::test]
async fn reconnect_does_not_wait_for_a_request() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    server.restart().await?;
    settles_at(&server, 1).await?;
    drop(client);
    settles_at(&server, 0).await?;
    Ok(())
}

/// Killed connections under load fail no repeatable request.
#[tokio::test]
async fn client_kill_under_load_fails_nothing_repeatable() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?.retries(20)).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let kv = client.kv();
        tasks.spawn(async move {
            for n in 0..200 {
                kv.set(&format!("k{task}"), &n).await?;
                let read: Option<u32> = kv.get(&format!("k{task}")).await?;
                assert_eq!(read, Some(n));
            }
            Ok::<_, Error>(())
        });
    }
    for _ in 0..5 {
        server
            .cli(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await?;
        settles_at(&server, 1).await?;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Causes that repeat are logged once a second at most.
#[tokio::test]
async fn outage_is_logged_without_a_flood() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::start().await?;
    let config = config(&server.url())?
        .reconnect_backoff(Duration::from_millis(1), Duration::from_millis(1));
    let client = Client::connect(config).await?;
    assert_eq!(logs.of(Level::INFO, "redis connected").len(), 1);
    server.kill_hard();
    let started = std::time::Instant::now();
    eventually(DEADLINE, async || {
        logs.of(Level::ERROR, "redis connection failed").len() >= 3
    })
    .await?;
    // The first line comes at once, so three take two seconds, whatever the number of attempts.
    assert!(started.elapsed() >= Duration::from_millis(1900));
    let last = logs.of(Level::ERROR, "redis connection failed").pop();
    let last = last.unwrap_or_default();
    assert!(
        last.contains("suppressed=") && !last.contains("suppressed=0"),
        "{last}"
    );
    assert_eq!(logs.of(Level::WARN, "redis connection lost").len(), 1);
    client.close().await;
    Ok(())
}

/// The health check tells up from down within its deadline.
#[tokio::test]
async fn health_follows_the_server() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    assert!(client.health(DEADLINE).await.is_up());
    server.freeze()?;
    let health = client.health(Duration::from_millis(100)).await;
    assert!(
        matches!(health.error, Some(Error::Timeout(_))),
        "{health:?}"
    );
    server.thaw()?;
    eventually(DEADLINE, async || client.health(DEADLINE).await.is_up()).await?;
    server.kill_hard();
    eventually(DEADLINE, async || !client.health(DEADLINE).await.is_up()).await?;
    Ok(())
}

/// Closing ends every connection and call, also while the server is away.
#[tokio::test]
async fn closed_client_is_closed_for_all_clones() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    let clone = client.clone();
    client.close().await;
    client.close().await;
    assert!(matches!(clone.kv().exists("k").await, Err(Error::Closed)));
    settles_at(&server, 0).await?;

    let client = Client::connect(config(&server.url())?).await?;
    server.kill_hard();
    client.close().await;
    let ping = client.request(Command::new("PING"), Repeat::Safe).await;
    assert!(matches!(ping, Err(Error::Closed)), "{ping:?}");
    Ok(())
}

/// Callers who give up before the deadline of commands do not hide a silent peer: the socket is
/// replaced, on each of the client's connections.
#[tokio::test]
async fn callers_without_patience_do_not_hide_a_silent_peer() -> TestResult {
    const SHORT: Duration = Duration::from_millis(100);
    let server = RedisServer::start().await?;
    let (queue, cache) = (
        Proxy::start(server.port()).await?,
        Proxy::start(server.port()).await?,
    );
    let deadline = Duration::from_millis(500);
    let second = config(&cache.url())?.command_deadline(deadline);
    let config = config(&queue.url())?
        .command_deadline(deadline)
        .cache(second);
    let client = Client::connect(config).await?;
    let patient = async |kv: oxbull::kv::Kv| {
        let exists = tokio::time::timeout(SHORT, kv.exists("k")).await;
        matches!(exists, Ok(Ok(_)))
    };
    assert!(patient(client.kv()).await && patient(client.cache()).await);
    for proxy in [&queue, &cache] {
        // What is open stays silent; what is opened from now on works.
        proxy.half_open();
        proxy.pass().await?;
    }
    eventually(DEADLINE, async || client.health(SHORT).await.is_up()).await?;
    eventually(DEADLINE, async || patient(client.cache()).await).await?;
    Ok(())
}

/// An answer may be nested as deep as a script can make it; the connection that others share stays.
#[tokio::test]
async fn deep_answers_leave_the_connection_alone() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    let before = server.text(&["CLIENT", "LIST"]).await?;
    let nested = "local t = {1} for _ = 1, 150 do t = {t} end return t";
    let eval = Command::new("EVAL").args([nested, "0"]);
    let mut value = client.request(eval, Repeat::Safe).await?;
    let mut depth = 0;
    while let Value::Array(mut items) = value {
        value = items.pop().ok_or("an empty list")?;
        depth += 1;
    }
    assert_eq!((depth, value), (151, Value::Int(1)));
    let id = |list: Option<String>| {
        let list = list.unwrap_or_default();
        let line = list.lines().find(|line| line.contains("name=oxbull"));
        line.and_then(|line| line.split(' ').next().map(str::to_owned))
    };
    let after = server.text(&["CLIENT", "LIST"]).await?;
    assert_eq!(id(before), id(after));
    Ok(())
}

/// A client's tasks run on the runtime on which it was first used. Elsewhere, while nothing drives
/// that one, the error says where to look.
#[test]
fn runtime_that_stands_still_is_named() -> TestResult {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
    };
    let (first, second) = (runtime()?, runtime()?);
    let (client, server) = first.block_on(async {
        let server = RedisServer::start().await?;
        let config = config(&server.url())?.command_deadline(Duration::from_millis(200));
        let client = Client::connect(config).await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>((client, server))
    })?;
    let texts = second.block_on(async {
        let mut texts = Vec::new();
        for _ in 0..2 {
            let error = client.kv().exists("k").await.expect_err("nobody reads it");
            texts.push(shown(&error));
        }
        texts
    });
    let named = |text: &String| text.contains("runtime on which the client was first used");
    assert!(texts.iter().any(named), "{texts:?}");
    drop(server);
    Ok(())
}
