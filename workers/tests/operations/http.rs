//! One request, one answer.

use std::collections::BTreeMap;

use oxbull_testkit::{DEADLINE, TestResult, eventually, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Child;

use crate::fixture::ShippedRedis;

pub(crate) const SECRET: &str = "app-s3cret";

/// The program `gateway`, under its role.
pub(crate) struct Gateway {
    port: u16,
    _process: Child,
}

impl Gateway {
    pub(crate) async fn start(
        fixture: &ShippedRedis,
        graph: &str,
        more: &BTreeMap<&str, String>,
    ) -> TestResult<Self> {
        let port = free_port()?;
        let process = fixture
            .program(env!("CARGO_BIN_EXE_gateway"), "gateway", graph)
            .env("GATEWAY_HOST", "127.0.0.1")
            .env("PORT", port.to_string())
            .env("META_APP_SECRET", SECRET)
            .env("META_VERIFY_TOKEN", "verify-t0ken")
            .envs(more)
            .spawn()?;
        let gateway = Self {
            port,
            _process: process,
        };
        eventually(DEADLINE, async || {
            let answer = gateway.get("/ready", "").await;
            answer.is_ok_and(|(status, _)| status == 200)
        })
        .await?;
        Ok(gateway)
    }

    /// Gets with further headers, each of which ends with CRLF.
    pub(crate) async fn get(&self, path: &str, headers: &str) -> TestResult<(u16, String)> {
        self.send(&format!("GET {path} HTTP/1.1\r\n{headers}"), "")
            .await
    }

    /// Posts a delivery as the API does.
    pub(crate) async fn deliver(&self, body: &str) -> TestResult<(u16, String)> {
        let signature = oxbull_workers::gateway::sign(SECRET, body.as_bytes());
        let head = format!(
            "POST /instagram/webhooks HTTP/1.1\r\nx-hub-signature-256: {signature}\r\n\
             content-length: {}\r\n",
            body.len()
        );
        self.send(&head, body).await
    }

    async fn send(&self, head: &str, body: &str) -> TestResult<(u16, String)> {
        send(self.port, head, body).await
    }
}

/// Gets from a port of this machine.
pub(crate) async fn get(port: u16, path: &str) -> TestResult<(u16, String)> {
    send(port, &format!("GET {path} HTTP/1.1\r\n"), "").await
}

async fn send(port: u16, head: &str, body: &str) -> TestResult<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("{head}host: localhost\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.split(' ').nth(1).ok_or("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
