//! Claims that one owner holds, and messages to subscribers.

use std::time::Duration;

use futures::future::join_all;
use oxbull::client::{Client, ClientConfig};
use oxbull::kv::{Claim, Kv};
use oxbull::{Error, Result};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};

const TTL: Duration = Duration::from_secs(60);

async fn connect(url: &str) -> Result<Kv> {
    Ok(Client::connect(ClientConfig::from_url(url)?).await?.kv())
}

fn owner_of(claim: &Claim) -> Option<&str> {
    match claim {
        Claim::HeldBy { owner, .. } => Some(owner),
        _ => None,
    }
}

#[tokio::test]
async fn claim_belongs_to_its_first_owner_until_it_is_released() -> TestResult {
    let server = RedisServer::start().await?;
    let kv = connect(&server.url()).await?;
    assert_eq!(kv.claim("c", "one", TTL).await?, Claim::Acquired);
    assert_eq!(server.text(&["GET", "c"]).await?.as_deref(), Some("one"));
    let refused = kv.claim("c", "two", 10 * TTL).await?;
    assert_eq!(
        (refused.is_held(), owner_of(&refused)),
        (false, Some("one"))
    );
    assert!(server.int(&["PTTL", "c"]).await? <= 60_000, "not extended");

    assert_eq!(kv.claim("c", "one", 10 * TTL).await?, Claim::Extended);
    assert!(server.int(&["PTTL", "c"]).await? > 60_000, "extended");

    assert!(!kv.release_claim("c", "two").await?);
    assert!(kv.release_claim("c", "one").await?);
    assert!(!kv.release_claim("c", "one").await?);
    assert_eq!(kv.claim("c", "two", TTL).await?, Claim::Acquired);
    Ok(())
}

#[tokio::test]
async fn expired_claim_is_free() -> TestResult {
    let server = RedisServer::start().await?;
    let kv = connect(&server.url()).await?;
    assert!(
        kv.claim("c", "one", Duration::from_millis(1))
            .await?
            .is_held()
    );
    eventually(DEADLINE, async || {
        kv.claim("c", "two", TTL)
            .await
            .is_ok_and(|claim| claim == Claim::Acquired)
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn one_of_many_owners_acquires_a_claim() -> TestResult {
    let server = RedisServer::start().await?;
    let kvs = [connect(&server.url()).await?, connect(&server.url()).await?];
    let claims = join_all((0..100).map(|number| {
        let kv = &kvs[number % 2];
        async move { kv.claim("c", &number.to_string(), TTL).await }
    }))
    .await
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    assert_eq!(claims.iter().filter(|claim| claim.is_held()).count(), 1);
    let holder = server.text(&["GET", "c"]).await?;
    let named = claims.iter().filter_map(owner_of);
    assert!(
        named.clone().count() == 99 && named.clone().all(|owner| Some(owner) == holder.as_deref())
    );
    Ok(())
}

/// The claim of an owner whose reply is lost is its own when it is sent again.
#[tokio::test]
async fn lost_reply_leaves_the_claim_with_its_owner() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let kv = connect(&proxy.url()).await?;
    assert!(kv.claim("known", "script", TTL).await?.is_held());
    let lost = proxy.add(Rule::drop_reply(|c| c.is("EVALSHA")).nth(1));
    assert!(kv.claim("c", "one", TTL).await?.is_held());
    assert_eq!(lost.fired(), 1);
    Ok(())
}

#[tokio::test]
async fn odd_owners_times_and_keys_are_errors_that_change_nothing() -> TestResult {
    let server = RedisServer::start().await?;
    let kv = connect(&server.url()).await?;
    for (field, error) in [
        ("owner", kv.claim("c", "", TTL).await.err()),
        ("owner", kv.release_claim("c", "").await.err()),
        ("ttl", kv.claim("c", "one", Duration::ZERO).await.err()),
        ("ttl", kv.claim("c", "one", Duration::MAX).await.err()),
    ] {
        assert!(
            matches!(error, Some(Error::Invalid { field: named, .. }) if named == field),
            "{error:?}"
        );
    }
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    let binary: [&[u8]; 3] = [b"SET", b"binary", b"\xff"];
    server.cli(&binary).await?;
    server.cli(&["RPUSH", "list", "x"]).await?;
    for error in [
        kv.claim("binary", "one", TTL).await.err(),
        kv.claim("list", "one", TTL).await.err(),
        kv.release_claim("list", "one").await.err(),
    ] {
        assert!(matches!(error, Some(Error::Decode { .. })), "{error:?}");
    }
    assert!(!kv.release_claim("binary", "one").await?);
    assert_eq!(server.int(&["DBSIZE"]).await?, 2);
    Ok(())
}

/// A full server refuses a claim; it does not lose one that is held.
#[tokio::test]
async fn full_server_refuses_new_claims_and_keeps_old_ones() -> TestResult {
    let server = RedisServer::start().await?;
    let kv = connect(&server.url()).await?;
    assert!(kv.claim("held", "one", TTL).await?.is_held());
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await?;
    assert!(kv.claim("new", "one", TTL).await.is_err());
    assert_eq!(owner_of(&kv.claim("held", "two", TTL).await?), Some("one"));
    assert!(
        kv.release_claim("held", "one").await?,
        "releasing needs no memory"
    );
    assert_eq!(server.int(&["DBSIZE"]).await?, 0);
    Ok(())
}

#[tokio::test]
async fn published_message_reaches_the_subscribers_that_are_there() -> TestResult {
    let server = RedisServer::start().await?;
    let kv = connect(&server.url()).await?;
    assert_eq!(kv.publish("news", "nobody listens").await?, 0);
    let mut subscriber = server.connect().await?;
    subscriber.send(&["SUBSCRIBE", "news"]).await?;
    subscriber.receive().await?;
    assert_eq!(kv.publish("news", "hello").await?, 1);
    let message = subscriber.receive().await?.texts();
    assert_eq!(message, ["message", "news", "hello"]);
    Ok(())
}

/// A message whose reply is lost is not sent a second time without the caller's knowledge.
#[tokio::test]
async fn lost_reply_to_a_message_is_reported() -> TestResult {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    let kv = connect(&proxy.url()).await?;
    let sent = proxy.add(Rule::drop_reply(|c| c.is("PUBLISH")).nth(1));
    let lost = kv.publish("news", "once").await;
    assert!(matches!(lost, Err(Error::Indeterminate(_))), "{lost:?}");
    assert_eq!(sent.matched(), 1);
    Ok(())
}
