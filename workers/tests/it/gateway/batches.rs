//! Deliveries that touch many conversations, or are large.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oxbull::{Client, ClientConfig, JobId, JobState, ManualWorker, Queue, Worker};
use oxbull_testkit::{DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};
use oxbull_workers::gateway::{Gateway, GatewayOptions, job_id};
use oxbull_workers::jobs::webhook_processing::{
    CONCURRENCY, Ledger, Notice, QUEUE, events_key, handle, unknown_key,
};
use serde_json::{Value, json};

use super::flights::FarServer;
use crate::http::{Http, SECRET, options};

/// A gateway that reaches Redis through a proxy, beside clients that do not.
struct BatchFixture {
    server: RedisServer,
    proxy: Proxy,
    far: Client,
    near: Client,
    queue: Queue<Value>,
    gateway: Gateway,
}

impl BatchFixture {
    async fn start(options: GatewayOptions) -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let proxy = Proxy::start(server.port()).await?;
        let far = Client::connect(ClientConfig::from_url(&proxy.url())?).await?;
        let near = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        Ok(Self {
            gateway: Gateway::start(&far, options).await?,
            queue: Queue::open(&near, QUEUE).await?,
            server,
            proxy,
            far,
            near,
        })
    }

    async fn deliver(&self, body: &[u8]) -> TestResult<u16> {
        let mut http = Http::to(&self.gateway).await?;
        Ok(http.deliver(body).await?.status)
    }

    fn body(&self, messages: &[(&str, &str, &str)]) -> Vec<u8> {
        let now = self.near.clock().now().as_millis();
        let entry: Vec<_> = messages
            .iter()
            .map(|(account, mid, text)| entry(account, now, mid, text))
            .collect();
        json!({ "object": "instagram", "entry": entry })
            .to_string()
            .into_bytes()
    }

    async fn worker(&self) -> TestResult<Worker> {
        let ledger = Ledger::open(&self.near, "bull").await?;
        let worker = Worker::builder(&self.near, QUEUE)
            .concurrency(CONCURRENCY)
            .state(ledger)
            .start(handle)
            .await?;
        Ok(worker)
    }

    async fn completes(&self, id: &JobId) -> TestResult {
        eventually(DEADLINE, async || {
            let found = self.queue.state(id).await.map_err(|e| e.to_string())?;
            (found == Some(JobState::Completed))
                .then_some(())
                .ok_or(format!("{id} is {found:?}"))
        })
        .await?;
        Ok(())
    }

    /// The ids of an account's events in their order.
    async fn recorded(&self, account: &str) -> TestResult<Vec<String>> {
        let entries = self
            .server
            .cli(&["XRANGE", &events_key(account), "-", "+"])
            .await?;
        let ids = entries.entries().into_iter().map(|(_, fields)| {
            let notice: Notice = serde_json::from_str(&fields["event"]).unwrap();
            notice.event.event_id
        });
        Ok(ids.collect())
    }

    /// Each place with whether its job is in the queue.
    async fn places(&self) -> TestResult<BTreeMap<String, bool>> {
        let mut places = BTreeMap::new();
        for key in self
            .server
            .cli(&["KEYS", "webhook:*:turns:*"])
            .await?
            .texts()
        {
            for share in self.server.cli(&["ZRANGE", &key, "0", "-1"]).await?.texts() {
                let id = JobId::existing(share.split('#').next().unwrap());
                let has_job = self.queue.state(&id).await?.is_some();
                places.insert(format!("{key} {share}"), has_job);
            }
        }
        Ok(places)
    }

    async fn end(self) {
        self.gateway.stop().await;
        self.far.close().await;
        self.near.close().await;
    }
}

fn entry(account: &str, now: i64, mid: &str, text: &str) -> Value {
    json!({ "id": account, "time": now, "messaging": [{
        "sender": {"id": "5"}, "recipient": {"id": account}, "timestamp": now,
        "message": {"mid": mid, "text": text} }] })
}

/// As many accounts as a delivery may have cost few round trips, both when it is stored and when it is
/// handled: the calls for them share the connection, many at a time.
#[tokio::test]
async fn delivery_of_a_thousand_accounts_takes_few_round_trips() -> TestResult {
    const MOST: u32 = 50;
    let fixture = BatchFixture::start(options()).await?;
    let far = FarServer::start(fixture.server.port(), Duration::from_millis(5)).await?;
    let client = Client::connect(ClientConfig::from_url(&far.url())?).await?;
    let gateway = Gateway::start(&client, options().store_within(DEADLINE)).await?;
    let accounts: Vec<_> = (0..1_000).map(|n| format!("a{n}")).collect();
    let messages: Vec<_> = accounts.iter().map(|a| (a.as_str(), "m", "")).collect();
    let body = fixture.body(&messages);
    let mut http = Http::to(&gateway).await?;
    let (before, begun) = (far.flights(), Instant::now());
    assert_eq!(http.deliver(&body).await?.status, 200);
    let flights = far.flights() - before;
    println!("stored: {flights} round trips, {:?}", begun.elapsed());
    assert!(flights <= MOST, "{flights} round trips");
    assert_eq!(fixture.places().await?.len(), accounts.len());

    let worker = Worker::builder(&client, QUEUE)
        .state(Ledger::open(&client, "bull").await?)
        .start(handle)
        .await?;
    let (before, begun) = (far.flights(), Instant::now());
    fixture.completes(&job_id(&body)?).await?;
    let flights = far.flights() - before;
    println!("handled: {flights} round trips, {:?}", begun.elapsed());
    assert!(flights <= 2 * MOST, "{flights} round trips");
    assert!(fixture.places().await?.is_empty());
    assert_eq!(fixture.recorded("a999").await?, ["m"]);
    worker.close().await;
    gateway.stop().await;
    client.close().await;
    fixture.end().await;
    Ok(())
}

/// A batch in an alphabet that the API escapes is as large as any: it is taken.
#[tokio::test]
async fn batch_of_a_thousand_japanese_messages_is_taken() -> TestResult {
    let fixture = BatchFixture::start(options().store_within(DEADLINE)).await?;
    let mids: Vec<_> = (0..1_000).map(|n| format!("m{n:04}")).collect();
    let text = "\u{3042}".repeat(150);
    let messages: Vec<_> = mids
        .iter()
        .map(|mid| ("1", mid.as_str(), text.as_str()))
        .collect();
    let body = String::from_utf8(fixture.body(&messages))?.replace('\u{3042}', "\\u3042");
    assert!(body.len() > 1_000_000, "{}", body.len());
    let begun = Instant::now();
    assert_eq!(fixture.deliver(body.as_bytes()).await?, 200);
    println!("{} bytes: {:?}", body.len(), begun.elapsed());
    let worker = fixture.worker().await?;
    fixture.completes(&job_id(body.as_bytes())?).await?;
    assert_eq!(fixture.recorded("1").await?, mids);
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// A text that was cut in the middle of a character has half a surrogate pair, which no decoder takes. It
/// costs that character, not the delivery.
#[tokio::test]
async fn half_of_a_surrogate_pair_costs_no_event() -> TestResult {
    let fixture = BatchFixture::start(options()).await?;
    let messages = [("1", "a", "cut @"), ("1", "b", "whole"), ("2", "c", "@")];
    let body = String::from_utf8(fixture.body(&messages))?.replace('@', "\\ud83d");
    assert_eq!(fixture.deliver(body.as_bytes()).await?, 200);
    let worker = fixture.worker().await?;
    fixture.completes(&job_id(body.as_bytes())?).await?;
    assert_eq!(fixture.recorded("1").await?, ["a", "b"]);
    assert_eq!(fixture.recorded("2").await?, ["c"]);
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// What no decoder takes costs nothing else of its delivery, and is kept beside it; a body without any delivery
/// fails its job at once.
#[tokio::test]
async fn unreadable_parts_of_a_delivery_cost_nothing_else() -> TestResult {
    let fixture = BatchFixture::start(options()).await?;
    let now = fixture.near.clock().now().as_millis();
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|mid| entry("1", now, mid, "x").to_string());
    // A message with a number that no decoder takes, an entry that is one, and one with all of its messages
    // twice, which are others.
    let b = b.replace("\"x\"", "1e999");
    let d = d.replacen(
        '{',
        "{\"messaging\":[{\"message\":{\"mid\":\"first\"}}],",
        1,
    );
    let body =
        format!("{{\"object\":\"instagram\",\"entry\":[{a},{b}],\"entry\":[1e999,{c},{d}]}}");
    let null = b"null";
    assert!(serde_json::from_str::<Value>(&body).is_err());
    for body in [body.as_bytes(), null] {
        assert_eq!(fixture.deliver(body).await?, 200);
    }
    let worker = fixture.worker().await?;
    fixture.completes(&job_id(body.as_bytes())?).await?;
    assert_eq!(fixture.recorded("1").await?, ["a", "b", "c", "first", "d"]);
    let stored = fixture
        .server
        .cli(&["XRANGE", &events_key("1"), "-", "+"])
        .await?;
    let (_, fields) = stored.entries().remove(1);
    let notice: Notice = serde_json::from_str(&fields["event"])?;
    assert_eq!(notice.event.payload["message"]["text"], "1e999");
    let unknown = fixture
        .server
        .cli(&["XRANGE", &unknown_key("unknown"), "-", "+"])
        .await?;
    let (_, fields) = unknown.entries().remove(0);
    let notice: Notice = serde_json::from_str(&fields["event"])?;
    assert_eq!(notice.event.payload, json!("1e999"));

    let failed = job_id(null)?;
    eventually(DEADLINE, async || {
        let found = fixture.queue.state(&failed).await;
        let found = found.map_err(|error| error.to_string())?;
        (found == Some(JobState::Failed))
            .then_some(())
            .ok_or(format!("{found:?}"))
    })
    .await?;
    let job = fixture.queue.job(&failed).await?.unwrap();
    assert_eq!(job.attempts_made, 1);
    let reason = job.failed_reason.as_deref();
    assert_eq!(
        reason,
        Some("no delivery of webhooks: it is null instead of an object")
    );
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// Wherever the way to Redis breaks while a delivery is stored, no conversation has a place without a
/// job, and the sender's next try stores it whole, once.
#[tokio::test]
async fn refused_delivery_leaves_no_place_without_a_job() -> TestResult {
    let is_write = |command: &oxbull_testkit::Command| {
        command.mentions(":turns:") || command.mentions("bull:webhook-processing")
    };
    let fault = |kind: u8| match kind {
        0 => Rule::reset_before(is_write),
        1 => Rule::drop_reply(is_write),
        _ => Rule::swallow_reply(is_write),
    };
    let mut refused = 0;
    for kind in 0..3 {
        for nth in 1..=5 {
            let options = options().store_within(Duration::from_millis(300));
            let fixture = BatchFixture::start(options).await?;
            let body = fixture.body(&[("1", "a", ""), ("2", "b", ""), ("3", "c", "")]);
            fixture.proxy.add(fault(kind).nth(nth));
            let status = fixture.deliver(&body).await?;
            assert!([200, 503].contains(&status), "{status}");
            refused += usize::from(status == 503);
            let places = fixture.places().await?;
            assert!(places.values().all(|has_job| *has_job), "{nth}: {places:?}");
            fixture.proxy.clear_rules();
            fixture.proxy.kill_all();
            eventually(DEADLINE, async || {
                let status = fixture.deliver(&body).await.map_err(|e| e.to_string())?;
                (status == 200).then_some(()).ok_or(status.to_string())
            })
            .await?;
            assert_eq!(fixture.queue.counts().await?.of(JobState::Waiting), 1);
            assert_eq!(fixture.places().await?.len(), 3);
            let worker = fixture.worker().await?;
            fixture.completes(&job_id(&body)?).await?;
            for (account, mid) in [("1", "a"), ("2", "b"), ("3", "c")] {
                assert_eq!(fixture.recorded(account).await?, [mid]);
            }
            worker.close().await;
            fixture.end().await;
        }
    }
    assert!(refused > 0, "no try was refused");
    Ok(())
}

/// A delivery whose storing broke off half way holds up neither the conversations that have their place
/// nor those that have not: the next message of each is handled without a wait.
#[tokio::test]
async fn refused_delivery_holds_up_no_conversation() -> TestResult {
    let options = options().store_within(Duration::from_millis(300));
    let fixture = BatchFixture::start(options).await?;
    let body = fixture.body(&[("1", "a", ""), ("2", "b", "")]);
    // Redis knows the scripts from here on, so each is one command.
    let known = fixture.body(&[("9", "m", "")]);
    assert_eq!(fixture.deliver(&known).await?, 200);
    // The first account gets its place, the second does not.
    let second = |command: &oxbull_testkit::Command| command.mentions("webhook:{2}:turns");
    fixture.proxy.add(Rule::delay(DEADLINE, second));
    assert_eq!(fixture.deliver(&body).await?, 503);
    let broken = job_id(&body)?;
    assert_eq!(fixture.places().await?.len(), 2);
    fixture.proxy.clear_rules();
    fixture.proxy.kill_all();

    let next = fixture.body(&[("1", "c", "")]);
    let other = fixture.body(&[("2", "d", "")]);
    for body in [&next, &other] {
        eventually(DEADLINE, async || {
            let status = fixture.deliver(body).await.map_err(|e| e.to_string())?;
            (status == 200).then_some(()).ok_or(status.to_string())
        })
        .await?;
    }
    let worker = fixture.worker().await?;
    fixture.completes(&job_id(&next)?).await?;
    fixture.completes(&job_id(&other)?).await?;
    assert_eq!(fixture.recorded("1").await?, ["a", "c"]);
    // The broken one still waits for its other place, which the sender's next try gives.
    assert_eq!(fixture.recorded("2").await?, ["d"]);
    assert_eq!(fixture.deliver(&body).await?, 200);
    fixture.completes(&broken).await?;
    assert_eq!(fixture.recorded("2").await?, ["d", "b"]);
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// A worker that is faster than the gateway does not handle a delivery before its place is there, so an
/// earlier one of its conversation still comes first.
#[tokio::test]
async fn worker_waits_for_the_places_of_a_delivery() -> TestResult {
    let fixture = BatchFixture::start(options().store_within(DEADLINE)).await?;
    let [first, second] = ["a", "b"].map(|mid| fixture.body(&[("1", mid, "")]));
    assert_eq!(fixture.deliver(&first).await?, 200);
    // Somebody has the first in hand while the second comes.
    let manual = ManualWorker::new(&fixture.near, QUEUE)?;
    let taken = manual.fetch("token").await?.unwrap();
    let turn = |command: &oxbull_testkit::Command| command.mentions(":turns:");
    let held = fixture
        .proxy
        .add(Rule::delay(Duration::from_secs(1), turn).times(1));
    let worker = fixture.worker().await?;
    let sending = fixture.deliver(&second);
    let looking = async {
        held.wait_fired(1, DEADLINE).await?;
        let id = job_id(&second)?;
        eventually(DEADLINE, async || {
            let job = fixture.queue.job(&id).await.map_err(|e| e.to_string())?;
            let started = job.map(|job| job.attempts_started);
            (started >= Some(1))
                .then_some(())
                .ok_or(format!("{started:?}"))
        })
        .await?;
        assert!(fixture.recorded("1").await?.is_empty());
        TestResult::Ok(())
    };
    let (status, looked) = tokio::join!(sending, looking);
    looked?;
    assert_eq!(status?, 200);
    // Its place is there, behind the first one's.
    assert!(fixture.recorded("1").await?.is_empty());
    manual
        .finish::<Value>(&taken, "token", Err(oxbull::JobError::retry("once more")))
        .await?;
    fixture.completes(&job_id(&first)?).await?;
    fixture.completes(&job_id(&second)?).await?;
    assert_eq!(fixture.recorded("1").await?, ["a", "b"]);
    let job = fixture.queue.job(&job_id(&second)?).await?.unwrap();
    assert_eq!(job.attempts_made, 1, "waiting is no attempt");
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// A job whose gateway died before it gave the places is handled once they are overdue, and a try that
/// comes even later gives no place.
#[tokio::test]
async fn delivery_without_its_places_is_handled_when_they_are_overdue() -> TestResult {
    let fixture = BatchFixture::start(options()).await?;
    let body = fixture.body(&[("1", "a", "")]);
    let id = job_id(&body)?;
    let long_ago = fixture.near.clock().now().as_millis() - 60_000;
    let options = oxbull::JobOptions::new()
        .id(id.clone())
        .timestamp(oxbull::Timestamp::from_millis(long_ago));
    let data: Value = serde_json::from_slice(&body)?;
    fixture.queue.add_once("delivery", &data, options).await?;
    let worker = fixture.worker().await?;
    fixture.completes(&id).await?;
    assert_eq!(fixture.recorded("1").await?, ["a"]);
    assert_eq!(fixture.deliver(&body).await?, 200);
    assert!(fixture.places().await?.is_empty());
    worker.close().await;
    fixture.end().await;
    Ok(())
}

/// Bodies of strangers get no more memory than there is; the API's small ones are read all the same.
#[tokio::test]
async fn memory_for_bodies_is_bounded_and_counted() -> TestResult {
    let fixture = BatchFixture::start(options().body_limit(1 << 20).body_memory(1 << 20)).await?;
    let zeros = "0".repeat(64);
    let head = format!(
        "POST /instagram/webhooks HTTP/1.1\r\nhost: h\r\nx-hub-signature-256: sha256={zeros}\r\n\
         content-length: 1048576\r\n\r\n"
    );
    // Another request may have some of the memory just then, which refuses the stranger.
    let mut stranger = None;
    for _ in 0..100 {
        drop(stranger.take());
        let mut http = Http::to(&fixture.gateway).await?;
        http.send(head.as_bytes()).await?;
        let whole = http.send(&vec![b' '; (1 << 20) - 1]).await.is_ok();
        let refused = fixture.deliver(&vec![b' '; 140_000]).await;
        if whole && refused.is_ok_and(|status| status == 503) {
            stranger = Some(http);
            break;
        }
    }
    assert!(stranger.is_some(), "the memory was never full");
    let small = fixture.body(&[("1", "a", "")]);
    assert_eq!(fixture.deliver(&small).await?, 200);
    drop(stranger);
    eventually(DEADLINE, async || {
        let status = fixture.deliver(&vec![b' '; 140_000]).await;
        let status = status.map_err(|error| error.to_string())?;
        (status == 400).then_some(()).ok_or(status.to_string())
    })
    .await?;
    let announced = head.replace("1048576", "1048577");
    let mut http = Http::to(&fixture.gateway).await?;
    http.send(announced.as_bytes()).await?;
    assert_eq!(http.receive().await?.status, 413);
    let metrics = Http::to(&fixture.gateway)
        .await?
        .get("/metrics")
        .await?
        .body;
    assert!(
        metrics.contains("gateway_bodies_refused_total{reason=\"too_large\"} 1"),
        "{metrics}"
    );
    assert!(!metrics.contains("gateway_bodies_refused_total{reason=\"no_room\"} 0"));
    fixture.end().await;
    Ok(())
}

/// One signature covers a batch, with any of the app's secrets.
#[tokio::test]
async fn either_secret_signs_a_batch() -> TestResult {
    let secrets = oxbull_workers::gateway::AppSecrets::parse(&format!("other,{SECRET}"))?;
    let token = oxbull_workers::gateway::VerifyToken::new("t")?;
    let overviews = oxbull_workers::gateway::Overviews::stored();
    let options =
        GatewayOptions::new(secrets, token, overviews).address(([127, 0, 0, 1], 0).into());
    let fixture = BatchFixture::start(options.store_within(DEADLINE)).await?;
    for secret in [SECRET, "other"] {
        let long = secret.repeat(20_000);
        let body = fixture.body(&[("1", secret, &long)]);
        let signature = oxbull_workers::gateway::sign(secret, &body);
        let headers = [format!("x-hub-signature-256: {signature}")];
        let mut http = Http::to(&fixture.gateway).await?;
        assert_eq!(http.post(&headers, &body).await?.status, 200);
    }
    fixture.end().await;
    Ok(())
}
