//! Requests without an answer: what becomes of their connection, and what is known of them.

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::super::call::LostReply;
use super::*;
use crate::resp;

/// How long each caller waits: less than the command deadline.
const PATIENCE: Duration = Duration::from_millis(200);

async fn client_through(proxy: &Proxy) -> Result<Client> {
    let deadline = Duration::from_secs(1);
    Client::connect(ClientConfig::from_url(&proxy.url())?.command_deadline(deadline)).await
}

#[tokio::test]
async fn short_health_checks_recover_from_a_silent_peer() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_through(&proxy).await?;
    proxy.half_open();
    assert!(client.health(PATIENCE).await.error.is_some());
    proxy.pass().await?;
    let end = Instant::now() + SOON;
    while client.health(PATIENCE).await.error.is_some() {
        assert!(Instant::now() < end, "health checks still fail");
    }
    Ok(())
}

/// A caller that leaves costs nobody the connection while the server answers.
#[tokio::test]
async fn dropped_requests_do_not_cost_a_connection_that_answers() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;
    let connection = client.connection();
    let before = proxy.stats().connections;
    let pings = proxy.stats().count("PING");
    for _ in 0..20 {
        let dropped = connection.request(command(&["ECHO", "dropped"]), Repeat::Safe);
        drop(timeout(Duration::ZERO, dropped).await);
    }
    // The first caller that leaves has the connection probed.
    eventually(SOON, || async { proxy.stats().count("PING") > pings }).await?;
    let echo = connection
        .request(command(&["ECHO", "mine"]), Repeat::Safe)
        .await
        .map_err(Error::from)?;
    assert_eq!(text(&echo), b"mine");
    assert_eq!(proxy.stats().connections, before);
    Ok(())
}

/// The socket takes a part of the first request only: the second never leaves, so it can be
/// repeated even if it is not safe to run twice.
#[tokio::test]
async fn request_behind_a_full_socket_counts_as_unsent() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let stream = TcpStream::connect(listener.local_addr()?).await?;
    let (peer, _) = listener.accept().await?;
    let (connection, driver) = resp::connect(stream);
    // More than the socket's buffers hold; the peer reads nothing.
    let large = "x".repeat(64 << 20);
    let (large, small, (), peer) = tokio::join!(
        connection.request(command(&["SET", "k", &large]).encode()),
        connection.request(command(&["INCR", "n"]).encode()),
        driver,
        async move {
            let arrived = peer.readable().await;
            drop(peer);
            arrived
        },
    );
    peer?;
    let (large, small) = (
        large.map_err(LostReply::from),
        small.map_err(LostReply::from),
    );
    assert!(matches!(large, Err(LostReply::Broken(_))), "{large:?}");
    assert!(matches!(small, Err(LostReply::Unsent(_))), "{small:?}");
    Ok(())
}
