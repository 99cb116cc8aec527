//! A way to Redis on which round trips can be counted.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use oxbull_testkit::TestResult;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// Forwards connections. What a client sends within a round trip's time of its first byte goes to the
/// server together, as one flight: who waits for each answer needs a flight for every command.
pub(super) struct FarServer {
    port: u16,
    flights: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl FarServer {
    pub(super) async fn start(target: u16, round_trip: Duration) -> TestResult<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let flights = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&flights);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
                    return;
                };
                tokio::spawn(forward(client, server, round_trip, Arc::clone(&counted)));
            }
        });
        Ok(Self {
            port,
            flights,
            task,
        })
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Flights so far, of all connections.
    pub(super) fn flights(&self) -> u32 {
        self.flights.load(Ordering::SeqCst)
    }
}

impl Drop for FarServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    client: TcpStream,
    server: TcpStream,
    round_trip: Duration,
    flights: Arc<AtomicU32>,
) {
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async move {
        let mut flight = Vec::new();
        while let Ok(1..) = from_client.read_buf(&mut flight).await {
            let leaves = Instant::now() + round_trip;
            while let Ok(Ok(1..)) = timeout_at(leaves, from_client.read_buf(&mut flight)).await {}
            flights.fetch_add(1, Ordering::SeqCst);
            if to_server.write_all(&flight).await.is_err() {
                return;
            }
            flight.clear();
        }
    };
    tokio::select! {
        () = there => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}
