//! A proxy that makes each byte late.

use std::time::Duration;

use compare_driver::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Forwards connections to a local port; ends when dropped, once they have ended.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that holds up each direction by `delay`.
    pub(crate) async fn start(target: u16, delay: Duration) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else {
                    continue;
                };
                for stream in [&client, &server] {
                    stream.set_nodelay(true).ok();
                }
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                forward(from_client, to_server, delay);
                forward(from_server, to_client, delay);
            }
        });
        Ok(Self { port, accepting })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Delays without slowing down: many chunks are on their way at once.
fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: Duration) {
    let (sender, mut chunks) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read) = from.read(&mut buffer).await {
            let chunk = buffer.get(..read).unwrap_or_default().to_vec();
            if read == 0 || sender.send((Instant::now() + delay, chunk)).is_err() {
                return;
            }
        }
    });
    tokio::spawn(async move {
        while let Some((due, chunk)) = chunks.recv().await {
            sleep_until(due).await;
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_arrive_late_and_in_order() -> Result<(), Failure> {
        let delay = Duration::from_millis(30);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = Proxy::start(listener.local_addr()?.port(), delay).await?;
        let mut client = TcpStream::connect(("127.0.0.1", proxy.port)).await?;
        let (mut server, _) = listener.accept().await?;
        let sent = Instant::now();
        client.write_all(b"one").await?;
        client.write_all(b"two").await?;
        let mut got = [0; 6];
        server.read_exact(&mut got).await?;
        assert!(sent.elapsed() >= delay);
        assert_eq!(&got, b"onetwo");
        Ok(())
    }
}
