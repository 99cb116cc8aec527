//! Entries that are gone before they are read.

use oxbull::{Client, ClientConfig, EventId, QueueEvent, QueueEvents};
use oxbull_fixture::Fixture;
use oxbull_testkit::TestResult;

use super::{Behind, expect, next, publish};

/// A reader that was away for too long gets the number of missed entries, and continues with the rest.
#[tokio::test]
async fn trimmed_entries_are_reported_as_a_gap() -> TestResult {
    let mut behind = Behind::start().await?;
    behind.keep_away().await?;
    publish(&behind.queue, 1..501).await?;
    assert_eq!(behind.cut("20").await?, 481);
    behind.proxy.clear_rules();
    let entry = next(&mut behind.events).await?;
    // The one that it had read is gone too, and was not missed.
    assert!(
        matches!(
            entry.event,
            QueueEvent::Gap {
                missed: Some(480),
                ..
            }
        ),
        "{entry:?}"
    );
    assert_eq!(entry.id, behind.events.last_id());
    behind.expect(481..501).await?;

    // All gone, and nothing new: still reported.
    behind.keep_away().await?;
    publish(&behind.queue, 501..511).await?;
    behind.cut("0").await?;
    behind.proxy.clear_rules();
    let entry = next(&mut behind.events).await?;
    assert!(
        matches!(
            entry.event,
            QueueEvent::Gap {
                missed: Some(10),
                ..
            }
        ),
        "{entry:?}"
    );
    publish(&behind.queue, 511..513).await?;
    behind.expect(511..513).await
}

/// Only what was not read was missed.
#[tokio::test]
async fn trimming_what_was_read_is_no_gap() -> TestResult {
    let mut behind = Behind::start().await?;
    publish(&behind.queue, 1..101).await?;
    behind.expect(1..101).await?;
    behind.keep_away().await?;
    behind.cut("0").await?;
    publish(&behind.queue, 101..103).await?;
    behind.proxy.clear_rules();
    behind.expect(101..103).await?;

    // Trimming cuts whole blocks, here of ten.
    let gone = behind.queue.trim_events(0).await?;
    assert_eq!(gone, 2);
    publish(&behind.queue, 103..205).await?;
    behind.expect(103..205).await?;
    assert_eq!(behind.queue.trim_events(15).await?, 80);
    let builder = QueueEvents::builder(
        &Client::connect(ClientConfig::from_url(&behind.server.url())?).await?,
        "q",
    );
    let mut all = builder.from_beginning().open().await?;
    expect(&mut all, 183..205).await
}

/// A reader that begins after an event which is long gone learns that it missed some.
#[tokio::test]
async fn start_behind_the_trim_is_a_gap() -> TestResult {
    let mut behind = Behind::start().await?;
    let stored = behind.events.last_id();
    publish(&behind.queue, 1..101).await?;
    behind.expect(1..101).await?;
    behind.cut("5").await?;
    let client = Client::connect(ClientConfig::from_url(&behind.server.url())?).await?;
    let builder = || QueueEvents::builder(&client, "q");
    let mut events = builder().after(stored).open().await?;
    let entry = next(&mut events).await?;
    // It is unknown how many came after that id.
    assert!(
        matches!(entry.event, QueueEvent::Gap { missed: None, .. }),
        "{entry:?}"
    );
    expect(&mut events, 96..101).await?;
    let mut whole = builder().after(events.last_id()).open().await?;
    publish(&behind.queue, 101..102).await?;
    expect(&mut whole, 101..102).await
}

/// FLUSHALL, obliterate and a server that lost its data: the reader says so and reads the new
/// stream, even if its ids are smaller than those it knows.
#[tokio::test]
async fn deleted_stream_is_reported_and_its_successor_read() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut events = QueueEvents::open(&fixture.client, "q").await?;
    publish(&fixture.queue, 0..2).await?;
    expect(&mut events, 0..2).await?;
    fixture.server.cli(&["FLUSHALL"]).await?;
    let entry = next(&mut events).await?;
    assert!(
        matches!(entry.event, QueueEvent::Gap { missed: None, .. }),
        "{entry:?}"
    );
    assert_eq!(events.last_id(), EventId::START);
    let add = async |id: &str, n: &str| {
        let args = ["XADD", "bull:q:events", id, "event", "tick", "n", n];
        fixture.server.cli(&args).await
    };
    add("5-1", "2").await?;
    add("90-0", "3").await?;
    expect(&mut events, 2..4).await?;
    assert_eq!(events.last_id(), EventId::new(90, 0));

    // Deleted and written again before the reader looks.
    let script = "redis.call('DEL', KEYS[1]) \
                  return redis.call('XADD', KEYS[1], '7-0', 'event', 'tick', 'n', '4')";
    fixture
        .server
        .cli(&["EVAL", script, "1", "bull:q:events"])
        .await?;
    let entry = next(&mut events).await?;
    assert!(
        matches!(entry.event, QueueEvent::Gap { missed: None, .. }),
        "{entry:?}"
    );
    expect(&mut events, 4..5).await?;
    fixture.server.cli(&["DEL", "bull:q:events"]).await?;
    publish(&fixture.queue, 5..6).await?;
    let entry = next(&mut events).await?;
    assert!(
        matches!(entry.event, QueueEvent::Gap { missed: None, .. }),
        "{entry:?}"
    );
    expect(&mut events, 5..6).await
}
