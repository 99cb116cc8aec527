//! A server that says what a test wants, for states a real one is hard to bring into.

use std::io::{Error, Result};
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Answers each command, given by its parts, with raw protocol text.
type Answers = dyn Fn(&[String]) -> String + Send + Sync;

/// A listening fake; dropping it closes its port and connections.
pub(crate) struct Fake {
    port: u16,
    accept: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start(
        answers: impl Fn(&[String]) -> String + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let answers: Arc<Answers> = Arc::new(answers);
        let accept = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream, Arc::clone(&answers)));
            }
        });
        Ok(Self { port, accept })
    }

    /// A server like any other, but for what it says in INFO.
    pub(crate) async fn with_info(info: &'static str) -> Result<Self> {
        Self::start(move |command| match name_of(command) {
            "INFO" => bulk(info),
            name => plain(name),
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Returns a command's first part.
pub(crate) fn name_of(command: &[String]) -> &str {
    command.first().map_or("", String::as_str)
}

/// What an idle server would say.
pub(crate) fn plain(name: &str) -> String {
    match name {
        "PING" => "+PONG\r\n".to_owned(),
        "TIME" => "*2\r\n$1\r\n1\r\n$1\r\n0\r\n".to_owned(),
        "INFO" => bulk("redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n"),
        _ => "+OK\r\n".to_owned(),
    }
}

pub(crate) fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

async fn serve(stream: TcpStream, answers: Arc<Answers>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let count = header(&mut stream, '*').await?;
        let mut command = Vec::new();
        for _ in 0..count {
            let length = header(&mut stream, '$').await?;
            let mut part = vec![0; length + 2];
            stream.read_exact(&mut part).await?;
            part.truncate(length);
            command.push(String::from_utf8(part).map_err(Error::other)?);
        }
        let answer = answers(&command);
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn header(stream: &mut BufReader<TcpStream>, kind: char) -> Result<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    line.trim_end()
        .strip_prefix(kind)
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::other("not a command"))
}
