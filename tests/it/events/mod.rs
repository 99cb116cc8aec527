//! The event stream: nothing is lost unnoticed, whatever happens between reader and server.

use oxbull::{Client, ClientConfig, EventEntry, Queue, QueueEvent, QueueEvents};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use serde_json::{Value, json};

mod custom;
mod failures;
mod gaps;
mod reading;

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
