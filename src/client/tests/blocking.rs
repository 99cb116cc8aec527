//! Blocking reads end, and give up their connections.

use super::*;

/// The marker wait: a member, a timeout, an interruption, and an error that costs no socket.
#[tokio::test]
async fn blocking_read_returns_what_ends_it() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let mut blocking = client.blocking(Some("bull:cQ=="), None);

    server.cli(&["ZADD", "b", "7.5", "m"]).await?;
    let popped = blocking.bzpopmin(&["a", "b"], SOON).await?;
    assert_eq!(popped, Some(("b".to_owned(), "m".to_owned(), 7.5)));

    let nothing = blocking.bzpopmin(&["a"], Duration::from_millis(1)).await?;
    assert_eq!(nothing, None);

    let list = clients(&server).await;
    assert!(list.iter().any(|line| line.contains("name=bull:cQ== ")));

    let id = blocking.id();
    let (interrupted, unblocked) = tokio::join!(
        blocking.bzpopmin(&["a"], SOON),
        eventually(SOON, || async {
            matches!(client.unblock(&id).await, Ok(true))
        })
    );
    unblocked?;
    assert_eq!(interrupted?, None);

    server.cli(&["SET", "text", "x"]).await?;
    let before = blocking.id().get();
    let wrong = blocking.bzpopmin(&["text"], SOON).await;
    assert!(matches!(&wrong, Err(Error::Server(_))), "{wrong:?}");
    assert_eq!(blocking.id().get(), before);
    assert!(before.is_some());
    Ok(())
}

/// Dropping a blocking read must leave no reader behind that takes members.
#[tokio::test]
async fn dropped_blocking_read_closes_its_connection() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let mut blocking = client.blocking(Some("reader"), None);
    let blocked = || async { server.info("clients").await.unwrap()["blocked_clients"] == "1" };
    tokio::select! {
        read = blocking.bzpopmin(&["z"], SOON) => panic!("{read:?}"),
        waits = eventually(SOON, blocked) => waits?,
    }
    assert_eq!(blocking.id().get(), None);
    eventually(SOON, || async {
        let list = clients(&server).await;
        !list.iter().any(|line| line.contains("name=reader "))
    })
    .await?;
    server.cli(&["ZADD", "z", "1", "kept"]).await?;
    let next = blocking.bzpopmin(&["z"], SOON).await?;
    assert_eq!(next, Some(("z".to_owned(), "kept".to_owned(), 1.0)));
    Ok(())
}

/// A blocking read has a deadline of its own, and its successor a connection of its own.
#[tokio::test]
async fn blocking_read_on_a_dead_link_ends() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let client = client_of(&proxy.url()).await?;
    let mut blocking = client.blocking(None, None);
    blocking.bzpopmin(&["z"], Duration::from_millis(1)).await?;
    proxy.blackhole(Direction::Both);
    let lost = blocking.bzpopmin(&["z"], Duration::from_millis(1)).await;
    assert!(matches!(&lost, Err(Error::Indeterminate(_))), "{lost:?}");
    proxy.pass().await?;
    assert_eq!(
        blocking.bzpopmin(&["z"], Duration::from_millis(1)).await?,
        None
    );
    Ok(())
}

/// A killed blocking client says so at once and is back, with its name, by the next read.
#[tokio::test]
async fn killed_blocking_connection_comes_back() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let mut blocking = client.blocking(Some("reader"), None);
    let kill = || async {
        let list = clients(&server).await;
        let waiting = list
            .iter()
            .find(|line| line.contains("name=reader ") && line.contains("cmd=bzpopmin"))?;
        let id = waiting.split_once("id=")?.1.split_once(' ')?.0.to_owned();
        server.cli(&["CLIENT", "KILL", "ID", &id]).await.ok()
    };
    let (read, killed) = tokio::join!(blocking.bzpopmin(&["z"], SOON), eventually(SOON, kill));
    killed?;
    assert!(matches!(&read, Err(Error::Indeterminate(_))), "{read:?}");
    server.cli(&["ZADD", "z", "1", "m"]).await?;
    assert!(blocking.bzpopmin(&["z"], SOON).await?.is_some());
    Ok(())
}

/// Closing a client ends its blocking reads too.
#[tokio::test]
async fn close_ends_blocking_reads() -> TestResult {
    let server = RedisServer::start().await?;
    let client = client_of(&server.url()).await?;
    let mut blocking = client.blocking(None, None);
    let blocked = || async { server.info("clients").await.unwrap()["blocked_clients"] == "1" };
    let (read, closed) = tokio::join!(blocking.bzpopmin(&["z"], SOON), async {
        eventually(SOON, blocked).await?;
        client.close().await;
        Ok::<_, oxbull_testkit::KitError>(())
    });
    closed?;
    assert!(matches!(read, Err(Error::Closed)), "{read:?}");
    eventually(SOON, || async { clients(&server).await.is_empty() }).await?;
    Ok(())
}

/// An interruption needs a permission that least-privilege users may lack.
#[tokio::test]
async fn unblock_without_permission_is_tolerated() -> TestResult {
    let server = RedisServer::builder()
        .acl("user default on nopass ~* &* +@all -client|unblock -client|setname -info -time\n")
        .start()
        .await?;
    let client = client_of(&server.url()).await?;
    assert_eq!(client.server().version, Version::new(5, 0, 0));
    let mut blocking = client.blocking(Some("reader"), None);
    blocking.bzpopmin(&["z"], Duration::from_millis(1)).await?;
    assert!(blocking.id().get().is_some());
    assert!(!client.unblock(&blocking.id()).await?);
    client.sync_clock().await?;
    Ok(())
}
