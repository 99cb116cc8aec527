//! Events that applications publish.

use oxbull::{Client, ClientConfig, Error, Queue};
use oxbull_fixture::Fixture;
use oxbull_testkit::{RedisServer, TestResult};
use serde_json::{Value, json};

use super::publish;

/// An event that Node's listeners would misread is refused, and nothing is written.
#[tokio::test]
async fn bad_custom_events_are_refused() -> TestResult {
    let fixture = Fixture::start().await?;
    let long = "x".repeat(129);
    let names = [
        "",
        "completed",
        "completed:7",
        "drained",
        "debounced",
        "error",
        "ioredis:close",
        "a\nb",
        &long,
    ];
    for name in names {
        let refused = fixture.queue.publish_event(name, &()).await;
        assert!(
            matches!(refused, Err(Error::Invalid { .. })),
            "{name}: {refused:?}"
        );
    }
    let many: serde_json::Map<_, _> = (0..257).map(|n| (n.to_string(), json!(n))).collect();
    for fields in [
        json!({ "event": "x" }),
        json!({ "": 1 }),
        json!([1]),
        json!("x"),
        many.into(),
    ] {
        let refused = fixture.queue.publish_event("fine", &fields).await;
        assert!(
            matches!(refused, Err(Error::Invalid { .. })),
            "{fields}: {refused:?}"
        );
    }
    let refused = fixture
        .queue
        .publish_event("fine", &std::collections::BTreeMap::from([((1, 2), 3)]))
        .await;
    assert!(matches!(refused, Err(Error::Encode { .. })), "{refused:?}");
    assert_eq!(fixture.server.int(&["EXISTS", "bull:q:events"]).await?, 0);
    // A key of another type stays what it is.
    fixture.server.cli(&["SET", "bull:q:events", "x"]).await?;
    let before = fixture.server.cli(&["HGETALL", "bull:q:meta"]).await?.map();
    assert!(fixture.queue.publish_event("fine", &()).await.is_err());
    assert!(fixture.queue.trim_events(0).await.is_err());
    assert_eq!(
        fixture.server.cli(&["HGETALL", "bull:q:meta"]).await?.map(),
        before
    );
    Ok(())
}

/// One's own events do not shorten the history that the queue's settings promise.
#[tokio::test]
async fn custom_events_keep_the_queue_s_bound() -> TestResult {
    let server = RedisServer::start_with(&["stream-node-max-entries 10"]).await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let queue: Queue<Value> = Queue::builder(&client, "q").max_events(200).open().await?;
    publish(&queue, 0..400).await?;
    let length = server.int(&["XLEN", "bull:q:events"]).await?;
    assert!((200..210).contains(&length), "{length}");
    queue.publish_event_keeping("tick", &(), 50).await?;
    let length = server.int(&["XLEN", "bull:q:events"]).await?;
    assert!((50..60).contains(&length), "{length}");
    Ok(())
}
