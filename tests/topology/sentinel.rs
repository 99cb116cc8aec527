//! Sentinels: whom they name, who replaces whom, and who is never written to again.

use std::time::Duration;

use oxbull::client::{Client, ClientConfig, TlsOptions};
use oxbull::{Error, JobId, JobOptions, Queue};
use oxbull_testkit::{DEADLINE, RedisServer, SentinelGroup, TestResult, TlsFiles, eventually};

use crate::load::Load;

/// Servers and sentinels have passwords of their own, and every mistake is named.
#[tokio::test]
async fn primary_is_found_with_a_login_for_each_level() -> TestResult {
    let group = SentinelGroup::with_passwords("server-secret", "sentinel-secret").await?;
    let config = || -> Result<ClientConfig, Error> {
        let config = ClientConfig::from_url(&group.url())?.password("server-secret");
        Ok(config.start_deadline(Duration::from_secs(10)))
    };
    let client = Client::connect(config()?.sentinel_password("sentinel-secret")).await?;
    client.kv().set_text("k", "v").await?;
    let primary = group.primary().await?;
    assert_eq!(primary.text(&["GET", "k"]).await?.as_deref(), Some("v"));

    for (config, cause) in [
        (config()?, "NOAUTH"),
        (config()?.sentinel_password("wrong-secret"), "WRONGPASS"),
        (
            config()?.sentinel_password("sentinel-secret").password("x"),
            "WRONGPASS",
        ),
    ] {
        let error = Client::connect(config).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(&error, Error::Denied(_)), "{error:?}");
        assert!(text.contains(cause) && !text.contains("secret"), "{text}");
    }
    let other = group.url().replace("/main", "/other");
    let config = ClientConfig::from_url(&other)?.sentinel_password("sentinel-secret");
    let error = Client::connect(config).await.unwrap_err();
    assert!(
        matches!(&error, Error::Unsuitable(text) if text.contains("no service other")),
        "{error:?}"
    );
    Ok(())
}

/// Encryption on both levels, and on one only.
#[tokio::test]
async fn sentinels_are_encrypted_as_the_server_or_on_their_own() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    let tls_port = server.tls_port().ok_or("no tls port")?;
    let sentinel = RedisServer::builder()
        .sentinel()
        .tls(files.clone())
        .config("tls-replication yes")
        .config(format!("sentinel monitor main 127.0.0.1 {tls_port} 1"))
        .start()
        .await?;
    let trusting = TlsOptions::new().roots_pem(std::fs::read(&files.authority)?);
    let encrypted = sentinel.tls_port().ok_or("no tls port")?;
    let config = |port| {
        ClientConfig::from_url(&format!("rediss+sentinel://127.0.0.1:{port}/main"))
            .map(|config| config.tls(trusting.clone()))
    };
    Client::connect(config(encrypted)?).await?;
    Client::connect(config(sentinel.port())?.sentinel_tls(None)).await?;
    let error = Client::connect(config(sentinel.port())?).await.unwrap_err();
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(text.contains("does not use TLS"), "{text}");
    Ok(())
}

/// A primary is killed under load: what the new one has is worked off. The old one returns as a replica and
/// is never asked for anything again. The configuration names one sentinel, which dies too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_under_load_loses_nothing_that_the_new_primary_has() -> TestResult {
    let group = SentinelGroup::start().await?;
    let [first, ..] = group.sentinels() else {
        return Err("no sentinel".into());
    };
    let url = format!("redis+sentinel://127.0.0.1:{}/main", first.port());
    let client = Client::connect(ClientConfig::from_url(&url)?).await?;
    let load = Load::start(&client, "failing-over").await?;
    load.goes_on(200).await?;
    first.kill_hard();
    let [old, ..] = group.servers() else {
        return Err("no server".into());
    };
    old.kill_hard();
    let new = eventually(DEADLINE, || group.primary()).await?;
    assert_ne!(new.port(), old.port());
    load.goes_on(200).await?;

    // It starts as a primary, as far as it knows, until a sentinel tells it otherwise.
    old.restart().await?;
    eventually(DEADLINE, async || {
        let info = old.info("replication").await.unwrap_or_default();
        let is = |field: &str, value: &str| info.get(field).is_some_and(|v| v.trim() == value);
        is("role", "slave") && is("master_link_status", "up")
    })
    .await?;
    load.goes_on(200).await?;
    let stats = old.info("commandstats").await?;
    assert!(!stats.contains_key("cmdstat_evalsha"), "{stats:?}");

    let (acknowledged, runs) = load.finish().await?;
    assert!(acknowledged.len() > 300, "{}", acknowledged.len());
    // Replication is asynchronous: what the old primary had not passed on is gone, in Redis as here.
    let queue: Queue<u64> = Queue::builder(&client, "failing-over").open().await?;
    let mut lost = 0;
    for id in &acknowledged {
        match queue.job(id).await? {
            Some(_) => assert!(
                runs.get(&id.to_string()).is_some_and(|run| run.1 > 0),
                "{id}"
            ),
            None => lost += 1,
        }
    }
    assert!(lost < 50, "{lost} of {} jobs are lost", acknowledged.len());
    Ok(())
}

/// A frozen primary is replaced, and whoever thaws it finds it a replica: nothing is written to it by a client
/// that has reconnected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thawed_primary_is_left_alone() -> TestResult {
    let group = SentinelGroup::start().await?;
    let config = ClientConfig::from_url(&group.url())?.command_deadline(Duration::from_secs(2));
    let client = Client::connect(config).await?;
    let queue: Queue<u64> = Queue::builder(&client, "frozen").open().await?;
    let [old, ..] = group.servers() else {
        return Err("no server".into());
    };
    old.freeze()?;
    let add = async || {
        let added = queue.add_once("work", &1, JobOptions::new()).await;
        added.map(|added| added.id)
    };
    // It is asked until another one is the primary, and answers.
    let id: JobId = eventually(DEADLINE, add).await?;
    old.thaw()?;
    let new = eventually(DEADLINE, || group.primary()).await?;
    assert_ne!(new.port(), old.port());
    let key = format!("bull:frozen:{id}");
    assert_eq!(new.int(&["EXISTS", &key]).await?, 1);
    for _ in 0..20 {
        let id: JobId = eventually(DEADLINE, add).await?;
        let key = format!("bull:frozen:{id}");
        assert_eq!(new.int(&["EXISTS", &key]).await?, 1);
    }
    Ok(())
}

/// Sentinels are asked when a connection is made, and not before: without them a working one is kept. What
/// is lost then is back with them.
#[tokio::test]
async fn connection_outlives_the_sentinels() -> TestResult {
    let group = SentinelGroup::start().await?;
    let client = Client::connect(ClientConfig::from_url(&group.url())?).await?;
    for sentinel in group.sentinels() {
        sentinel.kill_hard();
    }
    for n in 0..10 {
        client.kv().set("n", &n).await?;
    }
    let [primary, ..] = group.servers() else {
        return Err("no server".into());
    };
    primary.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await?;
    // The first one may have been sent before the loss was noticed.
    client.kv().set("n", &11).await.ok();
    let error = client.kv().set("n", &11).await.unwrap_err();
    let text = format!("{error}: {:?}", std::error::Error::source(&error));
    assert!(matches!(&error, Error::Unreachable(_)), "{text}");
    assert!(text.contains("no sentinel names a primary"), "{text}");
    for sentinel in group.sentinels() {
        sentinel.restart().await?;
    }
    eventually(DEADLINE, async || client.kv().set("n", &12).await).await?;
    assert_eq!(primary.text(&["GET", "n"]).await?.as_deref(), Some("12"));
    Ok(())
}
