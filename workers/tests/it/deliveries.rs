//! Deliveries by a real worker: each event once, in its conversation's order.

mod equal;

use oxbull::{
    Client, ClientConfig, JobId, JobOptions, JobState, ManualWorker, Queue, RetryOptions, Worker,
};
use oxbull_testkit::{BullMq, DEADLINE, NodePeer, RedisServer, TestResult, eventually};
use oxbull_workers::jobs::webhook_processing::{
    CONCURRENCY, Ledger, Notice, ProcessedDelivery, QUEUE, SHARE_MAX, WebhookDelivery, channel,
    events_key, handle, options, shares, unknown_key,
};
use serde_json::{Value, json};

const ACCOUNT: &str = "17841405822304914";

struct DeliveryFixture {
    server: RedisServer,
    client: Client,
    queue: Queue<Value>,
    ledger: Ledger,
}

impl DeliveryFixture {
    async fn start() -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        let queue = Queue::builder(&client, QUEUE).default_options(options());
        Ok(Self {
            queue: queue.open().await?,
            ledger: Ledger::open(&client, "bull").await?,
            server,
            client,
        })
    }

    async fn worker(&self) -> TestResult<Worker> {
        let worker = Worker::builder(&self.client, QUEUE)
            .concurrency(CONCURRENCY)
            .state(self.ledger.clone())
            .start(handle)
            .await?;
        Ok(worker)
    }

    /// Gives a delivery its place, as the gateway does.
    async fn accept(&self, id: &str, delivery: &Value) -> TestResult<bool> {
        let delivery: WebhookDelivery = serde_json::from_value(delivery.clone())?;
        let mut handled = true;
        for share in shares(&delivery).0 {
            let id = JobId::new(id)?;
            handled &= self
                .ledger
                .accept(&id, &share)
                .await
                .map_err(|e| e.to_string())?;
        }
        Ok(handled)
    }

    async fn add(&self, id: &str, delivery: &Value) -> TestResult<JobId> {
        let options = JobOptions::new().id(JobId::new(id)?);
        Ok(self.queue.add_once("delivery", delivery, options).await?.id)
    }

    async fn reaches(&self, id: &JobId, state: JobState) -> TestResult {
        eventually(DEADLINE, async || {
            let found = self.queue.state(id).await.map_err(|e| e.to_string())?;
            if found == Some(state) {
                Ok(())
            } else {
                Err(format!("{id} is {found:?}"))
            }
        })
        .await?;
        Ok(())
    }

    async fn result(&self, id: &JobId) -> TestResult<ProcessedDelivery> {
        self.reaches(id, JobState::Completed).await?;
        let job = self.queue.job(id).await?.unwrap();
        Ok(job.return_value()?.unwrap())
    }

    /// The ids of recorded events in their order.
    async fn recorded(&self, key: &str) -> TestResult<Vec<String>> {
        let entries = self.server.cli(&["XRANGE", key, "-", "+"]).await?;
        let ids = entries.entries().into_iter().map(|(_, fields)| {
            let notice: Notice = serde_json::from_str(&fields["event"]).unwrap();
            notice.event.event_id
        });
        Ok(ids.collect())
    }

    async fn end(self, worker: Worker) {
        worker.close().await;
        self.client.close().await;
    }
}

fn entry(items: &Value) -> Value {
    json!({ "object": "instagram", "entry": [
        { "id": ACCOUNT, "time": 1_700_000_000, "messaging": items }] })
}

fn message(peer: &str, mid: &str) -> Value {
    json!({ "sender": {"id": peer}, "recipient": {"id": ACCOUNT}, "timestamp": 1,
        "message": {"mid": mid, "text": "hello"} })
}

fn delivery(peer: &str, mid: &str) -> Value {
    entry(&json!([message(peer, mid)]))
}

/// The API delivers at least once, whole or regrouped; each event is recorded and told once.
#[tokio::test]
async fn repeated_events_are_handled_once() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let mut subscriber = fixture.server.connect().await?;
    subscriber.send(&["PSUBSCRIBE", "notify:*"]).await?;
    subscriber.receive().await?;
    let worker = fixture.worker().await?;
    let both = entry(&json!([
        message("5", "a"),
        message("5", "b"),
        message("5", "a")
    ]));
    let mut events = 0;
    let mut repeated = 0;
    let mut jobs = Vec::new();
    for (id, data) in [
        ("x1", &both),
        ("x2", &both),
        ("x3", &delivery("5", "b")),
        ("x4", &delivery("5", "c")),
    ] {
        jobs.push(fixture.add(id, data).await?);
    }
    for id in &jobs {
        let result = fixture.result(id).await?;
        events += result.events.len();
        repeated += result.repeated;
    }
    assert_eq!((events, repeated), (3, 5));
    let mut recorded = fixture.recorded(&events_key(ACCOUNT)).await?;
    recorded.sort();
    assert_eq!(recorded, ["a", "b", "c"]);
    let counts = format!("webhook:{{{ACCOUNT}}}:counts");
    let counted = fixture.server.text(&["HGET", &counts, "message"]).await?;
    assert_eq!(counted.as_deref(), Some("3"));
    let mut told = Vec::new();
    for _ in 0..3 {
        let texts = subscriber.receive().await?.texts();
        assert_eq!(texts[2], channel(None, ACCOUNT));
        let notice: Value = serde_json::from_str(&texts[3])?;
        assert_eq!(notice["type"], "webhook.event");
        assert_eq!(notice["conversation"], "5");
        told.push(notice["eventId"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["a", "b", "c"]);
    for key in fixture.server.cli(&["KEYS", "webhook:*"]).await?.texts() {
        assert!(fixture.server.int(&["PTTL", &key]).await? > 0, "{key}");
    }
    fixture.end(worker).await;
    Ok(())
}

/// Every kind of event ends in the account's record, and what is of no known kind in a record of
/// its own; a backend that knows the user has the user told.
#[tokio::test]
async fn every_kind_is_stored_and_counted() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let mut subscriber = fixture.server.connect().await?;
    subscriber.send(&["SUBSCRIBE", "notify:user-7"]).await?;
    subscriber.receive().await?;
    let worker = fixture.worker().await?;
    let mut all = entry(&json!([
        message("5", "text"),
        { "sender": {"id": "5"}, "message": {"mid": "image", "attachments": [{"type": "image"}]} },
        { "sender": {"id": ACCOUNT}, "recipient": {"id": "5"},
          "message": {"mid": "echo", "is_echo": true} },
        { "sender": {"id": "5"}, "message": {"mid": "gone", "is_deleted": true} },
        { "sender": {"id": "5"}, "postback": {"mid": "button", "payload": "BUY"} },
        { "sender": {"id": "5"}, "read": {"mid": "seen"} },
        { "sender": {"id": "5"}, "timestamp": 7,
          "reaction": {"mid": "text", "action": "react", "emoji": "x"} },
        { "sender": {"id": "5"}, "referral": {"ref": "ad"} },
    ]));
    all["userId"] = json!("user-7");
    all["entry"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "id": ACCOUNT, "changes": [
            { "field": "comments", "value": {"id": "comment"} },
            { "field": "mentions", "value": {"comment_id": "mention", "media_id": "9"} },
            { "field": "story_insights", "value": {"reach": 3} },
        ]}));
    let id = fixture.add("all", &all).await?;
    let result = fixture.result(&id).await?;
    assert_eq!((result.events.len(), result.repeated), (11, 0));
    let known = [
        "text",
        "image",
        "echo",
        "gone",
        "button",
        "5.seen",
        "5.text.react.7000",
        "comment",
        "mention",
    ];
    assert_eq!(fixture.recorded(&events_key(ACCOUNT)).await?, known);
    assert_eq!(fixture.recorded(&unknown_key(ACCOUNT)).await?.len(), 2);
    let counts = format!("webhook:{{{ACCOUNT}}}:counts");
    let counts = fixture.server.cli(&["HGETALL", &counts]).await?.map();
    let expected = [
        ("comment", "1"),
        ("echo", "1"),
        ("mention", "1"),
        ("message", "2"),
        ("message_deleted", "1"),
        ("postback", "1"),
        ("reaction", "1"),
        ("read", "1"),
        ("referral", "1"),
        ("story_insights", "1"),
    ];
    let expected = expected.map(|(kind, count)| (kind.to_owned(), count.to_owned()));
    assert_eq!(counts, expected.into());
    for _ in 0..11 {
        assert_eq!(subscriber.receive().await?.texts()[1], "notify:user-7");
    }
    fixture.end(worker).await;
    Ok(())
}

/// Kinds that somebody makes up must not fill the server.
#[tokio::test]
async fn number_of_unknown_kinds_is_bounded() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let worker = fixture.worker().await?;
    let changes: Vec<_> = (0..300)
        .map(|n| json!({ "field": format!("field-{n}"), "value": {} }))
        .collect();
    let odd = json!({ "object": "instagram", "entry": [{ "id": ACCOUNT, "changes": changes }] });
    let id = fixture.add("odd", &odd).await?;
    assert_eq!(fixture.result(&id).await?.events.len(), 300);
    let counts = format!("webhook:{{{ACCOUNT}}}:counts");
    assert_eq!(fixture.server.int(&["HLEN", &counts]).await?, 101);
    let other = fixture.server.text(&["HGET", &counts, "other"]).await?;
    assert_eq!(other.as_deref(), Some("200"));
    fixture.end(worker).await;
    Ok(())
}

/// A worker may die after the events were handled and before its job was: the next run neither
/// repeats nor loses them.
#[tokio::test]
async fn job_that_runs_again_repeats_nothing() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let data = delivery("5", "a");
    fixture.accept("twice", &data).await?;
    let id = fixture.add("twice", &data).await?;
    let worker = fixture.worker().await?;
    let first = fixture.result(&id).await?;
    fixture.queue.rerun(&id, RetryOptions::default()).await?;
    eventually(DEADLINE, async || {
        let job = fixture.queue.job(&id).await.map_err(|e| e.to_string())?;
        let started = job.unwrap().attempts_started;
        (started == 2).then_some(()).ok_or(started.to_string())
    })
    .await?;
    assert_eq!(fixture.result(&id).await?, first);
    assert_eq!(fixture.recorded(&events_key(ACCOUNT)).await?, ["a"]);
    fixture.end(worker).await;
    Ok(())
}

/// The order of acceptance holds however the jobs come into the queue; other conversations and
/// deliveries without a place wait for nobody.
#[tokio::test]
async fn conversation_keeps_its_order() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let [first, second, third] = ["1", "2", "3"].map(|mid| delivery("5", mid));
    for (id, data) in [("a", &first), ("b", &second), ("c", &third)] {
        assert!(!fixture.accept(id, data).await?);
        // A repeat keeps its place.
        assert!(!fixture.accept(id, data).await?);
    }
    let worker = fixture.worker().await?;
    let third = fixture.add("c", &third).await?;
    let second = fixture.add("b", &second).await?;
    let other = fixture.add("other", &delivery("6", "4")).await?;
    let late = fixture.add("unplaced", &delivery("5", "5")).await?;
    fixture.result(&other).await?;
    fixture.result(&late).await?;
    fixture.reaches(&third, JobState::Delayed).await?;
    fixture.reaches(&second, JobState::Delayed).await?;
    let id = fixture.add("a", &first).await?;
    for id in [&id, &second, &third] {
        fixture.result(id).await?;
        let job = fixture.queue.job(id).await?.unwrap();
        assert_eq!(job.attempts_made, 1, "stepping aside is no attempt");
    }
    let mut recorded = fixture.recorded(&events_key(ACCOUNT)).await?;
    recorded.retain(|id| ["1", "2", "3"].contains(&id.as_str()));
    assert_eq!(recorded, ["1", "2", "3"]);
    // Handled deliveries are known as such.
    assert!(fixture.accept("a", &delivery("5", "1")).await?);
    fixture.end(worker).await;
    Ok(())
}

/// A delivery with more events than Redis handles in one step is handled in several, which
/// nothing of its conversations comes between.
#[tokio::test]
async fn large_delivery_keeps_its_order() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let mids: Vec<_> = (0..2 * SHARE_MAX + 50).map(|n| format!("{n:04}")).collect();
    let messages: Vec<_> = mids.iter().map(|mid| message("5", mid)).collect();
    let (large, next) = (entry(&json!(messages)), delivery("5", "next"));
    fixture.accept("large", &large).await?;
    fixture.accept("next", &next).await?;
    let worker = fixture.worker().await?;
    let next = fixture.add("next", &next).await?;
    let id = fixture.add("large", &large).await?;
    assert_eq!(fixture.result(&id).await?.events.len(), mids.len());
    fixture.result(&next).await?;
    let recorded = fixture.recorded(&events_key(ACCOUNT)).await?;
    assert_eq!(recorded[..mids.len()], mids);
    assert_eq!(recorded[mids.len()..], ["next"]);
    assert!(fixture.accept("large", &large).await?);
    fixture.end(worker).await;
    Ok(())
}

/// A delivery that has failed, and one whose gateway died before it was queued, must not hold up
/// their conversation for ever; a late one is still handled.
#[tokio::test]
async fn places_of_those_that_will_not_come_are_passed_over() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let [failed, lost, after] = ["1", "2", "3"].map(|mid| delivery("5", mid));
    for (id, data) in [("broken", &failed), ("lost", &lost), ("after", &after)] {
        fixture.accept(id, data).await?;
    }
    let manual = ManualWorker::new(&fixture.client, QUEUE)?;
    fixture.add("broken", &failed).await?;
    let job = manual.fetch("token").await?.unwrap();
    let end = Err(oxbull::JobError::fatal("for the test"));
    manual.finish::<Value>(&job, "token", end).await?;
    // The lost one's place is older than a delivery may take to come.
    let turns = format!("webhook:{{{ACCOUNT}}}:turns:5");
    fixture
        .server
        .cli(&["ZADD", &turns, "1000", "lost"])
        .await?;
    fixture
        .server
        .cli(&["ZADD", &turns, "500", "broken"])
        .await?;
    let worker = fixture.worker().await?;
    let after = fixture.add("after", &after).await?;
    fixture.result(&after).await?;
    let passed = format!("webhook:{{{ACCOUNT}}}:passed");
    assert_eq!(
        fixture.server.text(&["GET", &passed]).await?.as_deref(),
        Some("2")
    );
    assert!(!fixture.accept("lost", &lost).await?);
    let lost = fixture.add("lost", &lost).await?;
    fixture.result(&lost).await?;
    assert_eq!(fixture.recorded(&events_key(ACCOUNT)).await?, ["3", "2"]);
    fixture.end(worker).await;
    Ok(())
}

/// The backend may queue deliveries itself, by BullMQ and without a place: they are handled all
/// the same, and once, also when the gateway gets them too.
#[tokio::test]
async fn deliveries_that_bullmq_queues_are_handled() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let node = NodePeer::bullmq(BullMq::V6, fixture.server.port()).await?;
    let worker = fixture.worker().await?;
    let data = delivery("5", "a");
    let job = json!({ "queue": QUEUE, "name": "webhook", "data": data });
    let id = node.call("queue.add", job).await?["id"].to_string();
    let id = JobId::existing(id.trim_matches('"'));
    assert_eq!(fixture.result(&id).await?.events.len(), 1);
    fixture.accept("placed", &data).await?;
    let placed = fixture.add("placed", &data).await?;
    assert_eq!(fixture.result(&placed).await?.repeated, 1);
    assert_eq!(fixture.recorded(&events_key(ACCOUNT)).await?, ["a"]);
    node.close().await?;
    fixture.end(worker).await;
    Ok(())
}

/// What cannot be a delivery fails at once, says why without showing it, and can be looked at; the others go on.
#[tokio::test]
async fn malformed_delivery_fails_with_its_reason_and_data() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let worker = fixture.worker().await?;
    for (id, data, reason) in [
        ("list", json!([1, 2]), "first element, it is a number"),
        ("none", json!([]), "an empty array"),
        ("text", json!("hello"), "a text instead of an object"),
        ("null", json!(null), "null instead of an object"),
        ("empty", json!({}), "`object` is missing"),
        (
            "odd",
            json!({ "object": "instagram", "entry": "hello" }),
            "`entry` is missing or of another type",
        ),
    ] {
        let id = fixture.add(id, &data).await?;
        fixture.reaches(&id, JobState::Failed).await?;
        let job = fixture.queue.job(&id).await?.unwrap();
        let said = job.failed_reason.clone().unwrap();
        assert!(said.contains(reason) && !said.contains("hello"), "{said}");
        assert_eq!(job.data::<Value>()?, data);
        assert_eq!((job.attempts_started, job.attempts_made), (1, 1));
    }
    let good = fixture.add("good", &delivery("5", "a")).await?;
    assert_eq!(fixture.result(&good).await?.events.len(), 1);
    fixture.end(worker).await;
    Ok(())
}

/// A key of the wrong type must not leave an event half handled.
#[tokio::test]
async fn odd_keys_stop_handling_before_it_begins() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let counts = format!("webhook:{{{ACCOUNT}}}:counts");
    fixture.server.cli(&["SET", &counts, "odd"]).await?;
    let worker = fixture.worker().await?;
    let options = JobOptions::new().id(JobId::new("odd")?).attempts(1);
    let data = delivery("5", "a");
    let id = fixture.queue.add_with("delivery", &data, options).await?.id;
    fixture.reaches(&id, JobState::Failed).await?;
    let keys = fixture.server.cli(&["KEYS", "webhook:*"]).await?.texts();
    assert_eq!(keys, [counts]);
    fixture.end(worker).await;
    Ok(())
}

/// A user of Redis who may not publish must not leave an event half handled; the job waits without
/// using its only attempt until it may.
#[tokio::test]
async fn refused_publish_leaves_the_event_to_handle() -> TestResult {
    let fixture = DeliveryFixture::start().await?;
    let rules = [
        "ACL",
        "SETUSER",
        "mute",
        "on",
        ">p",
        "~*",
        "+@all",
        "resetchannels",
    ];
    fixture.server.cli(&rules).await?;
    let url = format!("redis://mute:p@127.0.0.1:{}", fixture.server.port());
    let mute = Client::connect(ClientConfig::from_url(&url)?).await?;
    let worker = Worker::builder(&mute, QUEUE)
        .state(Ledger::open(&mute, "bull").await?)
        .start(handle)
        .await?;
    let options = JobOptions::new().id(JobId::new("a1")?).attempts(1);
    let data = delivery("5", "a");
    let id = fixture.queue.add_with("delivery", &data, options).await?.id;
    fixture.reaches(&id, JobState::Delayed).await?;
    assert_eq!(fixture.queue.job(&id).await?.unwrap().attempts_made, 0);
    let keys = fixture.server.cli(&["KEYS", "webhook:*"]).await?.texts();
    assert!(keys.is_empty(), "{keys:?}");
    worker.close().await;
    mute.close().await;

    let worker = fixture.worker().await?;
    fixture.queue.promote(&id).await?;
    assert_eq!(fixture.result(&id).await?.events.len(), 1);
    fixture.end(worker).await;
    Ok(())
}
