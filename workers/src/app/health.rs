//! How a worker program is, for whoever restarts the ones that hang.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::time::Duration;

use oxbull::Worker;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The variable with the port on loopback that is listened on; nobody listens when it is unset.
const PORT: &str = "HEALTH_PORT";

/// An idle worker hears from Redis every few seconds; one that has not for so long does no work.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// How long somebody who asks may take to do so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Answers every request: 200 while the worker works, 503 while it cannot.
pub(super) async fn answer(worker: &Worker) -> Infallible {
    if let Some(listener) = listen().await {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => tell(stream, worker).await,
                // Out of files, for instance: that passes.
                Err(_) => tokio::time::sleep(PATIENCE).await,
            }
        }
    }
    std::future::pending().await
}

async fn listen() -> Option<TcpListener> {
    let port = std::env::var(PORT).ok().filter(|port| !port.is_empty())?;
    let Ok(port) = port.parse() else {
        tracing::error!("{PORT} is not a port; nobody can ask how this worker is");
        return None;
    };
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(%error, port, "nobody can ask how this worker is");
            None
        }
    }
}

async fn tell(mut stream: TcpStream, worker: &Worker) {
    let health = worker.health();
    let heard = health.last_answer.is_some_and(|ago| ago < LONGEST_SILENCE);
    let (status, word) = if heard && !health.closed {
        ("200 OK", "working")
    } else {
        ("503 Service Unavailable", "not working")
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{word}",
        word.len()
    );
    let told = async {
        // What is asked does not matter, only that it has been.
        if stream.read(&mut [0; 1024]).await? == 0 {
            return Ok(());
        }
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    };
    // Who went away before the answer needs none.
    timeout(PATIENCE, told).await.ok();
}
