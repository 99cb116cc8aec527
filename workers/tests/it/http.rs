//! An HTTP/1.1 client that sends exactly the given bytes, including requests that a correct client never sends.

use std::net::SocketAddr;

use oxbull_testkit::{DEADLINE, TestResult};
use oxbull_workers::gateway::{self, AppSecrets, Gateway, GatewayOptions, Overviews, VerifyToken};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const SECRET: &str = "app-s3cret";
pub(crate) const TOKEN: &str = "verify-t0ken";
pub(crate) const WEBHOOKS: &str = "/instagram/webhooks";

/// A gateway's options on a free port.
pub(crate) fn options() -> GatewayOptions {
    let secrets = AppSecrets::parse(SECRET).unwrap();
    let token = VerifyToken::new(TOKEN).unwrap();
    GatewayOptions::new(secrets, token, Overviews::stored())
        .address(SocketAddr::from(([127, 0, 0, 1], 0)))
}

pub(crate) fn sign(body: &[u8]) -> String {
    gateway::sign(SECRET, body)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lines of the head, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One kept connection.
pub(crate) struct Http {
    address: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) async fn open(address: SocketAddr) -> TestResult<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream: BufReader::new(stream),
        })
    }

    pub(crate) async fn to(gateway: &Gateway) -> TestResult<Self> {
        Self::open(gateway.address()).await
    }

    /// Sends these bytes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> TestResult {
        Ok(timeout(DEADLINE, self.stream.get_mut().write_all(bytes)).await??)
    }

    /// Reads one answer.
    pub(crate) async fn receive(&mut self) -> TestResult<Answer> {
        timeout(DEADLINE, self.read()).await?
    }

    async fn read(&mut self) -> TestResult<Answer> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await? == 0 {
                return Err(format!("the connection has ended: {head}").into());
            }
        }
        let head = head.to_lowercase();
        let status = head[9..12].parse()?;
        let length = head.split("content-length: ").nth(1);
        let length = length.map_or("0", |text| text.lines().next().unwrap());
        let mut body = vec![0; length.parse()?];
        self.stream.read_exact(&mut body).await?;
        let body = String::from_utf8(body)?;
        Ok(Answer { status, head, body })
    }

    /// Whether the other side closes without sending anything else.
    pub(crate) async fn is_closed(&mut self) -> TestResult<bool> {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, self.stream.read_to_end(&mut rest)).await?;
        Ok(read.is_err() || rest.is_empty())
    }

    pub(crate) async fn get(&mut self, path: &str) -> TestResult<Answer> {
        self.get_with(path, "").await
    }

    /// Gets with more headers, each of which ends with CRLF.
    pub(crate) async fn get_with(&mut self, path: &str, headers: &str) -> TestResult<Answer> {
        let host = self.address;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        self.send(request.as_bytes()).await?;
        self.receive().await
    }

    /// Posts with these lines of headers beside the length.
    pub(crate) async fn post(&mut self, headers: &[String], body: &[u8]) -> TestResult<Answer> {
        let mut request = format!(
            "POST {WEBHOOKS} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n",
            self.address,
            body.len()
        );
        for header in headers {
            request.push_str(header);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes).await?;
        self.receive().await
    }

    /// Posts a delivery with its signature.
    pub(crate) async fn deliver(&mut self, body: &[u8]) -> TestResult<Answer> {
        self.post(&[format!("x-hub-signature-256: {}", sign(body))], body)
            .await
    }
}
