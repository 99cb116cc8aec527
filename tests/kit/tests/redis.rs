//! A private server can be killed, frozen and started again, and leaves nothing behind.

use std::time::Duration;

use oxbull_testkit::{Connection, DEADLINE, RedisServer, TestResult, TlsFiles, eventually};

#[tokio::test]
async fn killed_server_has_its_data_after_a_restart() -> TestResult {
    let server = RedisServer::builder().durable().start().await?;
    server.cli(&["SET", "a", "b"]).await?;
    let port = server.port();
    let first = server.pid();
    server.kill_hard();
    assert!(server.cli(&["PING"]).await.is_err());
    server.restart().await?;
    assert_eq!(server.port(), port);
    assert_ne!(server.pid(), first);
    assert_eq!(server.text(&["GET", "a"]).await?.as_deref(), Some("b"));
    Ok(())
}

#[tokio::test]
async fn server_without_persistence_comes_back_empty() -> TestResult {
    let server = RedisServer::start().await?;
    server.cli(&["SET", "a", "b"]).await?;
    server.stop_graceful().await?;
    server.restart_with(&["maxmemory 64mb"]).await?;
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    let limit = server.cli(&["CONFIG", "GET", "maxmemory"]).await?.map();
    assert_eq!(limit.get("maxmemory").map(String::as_str), Some("67108864"));
    Ok(())
}

#[tokio::test]
async fn frozen_server_answers_once_thawed() -> TestResult {
    let server = RedisServer::start().await?;
    let mut connection = server.connect().await?;
    server.freeze()?;
    connection.send(&["PING"]).await?;
    let early = tokio::time::timeout(Duration::from_millis(100), connection.receive()).await;
    assert!(early.is_err(), "a frozen server answered {early:?}");
    server.thaw()?;
    assert_eq!(connection.receive().await?.text().as_deref(), Some("PONG"));
    Ok(())
}

#[tokio::test]
async fn dropped_server_leaves_neither_process_nor_directory() -> TestResult {
    let server = RedisServer::start().await?;
    let (port, dir) = (server.port(), server.dir().to_path_buf());
    assert!(dir.join("redis.log").exists());
    drop(server);
    assert!(!dir.exists());
    assert!(
        tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .is_err()
    );
    Ok(())
}

#[tokio::test]
async fn server_that_cannot_start_says_why() {
    let error = RedisServer::start_with(&["no-such-directive 1"])
        .await
        .expect_err("a server with a broken configuration started");
    assert!(error.to_string().contains("no-such-directive"), "{error}");
}

#[tokio::test]
async fn password_and_acl_are_demanded() -> TestResult {
    let server = RedisServer::builder()
        .acl("user default off\nuser app on >secret ~* &* +@all\n")
        .login("app", "secret")
        .start()
        .await?;
    let whoami = server.text(&["ACL", "WHOAMI"]).await?;
    assert_eq!(whoami.as_deref(), Some("app"));
    assert!(server.url().starts_with("redis://app:secret@127.0.0.1:"));
    let guarded = RedisServer::builder().password("hush").start().await?;
    let mut stranger = Connection::open(guarded.port()).await?;
    assert!(stranger.call(&["PING"]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn tls_is_served_beside_the_plain_port() -> TestResult {
    let dir = tempfile::tempdir()?;
    let server = RedisServer::builder()
        .tls(TlsFiles::generate(dir.path())?)
        .start()
        .await?;
    let port = server.tls_port().ok_or("no TLS port")?;
    tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    Ok(())
}

#[tokio::test]
async fn used_cpu_grows_with_work() -> TestResult {
    let server = RedisServer::builder().debug_command().start().await?;
    let before = server.used_cpu_us().await?;
    server.cli(&["DEBUG", "POPULATE", "300000"]).await?;
    assert!(server.used_cpu_us().await? > before);
    Ok(())
}

/// A test process that is killed cannot run destructors; its servers must end all the same.
#[tokio::test]
async fn server_ends_when_its_test_process_is_killed() -> TestResult {
    const REPORT: &str = "OXBULL_TESTKIT_VICTIM_REPORT";
    if let Some(report) = std::env::var_os(REPORT) {
        let server = RedisServer::start().await?;
        let text = format!("{} {}", server.port(), server.dir().display());
        std::fs::write(&report, text + "\n")?;
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir()?;
    let report = dir.path().join("report");
    let mut victim = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "server_ends_when_its_test_process_is_killed"])
        .env(REPORT, &report)
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let text = eventually(DEADLINE, async || {
        let text = std::fs::read_to_string(&report).ok()?;
        text.ends_with('\n').then_some(text)
    })
    .await;
    victim.kill()?;
    victim.wait()?;
    let text = text?;
    let (port, server_dir) = text.trim().split_once(' ').ok_or("no port in the report")?;
    let port: u16 = port.parse()?;
    eventually(DEADLINE, async || Connection::open(port).await.is_err()).await?;
    eventually(DEADLINE, async || {
        !std::path::Path::new(server_dir).exists()
    })
    .await?;
    Ok(())
}
