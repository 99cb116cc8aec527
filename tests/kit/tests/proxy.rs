//! The proxy loses exactly what it was asked to lose.

use std::time::Duration;

use oxbull_testkit::{
    Connection, DEADLINE, Direction, Proxy, RedisServer, Rule, TestResult, eventually,
};

const MUTE: Duration = Duration::from_millis(100);

async fn pair() -> TestResult<(RedisServer, Proxy)> {
    let server = RedisServer::start().await?;
    let proxy = Proxy::start(server.port()).await?;
    Ok((server, proxy))
}

#[tokio::test]
async fn third_script_reply_is_lost_though_the_script_ran() -> TestResult {
    let (server, proxy) = pair().await?;
    let load = ["SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1])"];
    let sha = server.text(&load).await?.ok_or("no hash")?;
    let wanted = sha.clone();
    let rule = proxy.add(Rule::drop_reply(move |c| c.is("EVALSHA") && c.has(&wanted)).nth(3));
    let mut client = Connection::open(proxy.port()).await?;
    let run = ["EVALSHA", &sha, "1", "n"];
    assert_eq!(client.call(&run).await?.int(), Some(1));
    assert_eq!(
        client.call(&["PING"]).await?.text().as_deref(),
        Some("PONG")
    );
    assert_eq!(client.call(&run).await?.int(), Some(2));
    assert!(client.call(&run).await.is_err(), "the third reply came");
    assert_eq!(server.int(&["GET", "n"]).await?, 3);
    let mut client = Connection::open(proxy.port()).await?;
    assert_eq!(client.call(&run).await?.int(), Some(4));
    assert_eq!((rule.fired(), rule.matched()), (1, 4));
    let stats = proxy.stats();
    assert_eq!(stats.count("EVALSHA"), 4);
    assert_eq!(stats.dropped.get("EVALSHA"), Some(&1));
    assert_eq!(stats.connections, 2);
    Ok(())
}

#[tokio::test]
async fn command_behind_a_reset_never_reaches_the_server() -> TestResult {
    let (server, proxy) = pair().await?;
    proxy.add(Rule::reset_before(|c| c.is("INCR")).times(1));
    let mut client = Connection::open(proxy.port()).await?;
    assert!(client.call(&["INCR", "n"]).await.is_err());
    assert_eq!(server.int(&["EXISTS", "n"]).await?, 0);
    assert_eq!(proxy.stats().resets, 1);
    let mut client = Connection::open(proxy.port()).await?;
    assert_eq!(client.call(&["INCR", "n"]).await?.int(), Some(1));
    Ok(())
}

#[tokio::test]
async fn half_a_reply_is_no_reply() -> TestResult {
    let (server, proxy) = pair().await?;
    server.cli(&["SET", "a", "a long value"]).await?;
    proxy.add(Rule::reset_inside(|c| c.is("GET")));
    let mut client = Connection::open(proxy.port()).await?;
    assert!(client.call(&["GET", "a"]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn half_open_connection_stays_mute_and_new_ones_work_again() -> TestResult {
    let (server, proxy) = pair().await?;
    let mut client = Connection::open(proxy.port()).await?;
    client.call(&["PING"]).await?;
    proxy.half_open();
    client.send(&["SET", "a", "b"]).await?;
    eventually(DEADLINE, async || {
        server.text(&["GET", "a"]).await.ok().flatten()
    })
    .await?;
    proxy.pass().await?;
    client.send(&["PING"]).await?;
    assert!(tokio::time::timeout(MUTE, client.receive()).await.is_err());
    let mut fresh = Connection::open(proxy.port()).await?;
    fresh.call(&["PING"]).await?;
    Ok(())
}

#[tokio::test]
async fn partition_holds_bytes_until_it_heals() -> TestResult {
    let (server, proxy) = pair().await?;
    let mut client = Connection::open(proxy.port()).await?;
    client.call(&["PING"]).await?;
    proxy.blackhole(Direction::ToServer);
    client.send(&["INCR", "n"]).await?;
    assert!(tokio::time::timeout(MUTE, client.receive()).await.is_err());
    assert_eq!(server.int(&["EXISTS", "n"]).await?, 0);
    proxy.pass().await?;
    assert_eq!(client.receive().await?.int(), Some(1));
    proxy.blackhole(Direction::ToClient);
    client.send(&["INCR", "n"]).await?;
    eventually(DEADLINE, async || {
        let now = server.int(&["GET", "n"]).await?;
        if now == 2 {
            Ok(())
        } else {
            Err(oxbull_testkit::KitError::new(format!("n is {now}")))
        }
    })
    .await?;
    proxy.pass().await?;
    assert_eq!(client.receive().await?.int(), Some(2));
    Ok(())
}

#[tokio::test]
async fn refused_and_killed_connections_come_back() -> TestResult {
    let (_server, proxy) = pair().await?;
    let mut client = Connection::open(proxy.port()).await?;
    client.call(&["PING"]).await?;
    proxy.refuse().await?;
    assert!(Connection::open(proxy.port()).await.is_err());
    client.call(&["PING"]).await?;
    proxy.kill_all();
    assert!(client.receive().await.is_err());
    proxy.pass().await?;
    Connection::open(proxy.port())
        .await?
        .call(&["PING"])
        .await?;
    eventually(DEADLINE, async || proxy.stats().open == 0).await?;
    Ok(())
}

#[tokio::test]
async fn retargeted_proxy_leads_to_the_other_server() -> TestResult {
    let (server, proxy) = pair().await?;
    let other = RedisServer::start().await?;
    server.cli(&["SET", "who", "first"]).await?;
    other.cli(&["SET", "who", "second"]).await?;
    let mut client = Connection::open(proxy.port()).await?;
    assert_eq!(
        client.call(&["GET", "who"]).await?.text().as_deref(),
        Some("first")
    );
    proxy.retarget(other.port());
    proxy.kill_all();
    assert!(client.receive().await.is_err());
    let mut client = Connection::open(proxy.port()).await?;
    assert_eq!(
        client.call(&["GET", "who"]).await?.text().as_deref(),
        Some("second")
    );
    Ok(())
}

#[tokio::test]
async fn split_and_throttled_traffic_arrives_whole() -> TestResult {
    let (_server, proxy) = pair().await?;
    proxy.split(1);
    let mut client = Connection::open(proxy.port()).await?;
    let long = "x".repeat(3_000);
    client.call(&["SET", "a", &long]).await?;
    assert_eq!(client.call(&["GET", "a"]).await?.text(), Some(long));
    proxy.throttle(100_000);
    client.call(&["PING"]).await?;
    Ok(())
}

#[tokio::test]
async fn same_seed_loses_the_same_replies() -> TestResult {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let (_server, proxy) = pair().await?;
        proxy.add(Rule::drop_reply(|c| c.is("INCR")).chance(7, 0.3));
        let mut lost = Vec::new();
        let mut client = Connection::open(proxy.port()).await?;
        for step in 0..30 {
            if client.call(&["INCR", "n"]).await.is_err() {
                lost.push(step);
                client = Connection::open(proxy.port()).await?;
            }
        }
        runs.push(lost);
    }
    assert!(!runs[0].is_empty());
    assert_eq!(runs[0], runs[1]);
    Ok(())
}

#[tokio::test]
async fn delayed_and_swallowed_replies_are_reported_when_they_arrive() -> TestResult {
    let (_server, proxy) = pair().await?;
    let slow = proxy.add(Rule::delay_reply(Duration::from_millis(20), |c| {
        c.is("PING")
    }));
    proxy.add(Rule::delay(Duration::from_millis(20), |c| c.is("ECHO")));
    let swallowed = proxy.add(Rule::swallow_reply(|c| c.is("TIME")));
    let mut client = Connection::open(proxy.port()).await?;
    client.call(&["PING"]).await?;
    slow.wait_fired(1, DEADLINE).await?;
    client.call(&["ECHO", "x"]).await?;
    client.send(&["TIME"]).await?;
    swallowed.wait_fired(1, DEADLINE).await?;
    assert!(tokio::time::timeout(MUTE, client.receive()).await.is_err());
    Ok(())
}
