//! The shared client: what it promises when servers fail, lie or are unsuitable.

pub(crate) mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oxbull::Error;
use oxbull::client::{Client, ClientConfig, Command, Flavor, Repeat, Script, TlsOptions, Value};
use oxbull_testkit::{Proxy, RedisServer, TlsFiles, eventually, free_port};
use tracing::Level;

use crate::logs::Logs;
use fake::{Fake, bulk, name_of, plain};

type TestResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Bounds liveness only.
const SOON: Duration = Duration::from_secs(30);

fn config(url: &str) -> Result<ClientConfig, Error> {
    Ok(ClientConfig::from_url(url)?.start_deadline(Duration::from_millis(300)))
}

/// Says everything that a user or a log may see of an error.
fn shown(error: &Error) -> String {
    let mut text = format!("{error:?}");
    let mut next: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = next {
        text = format!("{text} | {error}");
        next = error.source();
    }
    text
}

/// Counts the server's clients besides the one that asks.
async fn connections(server: &RedisServer) -> usize {
    let list = server.text(&["CLIENT", "LIST"]).await;
    let list = list.ok().flatten().unwrap_or_default();
    let others = |line: &&str| !line.contains("cmd=client|list");
    list.lines().filter(others).count()
}

/// Waits until the server has so many clients: the kit's own may still be closing.
async fn settles_at(server: &RedisServer, count: usize) -> oxbull_testkit::Result<()> {
    eventually(SOON, async || connections(server).await == count).await
}

/// The number of connections of a process is what the documentation says: one a client, and one
/// more for a cache server that is used.
#[tokio::test]
async fn client_and_its_clones_share_one_connection() -> TestResult {
    let server = RedisServer::start().await?;
    let cache = RedisServer::start().await?;
    let config = ClientConfig::from_url(&server.url())?.cache(config(&cache.url())?);
    let client = Client::connect(config).await?;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..20 {
        let client = client.clone();
        tasks.spawn(async move { client.kv().set(&format!("k{n}"), &n).await });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    settles_at(&server, 1).await?;
    // It is opened by its first use.
    settles_at(&cache, 0).await?;

    client.cache().set_text("c", "cached").await?;
    client.cache().set_text("d", "cached").await?;
    settles_at(&server, 1).await?;
    settles_at(&cache, 1).await?;
    assert_eq!(cache.text(&["GET", "c"]).await?.as_deref(), Some("cached"));
    assert_eq!(server.int(&["EXISTS", "c"]).await?, 0);
    Ok(())
}

/// With one server, cached values live beside the others.
#[tokio::test]
async fn cache_is_the_same_server_unless_configured() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    client.cache().set_text("c", "cached").await?;
    assert_eq!(client.kv().get_text("c").await?.as_deref(), Some("cached"));
    settles_at(&server, 1).await?;
    Ok(())
}

/// The client introduces itself, for whoever looks at the server's clients.
#[tokio::test]
async fn server_knows_the_library_where_it_can() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    assert_eq!(client.server().flavor, Flavor::Redis);
    if client.server().version >= oxbull::client::Version::new(7, 2, 0) {
        let list = server.text(&["CLIENT", "LIST"]).await?.unwrap_or_default();
        assert!(list.contains("lib-name=oxbull"), "{list}");
    }
    Ok(())
}

/// A killed server costs failures while it is away, and nothing once it is back.
#[tokio::test]
async fn client_is_back_after_a_server_restart() -> TestResult {
    let server = RedisServer::builder().durable().start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    client.kv().set_text("k", "kept").await?;
    server.kill_hard();
    let away = async || client.kv().get_text("k").await.is_err();
    eventually(SOON, away).await?;
    server.restart().await?;
    let value = eventually(SOON, async || client.kv().get_text("k").await).await?;
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

/// Byte-wise, slow links change nothing but the time.
#[tokio::test]
async fn replies_in_pieces_are_put_together() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    proxy.split(1);
    let client =
        Client::connect(ClientConfig::from_url(&proxy.url())?.start_deadline(SOON)).await?;
    let value = "ä\r\n$5\r\n".repeat(20);
    client.kv().set_text("k", &value).await?;
    assert_eq!(client.kv().get_text("k").await?, Some(value));
    Ok(())
}

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
    let config = ClientConfig::from_url(&server.url())?.start_deadline(SOON);
    let (client, restarted) = tokio::join!(Client::connect(config), server.restart());
    restarted?;
    assert!(client?.health(SOON).await.is_up());
    Ok(())
}

/// Wrong credentials fail at once, and neither errors nor logs repeat them.
#[tokio::test]
async fn wrong_password_is_denied_and_never_shown() -> TestResult {
    let logs = Logs::capture();
    let server = RedisServer::builder().password("right").start().await?;
    let base = ClientConfig::new().port(server.port()).start_deadline(SOON);
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

/// A port without TLS will not learn it, so that nobody waits for that.
#[tokio::test]
async fn port_without_tls_is_reported_before_the_deadline() -> TestResult {
    let server = RedisServer::start().await?;
    let dir = tempfile::tempdir()?;
    let authority = TlsFiles::generate(dir.path())?.authority;
    let forever = Duration::from_secs(3600);
    let config = config(&server.url())?
        .tls(TlsOptions::new().roots_pem(std::fs::read(authority)?))
        .start_deadline(forever)
        .connect_timeout(forever);
    let error = tokio::time::timeout(SOON, Client::connect(config)).await?;
    assert!(matches!(error, Err(Error::Unreachable(_))), "{error:?}");
    Ok(())
}

/// Whoever set something wrong reads where, what, and what to do, once each.
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
    let sentinel = Fake::with_info("redis_version:7.0.15\r\nredis_mode:sentinel\r\n").await?;
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
            "sentinel",
            "the server that it watches",
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
    assert!(client.health(SOON).await.is_up());
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
        .start_deadline(SOON)
        .retries(0);
    let client = Client::connect(config).await?;
    assert!(client.health(SOON).await.is_up());
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
    let health = client.health(SOON).await;
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
    eventually(SOON, async || {
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
    Client::connect(config(&server.url())?.start_deadline(SOON)).await?;
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

/// Timestamps follow the server's clock, however wrong the local one is.
#[tokio::test]
async fn clock_follows_the_server() -> TestResult {
    let server = Fake::start(|command| plain(name_of(command))).await?;
    let client = Client::connect(config(&server.url())?).await?;
    // The fake lives one second after the epoch.
    let now = client.clock().now().as_millis();
    assert!((1_000..100_000).contains(&now), "{now}");
    Ok(())
}

/// Encryption works with given roots and client certificates, and distrusts everyone else.
#[tokio::test]
async fn tls_connects_only_to_whom_it_trusts() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    let port = server.tls_port().ok_or("no tls port")?;
    let authority = std::fs::read(&files.authority)?;
    let trusting = TlsOptions::new().roots_pem(authority.clone());
    let base = config(&format!("rediss://localhost:{port}"))?;

    let client = Client::connect(base.clone().tls(trusting.clone())).await?;
    client.kv().set_text("k", "sealed").await?;
    assert_eq!(server.text(&["GET", "k"]).await?.as_deref(), Some("sealed"));

    let other = tempfile::tempdir()?;
    let stranger = std::fs::read(TlsFiles::generate(other.path())?.authority)?;
    let error = Client::connect(base.clone().tls(TlsOptions::new().roots_pem(stranger)))
        .await
        .unwrap_err();
    assert!(shown(&error).contains("certificate"), "{}", shown(&error));

    let misnamed = base.clone().host("127.0.0.2").tls(trusting.clone());
    assert!(Client::connect(misnamed).await.is_err());

    let plain_port = base.clone().port(server.port()).tls(trusting.clone());
    assert!(Client::connect(plain_port).await.is_err());

    let certificate = std::fs::read(&files.certificate)?;
    let key = std::fs::read_to_string(&files.key)?;
    let known = trusting.clone().client_pem(certificate.clone(), &key);
    assert!(!format!("{known:?}").contains("PRIVATE"));
    Client::connect(base.clone().tls(known)).await?;

    for broken in [
        TlsOptions::new().roots_pem("no pem"),
        trusting.clone().client_pem("no pem", &key),
        trusting.clone().client_pem(certificate, "no pem"),
    ] {
        let error = Client::connect(base.clone().tls(broken)).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    }
    Ok(())
}

/// A server that asks for certificates turns away whoever has none.
#[tokio::test]
async fn tls_presents_its_client_certificate() -> TestResult {
    let dir = tempfile::tempdir()?;
    let files = TlsFiles::generate(dir.path())?;
    let server = RedisServer::builder().tls(files.clone()).start().await?;
    server
        .cli(&["CONFIG", "SET", "tls-auth-clients", "yes"])
        .await?;
    let port = server.tls_port().ok_or("no tls port")?;
    let base = config(&format!("rediss://localhost:{port}"))?;
    let trusting = TlsOptions::new().roots_pem(std::fs::read(&files.authority)?);
    assert!(
        Client::connect(base.clone().tls(trusting.clone()))
            .await
            .is_err()
    );

    let (certificate, key) = client_certificate(dir.path(), &files)?;
    let known = trusting.client_pem(certificate, &key);
    let client = Client::connect(base.tls(known)).await?;
    assert!(client.health(SOON).await.is_up());
    Ok(())
}

/// Makes a certificate for clients, signed by the server's authority.
fn client_certificate(
    dir: &std::path::Path,
    files: &TlsFiles,
) -> Result<(Vec<u8>, String), Box<dyn std::error::Error + Send + Sync>> {
    std::fs::write(dir.join("client.ext"), "extendedKeyUsage=clientAuth\n")?;
    for step in [
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=client \
         -keyout client.key -out client.csr",
        "x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
         -extfile client.ext -out client.pem",
    ] {
        let status = std::process::Command::new("openssl")
            .args(step.split_whitespace())
            .current_dir(dir)
            .stderr(std::process::Stdio::null())
            .status()?;
        assert!(status.success(), "openssl {step}");
    }
    assert!(files.authority.starts_with(dir));
    Ok((
        std::fs::read(dir.join("client.pem"))?,
        std::fs::read_to_string(dir.join("client.key"))?,
    ))
}

/// Forms that are not supported yet are refused by name, before anything is sent.
#[tokio::test]
async fn sentinel_and_cluster_are_refused_for_now() -> TestResult {
    for url in ["redis+sentinel://a,b/main", "redis+cluster://a,b"] {
        let error = Client::connect(ClientConfig::from_url(url)?)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::Invalid { field: "topology", problem, .. }
                if problem.contains("not supported yet")),
            "{error:?}"
        );
    }
    Ok(())
}

/// The health check tells up from down within its deadline.
#[tokio::test]
async fn health_follows_the_server() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    assert!(client.health(SOON).await.is_up());
    server.freeze()?;
    let health = client.health(Duration::from_millis(100)).await;
    assert!(
        matches!(health.error, Some(Error::Timeout(_))),
        "{health:?}"
    );
    server.thaw()?;
    eventually(SOON, async || client.health(SOON).await.is_up()).await?;
    server.kill_hard();
    eventually(SOON, async || !client.health(SOON).await.is_up()).await?;
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

/// Commands that the library has no call for go over the shared connection.
#[tokio::test]
async fn any_command_can_be_sent() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    let set = Command::new("RPUSH").args(["list", "a"]).arg(7).arg(b"\0");
    assert_eq!(client.request(set, Repeat::Once).await?.into_int()?, 3);
    let range = Command::new("LRANGE").arg("list").arg(0).arg(-1);
    let items = client.request(range, Repeat::Safe).await?.into_array()?;
    let items: Vec<_> = items.into_iter().map(Value::into_bytes).collect();
    assert!(
        matches!(items.as_slice(), [Ok(a), Ok(seven), Ok(zero)]
            if a == b"a" && seven == b"7" && zero == b"\0"),
        "{items:?}"
    );
    let odd = client
        .request(Command::new("GET").arg("list"), Repeat::Safe)
        .await;
    assert!(
        matches!(&odd, Err(Error::Server(text)) if text.starts_with("WRONGTYPE")),
        "{odd:?}"
    );
    settles_at(&server, 1).await?;
    Ok(())
}

static APPEND: Script = Script::new(
    "append",
    "for i, text in ipairs(ARGV) do redis.call('RPUSH', KEYS[1], text) end
     return {redis.call('LLEN', KEYS[1]), KEYS[2]}",
);

/// An application's scripts are run as the library's own, also after the server lost them.
#[tokio::test]
async fn any_script_can_be_run() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(config(&server.url())?).await?;
    for length in [2, 4] {
        let call = APPEND.call().key("list").arg("a").key("other").args(["b"]);
        let reply = client.run(call, Repeat::Once).await?;
        let other = Value::BulkString(b"other".to_vec());
        assert_eq!(reply.into_array()?, [Value::Int(length), other]);
        server.cli(&["SCRIPT", "FLUSH"]).await?;
    }
    Ok(())
}
