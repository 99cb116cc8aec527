//! The event stream: nothing is lost unnoticed, whatever happens between reader and server.

use std::time::Duration;

use futures::StreamExt as _;
use oxbull::{
    Client, ClientConfig, Error, EventEntry, EventId, JobOptions, Queue, QueueEvent, QueueEvents,
    Worker,
};
use oxbull_fixture::{Fixture, obey};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use serde_json::{Value, json};

/// What the server's client list calls a reader of the queue `q`.
pub(crate) const READER: &str = "name=bull:cQ==:qe ";

/// How many readers of the events of `q` the server has.
pub(crate) async fn readers(server: &RedisServer) -> TestResult<Vec<i64>> {
    let list = server.text(&["CLIENT", "LIST"]).await?.unwrap_or_default();
    Ok(list
        .lines()
        .filter(|line| line.contains(READER))
        .filter_map(|line| line.strip_prefix("id=")?.split(' ').next()?.parse().ok())
        .collect())
}

/// Waits until the server has so many readers of the events of `q`.
pub(crate) async fn settles_at(server: &RedisServer, count: usize) -> TestResult {
    eventually(DEADLINE, async || {
        readers(server)
            .await
            .is_ok_and(|readers| readers.len() == count)
    })
    .await?;
    Ok(())
}

async fn next(events: &mut QueueEvents) -> TestResult<EventEntry> {
    match tokio::time::timeout(DEADLINE, events.next()).await {
        Ok(entry) => Ok(entry.ok_or("the stream has ended")??),
        Err(_) => Err(format!("nothing after {}", events.last_id()).into()),
    }
}

/// Publishes events that are numbered.
async fn publish(queue: &Queue<Value>, numbers: std::ops::Range<u32>) -> TestResult {
    for n in numbers {
        queue.publish_event("tick", &json!({ "n": n })).await?;
    }
    Ok(())
}

/// The number of a published event.
fn number(entry: &EventEntry) -> TestResult<u32> {
    #[derive(serde::Deserialize)]
    struct Tick {
        n: u32,
    }

    match &entry.event {
        QueueEvent::Unknown { name, fields, .. } if name == "tick" => {
            Ok(fields.decode::<Tick>()?.n)
        }
        other => Err(format!("not a tick: {other:?}").into()),
    }
}

async fn expect(events: &mut QueueEvents, numbers: std::ops::Range<u32>) -> TestResult {
    for n in numbers {
        assert_eq!(number(&next(events).await?)?, n);
    }
    Ok(())
}

/// Between opening and the first poll there is no time in which an event could get lost, and
/// what happened before is not told.
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
    // Nobody can tell what came after an id that is older than all entries.
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
    let worker = Worker::builder(&fixture.client, "q").start(obey).await?;
    let mut names = Vec::new();
    loop {
        let entry = next(&mut events).await?;
        assert!(entry.extra.is_empty(), "{entry:?}");
        names.push(entry.event.name().to_owned());
        match entry.event {
            QueueEvent::Drained => break,
            QueueEvent::Progress { data, .. } => assert_eq!(data.decode::<Value>()?["at"], 5),
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

/// A reader behind a proxy, and a queue past it.
struct Behind {
    server: RedisServer,
    proxy: Proxy,
    queue: Queue<Value>,
    events: QueueEvents,
}

impl Behind {
    async fn start() -> TestResult<Self> {
        let server = RedisServer::start_with(&["stream-node-max-entries 10"]).await?;
        let proxy = Proxy::start(server.port()).await?;
        let direct = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        let behind = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
        let queue = Queue::open(&direct, "q").await?;
        let events = QueueEvents::open(&behind, "q").await?;
        publish(&queue, 0..1).await?;
        let mut behind = Self {
            server,
            proxy,
            queue,
            events,
        };
        behind.expect(0..1).await?;
        Ok(behind)
    }

    async fn expect(&mut self, numbers: std::ops::Range<u32>) -> TestResult {
        expect(&mut self.events, numbers).await
    }

    /// Keeps the reader away until [`Proxy::clear_rules`].
    async fn keep_away(&self) -> TestResult {
        keep_away(&self.proxy).await
    }

    async fn cut(&self, keep: &str) -> TestResult<i64> {
        let args = ["XTRIM", "bull:q:events", "MAXLEN", keep];
        Ok(self.server.int(&args).await?)
    }
}

/// Keeps readers of events behind a proxy away from the server until its rules are cleared.
pub(crate) async fn keep_away(proxy: &Proxy) -> TestResult {
    let rule = proxy.add(Rule::reset_before(|command| command.is("XREAD")));
    proxy.kill_all();
    rule.wait_fired(1, DEADLINE).await?;
    Ok(())
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

/// A peer that vanished without a farewell is noticed by its silence.
#[tokio::test]
async fn silent_peer_costs_nothing_but_time() -> TestResult {
    let mut behind = Behind::start().await?;
    behind.proxy.half_open();
    publish(&behind.queue, 1..50).await?;
    behind.proxy.pass().await?;
    behind.expect(1..50).await
}

/// A reader that was away for too long is told how much it missed, and goes on with the rest.
#[tokio::test]
async fn trimmed_entries_are_told_as_a_gap() -> TestResult {
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

    // All gone, and nothing new: told all the same.
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
    // Nobody knows how many came after that id.
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
async fn deleted_stream_is_told_and_its_successor_read() -> TestResult {
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

/// A consumer that does not come costs the server a few reads and nobody else anything.
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

/// A reader that waits for long is neither taken for dead nor told of a gap.
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
