//! Connecting: what a client says and does about servers that are away, slow or unsuitable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oxbull::Error;
use oxbull::client::{Client, ClientConfig, Flavor, TlsOptions};
use oxbull_testkit::{Proxy, RedisServer, TlsFiles, free_port};
use tracing::Level;

use super::fake::{Fake, bulk, name_of, plain};
use super::*;
use crate::logs::Logs;

/// A peer that accepts and then says nothing must not hang the start.
#[tokio::test]
async fn connect_to_a_silent_peer_ends() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    proxy.half_open();
    let config = config(&proxy.url())?.connect_timeout(Duration::from_millis(100));
    let error = Client::connect(config).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    Ok(())
}

/// A server that is not there is named, with the reason.
#[tokio::test]
async fn connect_without_a_server_says_where_and_why() -> TestResult {
    let port = free_port()?;
    let error = Client::connect(config(&format!("redis://:hunter2@127.0.0.1:{port}"))?)
        .await
        .unwrap_err();
    let text = shown(&error);
    assert!(matches!(error, Error::Unreachable(_)), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    Ok(())
}

/// A server that starts a little later is waited for.
#[tokio::test]
async fn connect_waits_for_a_server_that_is_starting() -> TestResult {
    let server = RedisServer::start().await?;
    server.kill_hard();
    let config = ClientConfig::from_url(&server.url())?.start_deadline(DEADLINE);
    let (client, restarted) = tokio::join!(Client::connect(config), server.restart());
    restarted?;
    assert!(client?.health(DEADLINE).await.is_up());
    Ok(())
}

/// Wrong credentials fail at once, and neither errors nor logs repeat them.
#[tokio::test]
async fn wrong_password_is_denied_and_never_shown() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::builder().password("right").start().await?;
    let base = ClientConfig::new()
        .port(server.port())
        .start_deadline(DEADLINE);
    for config in [
        base.clone(),
        base.clone().password("hunter2"),
        base.clone().username("nobody").password("hunter2"),
    ] {
        let all = format!("{config:?} {config}");
        let error = Client::connect(config).await.unwrap_err();
        let text = shown(&error);
        assert!(matches!(error, Error::Denied(_)), "{text}");
        assert!(!format!("{all} {text}").contains("hunter2"), "{all} {text}");
    }
    let client = Client::connect(base.password("right")).await?;
    assert!(!format!("{client:?}").contains("right"));
    assert!(!logs.of(Level::ERROR, "redis connection failed").is_empty());
    assert!(!logs.all().contains("hunter2"), "{}", logs.all());
    Ok(())
}

/// Errors of settings name the place, the cause and the remedy, once each.
#[tokio::test]
async fn connection_errors_name_address_cause_and_remedy() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    let tls_port = server.tls_port().ok_or("no tls port")?;
    let locked = RedisServer::builder().password("right").start().await?;
    let locked = ClientConfig::new().port(locked.port());
    let trusting = TlsOptions::new().roots_pem(std::fs::read(&files.authority)?);
    let stranger = tempfile::tempdir()?;
    let stranger = std::fs::read(TlsFiles::generate(stranger.path())?.authority)?;
    let sentinel = RedisServer::builder().sentinel().start().await?;
    let node = RedisServer::builder().cluster().start().await?;
    let web = raw_server("HTTP/1.1 400 Bad Request\r\n\r\n").await?;
    let shell = raw_server("SSH-2.0-OpenSSH_9.6\r\n").await?;
    let silent = raw_server("").await?;
    let plain = config(&server.url())?;
    let local = |port| ClientConfig::new().port(port);
    let cases = [
        (
            local(free_port()?),
            "nothing listens there",
            "check host and port",
        ),
        (
            local(1).host("no-such-host.invalid"),
            "lookup",
            "check the host name",
        ),
        (
            plain.clone().tls(trusting.clone()),
            "does not use TLS",
            "use redis://",
        ),
        (local(tls_port), "TLS", "use rediss://"),
        (
            local(tls_port)
                .host("localhost")
                .tls(TlsOptions::new().roots_pem(stranger)),
            "certificate",
            "give the certificate",
        ),
        (plain.clone().db(99), "database 99", "out of range"),
        (locked.clone(), "asks for a password", "none is set"),
        (
            locked.clone().password("wrong"),
            "WRONGPASS",
            "check user name and password",
        ),
        (
            locked.username("nobody").password("right"),
            "WRONGPASS",
            "check user name and password",
        ),
        (
            config(&sentinel.url())?,
            "it is a sentinel",
            "write redis+sentinel://",
        ),
        (
            config(&node.url())?,
            "it is a node of a cluster",
            "write redis+cluster://",
        ),
        (local(web), "HTTP", "check the port"),
        (
            local(shell),
            "does not speak the redis protocol",
            "check the port",
        ),
        (local(silent), "did not answer within", "use rediss://"),
    ];
    let texts = cases.map(async |(config, cause, remedy)| {
        let address = address_of(&config);
        let config = config
            .connect_timeout(Duration::from_millis(500))
            .start_deadline(Duration::from_secs(2));
        let error = Client::connect(config).await.unwrap_err();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |&e| e.source());
        let texts: Vec<String> = causes.map(ToString::to_string).collect();
        (texts, address, cause, remedy)
    });
    for (texts, address, cause, remedy) in futures::future::join_all(texts).await {
        let all = texts.join(": ");
        assert!(all.contains(cause) && all.contains(remedy), "{all}");
        for once in [
            address.as_str(),
            "redis is unreachable",
            "denied access",
            "unsuitable",
        ] {
            assert!(all.matches(once).count() <= 1, "{once} in {all}");
        }
        assert!(all.contains(&address), "{address} in {all}");
    }
    Ok(())
}

/// The server that a configuration names: `host:port`.
fn address_of(config: &ClientConfig) -> String {
    let url = config.to_string();
    let authority = url.split('/').nth(2).unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default().to_owned()
}

/// A peer that is no Redis server and has one thing to say to everybody; returns its port.
async fn raw_server(says: &'static str) -> std::io::Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let said = tokio::io::AsyncWriteExt::write_all(&mut stream, says.as_bytes()).await;
            open.push((stream, said));
        }
    });
    Ok(port)
}

/// A password too many is a mistake worth a warning, not an outage.
#[tokio::test]
async fn needless_password_is_a_warning() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?.password("hunter2")).await?;
    assert!(client.health(DEADLINE).await.is_up());
    assert_eq!(logs.of(Level::WARN, "a password is set").len(), 1);
    assert!(!logs.all().contains("hunter2"));
    Ok(())
}

/// A server that loads its data is waited for, and not used before.
#[tokio::test]
async fn loading_server_is_waited_for() -> TestResult {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let server = Fake::start(move |command| match name_of(command) {
        "INFO" if count.fetch_add(1, Ordering::Relaxed) < 2 => {
            bulk("redis_version:7.0.15\r\nloading:1\r\n")
        }
        "PING" if count.load(Ordering::Relaxed) < 1 => {
            "-LOADING Redis is loading the dataset in memory\r\n".to_owned()
        }
        name => plain(name),
    })
    .await?;
    let config = ClientConfig::from_url(&server.url())?
        .start_deadline(DEADLINE)
        .retries(0);
    let client = Client::connect(config).await?;
    assert!(client.health(DEADLINE).await.is_up());
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    Ok(())
}

/// A replica refuses writes: the ready check does not take it for the server.
#[tokio::test]
async fn replica_is_not_ready_unless_the_check_is_off() -> TestResult {
    let server = Fake::with_info("redis_version:7.0.15\r\nrole:slave\r\n").await?;
    let error = Client::connect(config(&server.url())?).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    assert!(shown(&error).contains("replica"), "{}", shown(&error));
    Client::connect(config(&server.url())?.ready_check(false)).await?;
    Ok(())
}

/// Versions whose scripts and commands are too old are refused, old ones warned about.
#[tokio::test]
async fn old_server_is_refused_or_warned_about() -> TestResult {
    let logs = Logs::capture();
    let ancient = Fake::with_info("redis_version:4.0.14\r\n").await?;
    let error = Client::connect(config(&ancient.url())?).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unsuitable(text) if text.contains("4.0.14")),
        "{error:?}"
    );
    Client::connect(config(&ancient.url())?.skip_version_check(true)).await?;
    assert!(logs.of(Level::WARN, "6.2.0").is_empty());

    let old = Fake::with_info("redis_version:6.0.16\r\n").await?;
    Client::connect(config(&old.url())?).await?;
    assert_eq!(logs.of(Level::WARN, "6.2.0").len(), 1);

    let other = Fake::with_info("redis_version:2.0.15\r\ndragonfly_version:df-v1.0\r\n").await?;
    let client = Client::connect(config(&other.url())?).await?;
    assert_eq!(client.server().flavor, Flavor::Dragonfly);
    Ok(())
}

/// A server that evicts keys loses jobs: a loud warning, or an error for the strict.
#[tokio::test]
async fn evicting_policy_is_a_warning_or_an_error() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::start_with(&["maxmemory-policy allkeys-lru"]).await?;
    let client = Client::connect(config(&server.url())?).await?;
    let health = client.health(DEADLINE).await;
    assert_eq!(health.eviction_policy.as_deref(), Some("allkeys-lru"));
    assert_eq!(logs.of(Level::WARN, "allkeys-lru").len(), 1);

    let strict = config(&server.url())?.strict_eviction(true);
    let error = Client::connect(strict).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unsuitable(text) if text.contains("allkeys-lru")),
        "{error:?}"
    );

    // A cache may evict, also for the strict.
    let queues = RedisServer::start().await?;
    let cache = config(&server.url())?.strict_eviction(true);
    let client = Client::connect(config(&queues.url())?.strict_eviction(true).cache(cache)).await?;
    client.cache().set_text("k", "v").await?;
    assert_eq!(logs.of(Level::WARN, "allkeys-lru").len(), 1);
    Ok(())
}

/// A full server says so, and is asked again.
#[tokio::test]
async fn full_server_is_named_and_tried_again() -> TestResult {
    let server = RedisServer::start_with(&["maxclients 1"]).await?;
    let first = server.connect().await?;
    let error = Client::connect(config(&server.url())?).await.unwrap_err();
    let text = shown(&error);
    assert!(matches!(error, Error::Unreachable(_)), "{text}");
    assert!(text.contains("max number of clients"), "{text}");
    drop(first);
    Client::connect(config(&server.url())?.start_deadline(DEADLINE)).await?;
    Ok(())
}

/// A port with something else behind it is named as such.
#[tokio::test]
async fn peer_that_is_no_redis_is_recognised() -> TestResult {
    let other = Fake::start(|_| "HTTP/1.1 400 Bad Request\r\n".to_owned()).await?;
    let error = Client::connect(config(&other.url())?).await.unwrap_err();
    assert!(
        shown(&error).contains("redis protocol"),
        "{}",
        shown(&error)
    );
    let gate = Fake::start(|_| "-DENIED Redis is running in protected mode\r\n".to_owned()).await?;
    let error = Client::connect(config(&gate.url())?).await.unwrap_err();
    assert!(
        matches!(&error, Error::Denied(text) if text.contains("protected")),
        "{error:?}"
    );
    Ok(())
}
