//! Streams of events: where they begin, what they yield and how they end.

use std::time::Duration;

use oxbull::{Error, EventId, JobOptions, Queue, QueueEvent, QueueEvents, Worker};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use super::{expect, next, publish, readers, settles_at};

/// Between opening and the first poll there is no time in which an event could get lost, and
/// no earlier event is part of it.
#[tokio::test]
async fn stream_from_now_begins_when_it_is_opened() -> TestResult {
    let fixture = Fixture::start().await?;
    publish(&fixture.queue, 0..3).await?;
    let mut events = QueueEvents::open(&fixture.client, "q").await?;
    publish(&fixture.queue, 3..6).await?;
    settles_at(&fixture.server, 1).await?;
    publish(&fixture.queue, 6..9).await?;
    expect(&mut events, 3..9).await?;

    // The same on a queue that has no stream yet.
    let queue = Queue::open(&fixture.client, "new").await?;
    let mut events = QueueEvents::open(&fixture.client, "new").await?;
    publish(&queue, 0..3).await?;
    expect(&mut events, 0..3).await
}

/// A process that stored the id of the last event it dealt with is followed by another that
/// sees the next one first.
#[tokio::test]
async fn stream_goes_on_where_another_one_ended() -> TestResult {
    let fixture = Fixture::start().await?;
    publish(&fixture.queue, 0..600).await?;
    let builder = || QueueEvents::builder(&fixture.client, "q");
    let mut first = builder().from_beginning().open().await?;
    assert_eq!(first.last_id(), EventId::START);
    expect(&mut first, 0..300).await?;
    let stored = first.last_id().to_string();
    first.close();
    let mut second = builder().after(stored.parse()?).open().await?;
    expect(&mut second, 300..600).await?;
    // It is unknown what came after an id that is older than all entries.
    let early = second.last_id().timestamp().as_millis() - 60_000;
    let mut third = builder().after(early.to_string().parse()?).open().await?;
    let entry = next(&mut third).await?;
    assert!(
        matches!(entry.event, QueueEvent::Gap { missed: None, .. }),
        "{entry:?}"
    );
    expect(&mut third, 0..1).await
}

/// The life of a job, in the order in which it happens.
#[tokio::test]
async fn events_of_a_job_come_typed_and_in_order() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut events = QueueEvents::open(&fixture.client, "q").await?;
    let job = fixture
        .add("fail once", JobOptions::new().attempts(2))
        .await?;
    fixture
        .queue
        .update_progress(&job, &json!({ "at": 5 }))
        .await?;
    let worker = Worker::builder(&fixture.client, "q")
        .start(scripted)
        .await?;
    let mut names = Vec::new();
    loop {
        let entry = next(&mut events).await?;
        assert!(entry.extra.is_empty(), "{entry:?}");
        names.push(entry.event.name().to_owned());
        match entry.event {
            QueueEvent::Drained => break,
            QueueEvent::Progress { progress, .. } => {
                assert_eq!(progress.decode::<Value>()?["at"], 5);
            }
            QueueEvent::Completed {
                job: id,
                return_value,
                ..
            } => {
                assert_eq!(id, job);
                assert_eq!(return_value.decode::<String>()?, "fail once");
            }
            event => assert_eq!(event.job(), Some(&job)),
        }
    }
    assert_eq!(
        names,
        [
            "added",
            "waiting",
            "progress",
            "active",
            "waiting",
            "active",
            "completed",
            "drained"
        ]
    );
    worker.close().await;
    Ok(())
}

/// A consumer that does not come costs the server a few reads and other clients nothing.
#[tokio::test]
async fn slow_consumer_holds_up_only_itself() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut slow = QueueEvents::open(&fixture.client, "q").await?;
    let mut quick = QueueEvents::open(&fixture.client, "q").await?;
    settles_at(&fixture.server, 2).await?;
    for round in 0..50 {
        publish(&fixture.queue, round * 100..round * 100 + 100).await?;
        expect(&mut quick, round * 100..round * 100 + 100).await?;
    }
    drop(quick);
    settles_at(&fixture.server, 1).await?;
    let before = fixture.calls("xread").await?;
    // 5,000 entries in batches of 256, of which it holds two.
    expect(&mut slow, 0..5000).await?;
    let after = fixture.calls("xread").await?;
    assert!(after - before >= 16, "{before} reads before, {after} after");
    Ok(())
}

/// Listeners are listed by Node's tools under their own name, and end when they should.
#[tokio::test]
async fn stream_has_a_named_connection_and_ends_it() -> TestResult {
    let fixture = Fixture::start().await?;
    let one = QueueEvents::open(&fixture.client, "q").await?;
    let two = QueueEvents::open(&fixture.client, "q").await?;
    settles_at(&fixture.server, 2).await?;
    drop(one);
    settles_at(&fixture.server, 1).await?;
    two.close();
    settles_at(&fixture.server, 0).await?;

    let mut closed = QueueEvents::open(&fixture.client, "q").await?;
    settles_at(&fixture.server, 1).await?;
    fixture.client.close().await;
    let end = tokio::time::timeout(DEADLINE, closed.next()).await?;
    assert!(matches!(end, Some(Err(Error::Closed))), "{end:?}");
    assert!(closed.next().await.is_none());
    settles_at(&fixture.server, 0).await?;
    let refused = QueueEvents::open(&fixture.client, "q").await;
    assert!(matches!(refused, Err(Error::Closed)), "{refused:?}");
    Ok(())
}

/// What waiting cannot mend is said once and ends the stream.
#[tokio::test]
async fn stream_ends_with_what_cannot_be_mended() -> TestResult {
    let fixture = Fixture::start().await?;
    let mut odd = QueueEvents::open(&fixture.client, "q").await?;
    fixture.server.cli(&["SET", "bull:q:events", "x"]).await?;
    let end = tokio::time::timeout(DEADLINE, odd.next()).await?;
    assert!(matches!(end, Some(Err(Error::Server(_)))), "{end:?}");
    assert!(odd.next().await.is_none());
    fixture.server.cli(&["DEL", "bull:q:events"]).await?;

    let mut denied = QueueEvents::open(&fixture.client, "q").await?;
    settles_at(&fixture.server, 1).await?;
    fixture
        .server
        .cli(&["ACL", "SETUSER", "default", "-xread"])
        .await?;
    let end = tokio::time::timeout(DEADLINE, denied.next()).await?;
    assert!(matches!(end, Some(Err(Error::Denied(_)))), "{end:?}");
    assert!(denied.next().await.is_none());

    let unnamed = QueueEvents::open(&fixture.client, "a:b").await;
    assert!(matches!(unnamed, Err(Error::Invalid { .. })), "{unnamed:?}");
    let unprefixed = QueueEvents::builder(&fixture.client, "q")
        .prefix("")
        .open()
        .await;
    assert!(
        matches!(unprefixed, Err(Error::Invalid { .. })),
        "{unprefixed:?}"
    );
    Ok(())
}

/// Large streams are cut in steps, each of which the server survives, down to what was asked.
#[tokio::test]
async fn large_stream_is_cut_to_what_is_asked() -> TestResult {
    let fixture = Fixture::start().await?;
    let script =
        "for i = 1, 50000 do redis.call('XADD', KEYS[1], '*', 'event', 'tick', 'n', i) end";
    fixture
        .server
        .cli(&["EVAL", script, "1", "bull:q:events"])
        .await?;
    let gone = fixture.queue.trim_events(1000).await?;
    let left = fixture.server.int(&["XLEN", "bull:q:events"]).await?;
    assert!((1000..1100).contains(&left), "{left}");
    assert_eq!(gone + u64::try_from(left)?, 50_000);
    Ok(())
}

/// A reader that waits for long is neither taken for dead nor sent a gap.
#[tokio::test]
async fn idle_stream_keeps_its_connection() -> TestResult {
    let fixture = Fixture::start().await?;
    publish(&fixture.queue, 0..3).await?;
    let mut events = QueueEvents::open(&fixture.client, "q").await?;
    settles_at(&fixture.server, 1).await?;
    let before = readers(&fixture.server).await?;
    // Two reads time out at the server.
    eventually(DEADLINE, async || {
        fixture.calls("xread").await.is_ok_and(|reads| reads >= 2)
    })
    .await?;
    assert_eq!(readers(&fixture.server).await?, before);
    publish(&fixture.queue, 3..4).await?;
    tokio::time::timeout(Duration::from_secs(30), expect(&mut events, 3..4)).await?
}
