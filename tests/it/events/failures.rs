//! Connections and servers that fail under a reader.

use oxbull::{Client, ClientConfig, Queue, QueueEvents};
use oxbull_fixture::Fixture;
use oxbull_testkit::{DEADLINE, RedisServer, Rule, TestResult, eventually};

use super::{Behind, expect, publish, readers};

/// A killed connection costs neither an event nor its order, and none comes twice.
#[tokio::test]
async fn killed_connections_lose_and_repeat_nothing() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut events = QueueEvents::open(&fixture.client, "q").await?;
    for round in 0..8 {
        publish(&fixture.queue, round * 50..round * 50 + 25).await?;
        for id in readers(&fixture.server).await? {
            let id = id.to_string();
            fixture.server.cli(&["CLIENT", "KILL", "ID", &id]).await?;
        }
        publish(&fixture.queue, round * 50 + 25..round * 50 + 50).await?;
    }
    expect(&mut events, 0..400).await
}

/// What a server with an append-only file has acknowledged, it still has when it is back.
#[tokio::test]
async fn restarted_server_costs_nothing() -> TestResult {
    let server = RedisServer::builder().durable().start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue = Queue::open(&client, "q").await?;
    let mut events = QueueEvents::open(&client, "q").await?;
    publish(&queue, 0..10).await?;
    expect(&mut events, 0..5).await?;
    server.kill_hard();
    server.restart().await?;
    eventually(DEADLINE, async || queue.counts().await).await?;
    publish(&queue, 10..20).await?;
    expect(&mut events, 5..20).await
}

/// An answer that is lost on its way, or half of it, is asked for again.
#[tokio::test]
async fn lost_answers_are_asked_for_again() -> TestResult {
    let mut behind = Behind::start().await?;
    let rules = [
        Rule::drop_reply(|command| command.is("XREAD")),
        Rule::reset_inside(|command| command.is("XREAD")),
        Rule::reset_before(|command| command.is("XRANGE")),
    ];
    let mut from = 1;
    for rule in rules {
        let rule = behind.proxy.add(rule.times(4));
        for _ in 0..4 {
            publish(&behind.queue, from..from + 20).await?;
            behind.expect(from..from + 20).await?;
            from += 20;
        }
        assert!(rule.fired() > 0);
        behind.proxy.clear_rules();
    }
    Ok(())
}

/// A peer that vanished without closing its connection is noticed by its silence.
#[tokio::test]
async fn silent_peer_costs_nothing_but_time() -> TestResult {
    let mut behind = Behind::start().await?;
    behind.proxy.half_open();
    publish(&behind.queue, 1..50).await?;
    behind.proxy.pass().await?;
    behind.expect(1..50).await
}
