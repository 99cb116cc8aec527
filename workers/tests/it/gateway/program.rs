//! The program `gateway`: its settings and its shutdown.

use std::process::Stdio;

use oxbull::{Client, ClientConfig, JobState, Queue};
use oxbull_testkit::{DEADLINE, RedisServer, TestResult};
use oxbull_workers::jobs::webhook_processing::QUEUE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::{delivery, signature};
use crate::http::{Http, SECRET, TOKEN, WEBHOOKS, sign};

pub(super) fn program(redis: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command
        .env_clear()
        .env("REDIS_URL", redis)
        .env("META_APP_SECRET", SECRET)
        .env("META_VERIFY_TOKEN", TOKEN)
        .env("PORT", "0")
        .args(["--host", "127.0.0.1"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A gateway without its secrets could not authenticate anyone: it does not start, and names the variable.
#[tokio::test]
async fn missing_secret_is_a_refusal_to_start() -> TestResult {
    for (variable, value) in [
        ("META_APP_SECRET", None),
        ("META_APP_SECRET", Some("")),
        ("META_APP_SECRET", Some("a,,b")),
        ("META_VERIFY_TOKEN", None),
        ("META_VERIFY_TOKEN", Some("")),
    ] {
        let mut command = program("redis://127.0.0.1:1");
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
        let output = tokio::time::timeout(DEADLINE, command.output()).await??;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(variable), "{said}");
    }
    Ok(())
}

/// After SIGTERM the program answers the requests that it has begun to read and exits with 0; its log
/// shows neither a secret nor a delivery.
#[tokio::test]
async fn signal_ends_the_program_after_its_requests() -> TestResult {
    let server = RedisServer::start().await?;
    let mut child = program(&server.url()).env("RUST_LOG", "trace").spawn()?;
    let mut log = child.stderr.take().unwrap();
    let mut said = String::new();
    let address = loop {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(DEADLINE, log.read(&mut bytes)).await??;
        assert_ne!(read, 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        let rest = said.split("listening address=").nth(1);
        if let Some((address, _)) = rest.and_then(|rest| rest.split_once('\n')) {
            break address.parse()?;
        }
    };
    let rest = tokio::spawn(async move {
        let mut text = Vec::new();
        log.read_to_end(&mut text).await.map(|_| text)
    });
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let body = delivery("canary", client.clock().now().as_millis());
    let mut idle = Http::open(address).await?;
    assert_eq!(
        idle.post(&signature("sha256=canary"), &body).await?.status,
        401
    );
    let challenge = format!("{WEBHOOKS}?hub.mode=subscribe&hub.verify_token={TOKEN}");
    let answer = idle.get(&format!("{challenge}&hub.challenge=1")).await?;
    assert_eq!(answer.status, 200);
    let mut http = Http::open(address).await?;
    let head = format!(
        "POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
         content-length: {}\r\nx-hub-signature-256: {}\r\n\r\n",
        body.len(),
        sign(&body)
    );
    http.send(head.as_bytes()).await?;
    // The gateway waits for the body now.
    assert_eq!(http.receive().await?.status, 100);
    http.send(&body[..9]).await?;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap())?).unwrap();
    kill_process(pid, Signal::TERM)?;
    // An idle connection is closed, so the signal has come.
    assert!(idle.is_closed().await?);
    http.send(&body[9..]).await?;
    assert_eq!(http.receive().await?.status, 200);
    let status = tokio::time::timeout(DEADLINE, child.wait()).await??;
    assert!(status.success(), "{status}");
    let queue: Queue<Value> = Queue::open(&client, QUEUE).await?;
    assert_eq!(queue.counts().await?.of(JobState::Waiting), 1);
    said.push_str(&String::from_utf8_lossy(&rest.await??));
    for secret in ["canary", SECRET, TOKEN] {
        assert!(!said.contains(secret), "{secret}");
    }
    client.close().await;
    Ok(())
}
