//! The gateway over real connections, on a private Redis.

use std::process::Stdio;
use std::time::Duration;

use oxbull::kv::session::{Sessions, UserId};
use oxbull::{Client, ClientConfig, JobState, Queue};
use oxbull_instagram_simulator::{Simulator, SimulatorOptions};
use oxbull_testkit::{RedisServer, eventually};
use oxbull_workers::gateway::{AppSecrets, Gateway, GatewayOptions, Overviews, VerifyToken};
use oxbull_workers::graph::Cooldowns;
use oxbull_workers::graph::{
    AccessToken, AccessTokens, AccountId, GraphClient, GraphOptions, LimitScope,
};
use oxbull_workers::jobs::analytics_refresh::ReadOptions;
use oxbull_workers::jobs::webhook_processing::QUEUE;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::http::{Answer, Http, SECRET, TOKEN, WEBHOOKS, options, sign};
use crate::support::{ACCOUNT, TestResult};

/// A bound on liveness.
const DEADLINE: Duration = Duration::from_secs(60);

struct Stage {
    server: RedisServer,
    client: Client,
    queue: Queue<Value>,
    gateway: Gateway,
}

impl Stage {
    async fn start() -> TestResult<Self> {
        Self::with(options()).await
    }

    async fn with(options: GatewayOptions) -> TestResult<Self> {
        let server = RedisServer::start().await?;
        let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
        Ok(Self {
            gateway: Gateway::start(&client, options).await?,
            queue: Queue::open(&client, QUEUE).await?,
            server,
            client,
        })
    }

    async fn http(&self) -> TestResult<Http> {
        Http::to(&self.gateway).await
    }

    async fn deliver(&self, body: &[u8]) -> TestResult<Answer> {
        self.http().await?.deliver(body).await
    }

    async fn jobs(&self) -> TestResult<u64> {
        Ok(self.queue.counts().await?.of(JobState::Waiting))
    }

    async fn end(self) {
        self.gateway.stop().await;
        self.client.close().await;
    }
}

fn delivery(mid: &str, time: i64) -> Vec<u8> {
    json!({ "object": "instagram", "entry": [{ "id": ACCOUNT, "time": time, "messaging": [
        { "sender": {"id": "5"}, "message": {"mid": mid} }] }] })
    .to_string()
    .into_bytes()
}

impl Stage {
    fn fresh(&self, mid: &str) -> Vec<u8> {
        delivery(mid, self.client.clock().now().as_millis())
    }
}

fn signature(text: &str) -> Vec<String> {
    vec![format!("x-hub-signature-256: {text}")]
}

/// A delivery without the one right signature gets one answer, whatever is wrong, and leaves
/// nothing.
#[tokio::test]
async fn unsigned_deliveries_leave_nothing() -> TestResult {
    let stage = Stage::start().await?;
    let body = stage.fresh("a");
    let right = sign(&body);
    let mut http = stage.http().await?;
    let mut flipped = body.clone();
    flipped[20] ^= 1;
    let doubled = [signature(&right), signature(&right)].concat();
    for (headers, body) in [
        (vec![], &body),
        (signature(""), &body),
        (signature(&right[7..]), &body),
        (signature(&right.replace("sha256", "SHA256")), &body),
        (signature(&format!("sha256={}", "0".repeat(64))), &body),
        (vec![format!("x-hub-signature: {right}")], &body),
        (doubled, &body),
        (signature(&right), &flipped),
        (signature(&right), &body[..body.len() - 1].to_vec()),
    ] {
        let answer = http.post(&headers, body).await?;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (401, ""),
            "{headers:?}"
        );
    }
    assert_eq!(stage.jobs().await?, 0);
    let keys = stage.server.cli(&["KEYS", "webhook:*"]).await?.texts();
    assert!(keys.is_empty(), "{keys:?}");
    let metrics = http.get("/metrics").await?.body;
    assert!(
        metrics.contains("gateway_signatures_refused_total 9"),
        "{metrics}"
    );
    assert_eq!(http.deliver(&body).await?.status, 200);
    stage.end().await;
    Ok(())
}

/// The signature is of the bytes as they came: whatever they escape and however they are cut.
#[tokio::test]
async fn bytes_are_taken_as_they_came() -> TestResult {
    let stage = Stage::start().await?;
    let now = stage.client.clock().now().as_millis();
    let body = format!(
        r#"{{ "object":"instagram", "n":12345678901234567890.10, "entry":[{{"id":"{ACCOUNT}","time":{now},"messaging":[{{"sender":{{"id":"5"}},"message":{{"mid":"m","text":"\u00e4\ud83d\ude00\/"}}}}]}}]}}"#
    );
    let mut http = stage.http().await?;
    let head = format!(
        "POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\
         x-hub-signature-256: {}\r\n\r\n",
        sign(body.as_bytes())
    );
    http.say(head.as_bytes()).await?;
    for part in body.as_bytes().chunks(7) {
        http.say(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        http.say(part).await?;
        http.say(b"\r\n").await?;
    }
    http.say(b"0\r\n\r\n").await?;
    assert_eq!(http.hear().await?.status, 200);
    let ids = stage
        .server
        .cli(&["LRANGE", "bull:webhook-processing:wait", "0", "-1"]);
    let key = format!("bull:webhook-processing:{}", ids.await?.texts()[0]);
    let stored = stage.server.text(&["HGET", &key, "data"]).await?;
    assert_eq!(stored.as_deref(), Some(body.as_str()));
    stage.end().await;
    Ok(())
}

/// A repeat is the same job, before and after it was handled; other content is another.
#[tokio::test]
async fn repeated_delivery_is_one_job() -> TestResult {
    let stage = Stage::start().await?;
    let (first, second) = (stage.fresh("a"), stage.fresh("b"));
    let mut senders = Vec::new();
    for _ in 0..8 {
        let mut http = stage.http().await?;
        let body = first.clone();
        senders.push(async move { http.deliver(&body).await });
    }
    for answer in futures::future::join_all(senders).await {
        assert_eq!(answer?.status, 200);
    }
    assert_eq!(stage.jobs().await?, 1);
    let mut http = stage.http().await?;
    assert_eq!(http.deliver(&second).await?.status, 200);
    assert_eq!(stage.jobs().await?, 2);
    let metrics = http.get("/metrics").await?.body;
    for line in [
        "gateway_deliveries_total{result=\"enqueued\"} 2",
        "gateway_deliveries_total{result=\"duplicate\"} 7",
        "gateway_requests_total{route=\"/instagram/webhooks\",status=\"200\"} 9",
        "oxbull_queue_jobs{queue=\"webhook-processing\",state=\"waiting\"} 2",
        "oxbull_redis_up 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    stage.end().await;
    Ok(())
}

/// What is too large, too slow, compressed, too old or no JSON is refused and leaves nothing;
/// JSON of another shape is kept, for its job to say what is wrong.
#[tokio::test]
async fn what_is_out_of_bounds_is_refused() -> TestResult {
    let stage = Stage::with(options().read_timeout(Duration::from_millis(300))).await?;
    let now = stage.client.clock().now().as_millis();
    let hour = 3_600_000;
    for (status, body) in [
        (400, b"{".to_vec()),
        (400, b"\xff".to_vec()),
        (400, Vec::new()),
        (403, delivery("old", now - 41 * hour)),
        (403, delivery("new", now + hour)),
    ] {
        let answer = stage.http().await?.deliver(&body).await?;
        assert_eq!(answer.status, status, "{body:?}");
    }
    let body = stage.fresh("a");
    let mut headers = signature(&sign(&body));
    headers.push("content-encoding: gzip".to_owned());
    assert_eq!(stage.http().await?.post(&headers, &body).await?.status, 415);

    // One byte too many: announced, and in a piece of no announced length.
    let head = format!("POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\n");
    let mut http = stage.http().await?;
    let announced = format!("{head}content-length: {}\r\n\r\n", (1 << 20) + 1);
    http.say(announced.as_bytes()).await?;
    assert_eq!(http.hear().await?.status, 413);
    let mut http = stage.http().await?;
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n100001\r\n");
    http.say(chunked.as_bytes()).await?;
    http.say(&vec![b' '; (1 << 20) + 1]).await?;
    assert_eq!(http.hear().await?.status, 413);

    // A body that stops coming, a head that does, and one that does not.
    let mut http = stage.http().await?;
    let begun = format!("{head}content-length: 9\r\n\r\n{{");
    http.say(begun.as_bytes()).await?;
    assert_eq!(http.hear().await?.status, 408);
    let mut http = stage.http().await?;
    http.say(head.as_bytes()).await?;
    assert!(http.is_closed().await?);
    let mut http = stage.http().await?;
    let mut endless = format!("{head}x: ").into_bytes();
    endless.resize(16 << 10, b'x');
    http.say(&endless).await?;
    assert_eq!(http.hear().await?.status, 431);

    assert_eq!(stage.jobs().await?, 0);
    let mut largest = b"[7]".to_vec();
    largest.resize(1 << 20, b' ');
    assert_eq!(stage.http().await?.deliver(&largest).await?.status, 200);
    assert_eq!(stage.http().await?.deliver(b"7").await?.status, 200);
    assert_eq!(stage.jobs().await?, 2);
    stage.end().await;
    Ok(())
}

/// Connections are bounded: one too many is served when another has ended.
#[tokio::test]
async fn connection_too_many_waits_for_another_to_end() -> TestResult {
    let stage = Stage::with(options().connections(1)).await?;
    let mut first = stage.http().await?;
    assert_eq!(first.get("/health").await?.status, 200);
    let mut second = stage.http().await?;
    second
        .say(b"GET /elsewhere HTTP/1.1\r\nhost: h\r\n\r\n")
        .await?;
    for _ in 0..20 {
        let metrics = first.get("/metrics").await?.body;
        assert!(!metrics.contains("route=\"other\""), "{metrics}");
    }
    drop(first);
    assert_eq!(second.hear().await?.status, 404);
    stage.end().await;
    Ok(())
}

/// The API learns that the address is ours only with the token.
#[tokio::test]
async fn challenge_is_returned_for_the_token() -> TestResult {
    let stage = Stage::start().await?;
    let mut http = stage.http().await?;
    let ask = |mode: &str, token: &str, challenge: &str| {
        format!("{WEBHOOKS}?hub.mode={mode}&hub.verify_token={token}&hub.challenge={challenge}")
    };
    let answer = http.get(&ask("subscribe", TOKEN, "1158201444")).await?;
    assert_eq!((answer.status, answer.body.as_str()), (200, "1158201444"));
    assert!(
        answer.head.contains("content-type: text/plain\r\n"),
        "{}",
        answer.head
    );
    assert!(answer.head.contains("x-content-type-options: nosniff\r\n"));
    for query in [
        ask("subscribe", "wrong", "1"),
        ask("subscribe", "", "1"),
        ask("unsubscribe", TOKEN, "1"),
        ask("subscribe", TOKEN, ""),
        ask("subscribe", TOKEN, "a%20b"),
        ask("subscribe", TOKEN, &"1".repeat(257)),
        WEBHOOKS.to_owned(),
    ] {
        let answer = http.get(&query).await?;
        assert_eq!((answer.status, answer.body.as_str()), (403, ""), "{query}");
    }
    stage.end().await;
    Ok(())
}

/// The status and body of `/health`.
async fn get_health(mut http: Http) -> TestResult<(u16, String)> {
    let health = http.get("/health").await?;
    Ok((health.status, health.body))
}

/// Without Redis nothing is acknowledged: the sender comes again, and finds its delivery new or
/// known. Health says so, and all is well once Redis is back.
#[tokio::test]
async fn redis_away_means_come_again() -> TestResult {
    let stage = Stage::start().await?;
    let mut http = stage.http().await?;
    let health = http.get("/health").await?;
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"redis":"up"}"#)
    );
    assert_eq!(http.get("/ready").await?.body, r#"{"ready":true}"#);
    let body = stage.fresh("a");

    stage.server.kill_hard();
    let answer = http.deliver(&body).await?;
    assert_eq!(answer.status, 503);
    assert!(
        answer.head.contains("retry-after: 5\r\n"),
        "{}",
        answer.head
    );
    // The last successful write counts for half a second.
    eventually(DEADLINE, async || {
        let health = stage.http().await.map_err(|e| e.to_string())?;
        let health = get_health(health).await.map_err(|e| e.to_string())?;
        (health == (503, r#"{"redis":"down"}"#.to_owned()))
            .then_some(())
            .ok_or(format!("{health:?}"))
    })
    .await?;
    assert_eq!(http.get("/ready").await?.status, 503);
    let metrics = http.get("/metrics").await?.body;
    assert!(metrics.contains("oxbull_redis_up 0"), "{metrics}");
    assert!(metrics.contains("gateway_deliveries_total{result=\"not_stored\"} 1"));

    stage.server.restart().await?;
    eventually(DEADLINE, async || {
        let answer = stage.deliver(&body).await.map_err(|e| e.to_string())?;
        (answer.status == 200)
            .then_some(())
            .ok_or(answer.status.to_string())
    })
    .await?;
    assert_eq!(stage.jobs().await?, 1);
    stage.end().await;
    Ok(())
}

/// A Redis that hangs must not make the sender hang.
#[tokio::test]
async fn hanging_redis_means_come_again() -> TestResult {
    let stage = Stage::with(options().store_within(Duration::from_millis(100))).await?;
    let body = stage.fresh("a");
    stage.server.freeze()?;
    let mut http = stage.http().await?;
    assert_eq!(http.deliver(&body).await?.status, 503);
    stage.server.thaw()?;
    eventually(DEADLINE, async || {
        let answer = stage.deliver(&body).await.map_err(|e| e.to_string())?;
        (answer.status == 200)
            .then_some(())
            .ok_or(answer.status.to_string())
    })
    .await?;
    assert_eq!(stage.jobs().await?, 1);
    stage.end().await;
    Ok(())
}

/// A gateway that reads what nobody has stored.
fn reading(simulator: &Simulator) -> TestResult<GatewayOptions> {
    let graph = GraphClient::new(&GraphOptions::new(simulator.url()))?;
    let tokens = AccessTokens::shared(AccessToken::new("s3cret-token"));
    let overviews = Overviews::from_api(graph, tokens, ReadOptions::default());
    let (secrets, token) = (AppSecrets::parse(SECRET)?, VerifyToken::new(TOKEN)?);
    let options = GatewayOptions::new(secrets, token, overviews);
    Ok(options.address(([127, 0, 0, 1], 0).into()))
}

/// An account's numbers are read once from the API, then come from the cache, under the
/// customer's key.
#[tokio::test]
async fn overview_is_slow_once_and_fast_after() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let stage = Stage::with(reading(&simulator)?).await?;
    let mut http = stage.http().await?;
    let path = format!("/api/analytics/overview/{ACCOUNT}");
    let cached = |answer: &Answer| answer.head.contains("x-cache: hit");
    let first = http.get(&path).await?;
    assert_eq!(first.status, 200, "{}", first.body);
    assert!(!cached(&first));
    let numbers: Value = serde_json::from_str(&first.body)?;
    assert_eq!(numbers["accountId"], ACCOUNT);
    let asked = format!("{:?}", simulator.counters());
    let second = http.get(&path).await?;
    assert!(cached(&second), "{}", second.head);
    assert_eq!(second.body, first.body);
    assert_eq!(format!("{:?}", simulator.counters()), asked);
    let key = format!("api:GET:{path}:anonymous");
    let stored = stage.server.text(&["GET", &key]).await?;
    assert_eq!(stored.as_deref(), Some(first.body.as_str()));
    let metrics = http.get("/metrics").await?.body;
    assert!(
        metrics.contains("gateway_cache_total{result=\"hit\"} 1"),
        "{metrics}"
    );
    assert_eq!(http.get("/api/analytics/overview/a%3Ab").await?.status, 404);
    assert_eq!(http.get("/elsewhere").await?.status, 404);
    stage.end().await;
    Ok(())
}

/// Readers and workers share the API's limits: an account that is to be left alone is not asked
/// about for a reader either, who hears when to come again.
#[tokio::test]
async fn held_account_is_not_asked_about() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let stage = Stage::with(reading(&simulator)?).await?;
    let account = AccountId::new(ACCOUNT)?;
    let cooldowns = Cooldowns::new(stage.client.clone());
    let wait = Duration::from_secs(3600);
    cooldowns.begin(LimitScope::Account, &account, wait).await?;
    let mut http = stage.http().await?;
    let answer = http
        .get(&format!("/api/analytics/overview/{ACCOUNT}"))
        .await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.head.contains("retry-after: 3"), "{}", answer.head);
    assert!(simulator.counters().requests.is_empty());
    stage.end().await;
    Ok(())
}

/// Numbers that a refresh has stored are shown without asking the API, which may have no token.
#[tokio::test]
async fn stored_overview_needs_no_api() -> TestResult {
    let stage = Stage::start().await?;
    let mut http = stage.http().await?;
    let path = format!("/api/analytics/overview/{ACCOUNT}");
    assert_eq!(http.get(&path).await?.status, 404);
    let stored = json!({
        "accountId": ACCOUNT, "username": "shoes", "followers": 3, "posts": 1, "reach": null,
        "views": null, "profileViews": null, "missing": [],
        "fetchedAt": stage.client.clock().now().as_millis(),
    });
    let key = format!("api:analytics:overview:{ACCOUNT}");
    stage.client.cache().set(&key, &stored).await?;
    let answer = http.get(&path).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&answer.body)?["followers"], 3);
    stage.end().await;
    Ok(())
}

/// Users have entries of their own, and only a verified session makes one.
#[tokio::test]
async fn session_tells_whose_entry_it_is() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let sessions = Sessions::builder(&client).unsealed().build()?;
    let (token, _) = sessions.create(&UserId::new("user-7")?, json!({})).await?;
    let gateway = Gateway::start(&client, options().sessions(sessions)).await?;
    let stored = json!({
        "accountId": ACCOUNT, "username": null, "followers": 3, "posts": null, "reach": null,
        "views": null, "profileViews": null, "missing": [],
        "fetchedAt": client.clock().now().as_millis(),
    });
    let key = format!("api:analytics:overview:{ACCOUNT}");
    client.cache().set(&key, &stored).await?;
    let path = format!("/api/analytics/overview/{ACCOUNT}");
    let entry = |user: &str| format!("api:GET:{path}:{user}");
    let mut http = Http::to(&gateway).await?;
    let token = token.as_str();
    let odd = token.replacen(&token[..4], "AAAA", 1);
    for cookies in [
        format!("cookie: __Host-session={odd}\r\n"),
        format!("cookie: __Host-session={token}; __Host-session={token}\r\n"),
        "cookie: __Host-session=user-7\r\n".to_owned(),
    ] {
        assert_eq!(http.get_with(&path, &cookies).await?.status, 200);
        assert_eq!(
            server.int(&["EXISTS", &entry("user-7")]).await?,
            0,
            "{cookies}"
        );
    }
    assert_eq!(server.int(&["EXISTS", &entry("anonymous")]).await?, 1);
    let cookie = format!("cookie: a=b; __Host-session={token}\r\n");
    assert!(
        http.get_with(&path, &cookie)
            .await?
            .head
            .contains("x-cache: miss")
    );
    assert_eq!(server.int(&["EXISTS", &entry("user-7")]).await?, 1);
    assert!(
        http.get_with(&path, &cookie)
            .await?
            .head
            .contains("x-cache: hit")
    );
    gateway.stop().await;
    client.close().await;
    Ok(())
}

/// A full server answers, but nothing can be stored on it: health and readiness say so, and that it
/// is over.
#[tokio::test]
async fn full_redis_is_not_up() -> TestResult {
    let stage = Stage::start().await?;
    let mut http = stage.http().await?;
    stage
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "1"])
        .await?;
    let asked = async |path: &'static str, status: u16| {
        eventually(DEADLINE, async || {
            let answer = Http::to(&stage.gateway)
                .await
                .map_err(|e| e.to_string())?
                .get(path)
                .await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status == status {
                Ok(answer.body)
            } else {
                Err(format!("{path}: {}", answer.status))
            }
        })
        .await
    };
    let said: Value = serde_json::from_str(&asked("/health", 503).await?)?;
    assert_eq!(said["redis"], "down");
    assert!(said["problem"].to_string().contains("OOM"), "{said}");
    assert_eq!(asked("/ready", 503).await?, r#"{"ready":false}"#);
    assert_eq!(http.get("/live").await?.status, 200);
    assert_eq!(http.deliver(&stage.fresh("a")).await?.status, 503);
    stage
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    assert_eq!(asked("/health", 200).await?, r#"{"redis":"up"}"#);
    asked("/ready", 200).await?;
    stage.end().await;
    Ok(())
}

/// A balancer hears that the gateway is about to stop before a connection is refused.
#[tokio::test]
async fn draining_gateway_is_not_ready_and_takes_deliveries() -> TestResult {
    let stage = Stage::with(options().drain_delay(DEADLINE)).await?;
    let asking = async {
        eventually(DEADLINE, async || {
            let answer = Http::to(&stage.gateway)
                .await
                .map_err(|e| e.to_string())?
                .get("/ready")
                .await;
            let status = answer.map_err(|error| error.to_string())?.status;
            (status == 503).then_some(()).ok_or(status.to_string())
        })
        .await?;
        let mut http = stage.http().await?;
        assert_eq!(http.get("/health").await?.status, 200);
        assert_eq!(http.get("/live").await?.status, 200);
        assert_eq!(http.deliver(&stage.fresh("a")).await?.status, 200);
        TestResult::Ok(())
    };
    tokio::select! {
        () = stage.gateway.drain() => panic!("it stopped at once"),
        asked = asking => asked?,
    }
    assert_eq!(stage.jobs().await?, 1);
    stage.end().await;
    Ok(())
}

fn program(redis: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command
        .env_clear()
        .env("REDIS_URL", redis)
        .env("META_APP_SECRET", SECRET)
        .env("META_VERIFY_TOKEN", TOKEN)
        .args(["--host", "127.0.0.1", "--port", "0"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// A gateway that cannot tell friend from foe does not start, and names what it lacks.
#[tokio::test]
async fn missing_secret_is_a_refusal_to_start() -> TestResult {
    for (variable, value) in [
        ("META_APP_SECRET", None),
        ("META_APP_SECRET", Some("")),
        ("META_APP_SECRET", Some("a,,b")),
        ("META_VERIFY_TOKEN", None),
        ("META_VERIFY_TOKEN", Some("")),
    ] {
        let mut command = program("redis://127.0.0.1:1");
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
        let output = tokio::time::timeout(DEADLINE, command.output()).await??;
        let said = String::from_utf8(output.stderr)?;
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(variable), "{said}");
    }
    Ok(())
}

/// Notices to stop, the program answers what it has begun to read, then ends well; nothing that it
/// logged shows a secret or a delivery.
#[tokio::test]
async fn signal_ends_the_program_after_its_requests() -> TestResult {
    let server = RedisServer::start().await?;
    let mut child = program(&server.url()).env("RUST_LOG", "trace").spawn()?;
    let mut log = child.stderr.take().unwrap();
    let mut said = String::new();
    let address = loop {
        let mut bytes = [0; 4096];
        let read = tokio::time::timeout(DEADLINE, log.read(&mut bytes)).await??;
        assert_ne!(read, 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&bytes[..read]));
        let rest = said.split("listening address=").nth(1);
        if let Some((address, _)) = rest.and_then(|rest| rest.split_once('\n')) {
            break address.parse()?;
        }
    };
    let rest = tokio::spawn(async move {
        let mut text = Vec::new();
        log.read_to_end(&mut text).await.map(|_| text)
    });
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let body = delivery("canary", client.clock().now().as_millis());
    let mut idle = Http::open(address).await?;
    assert_eq!(
        idle.post(&signature("sha256=canary"), &body).await?.status,
        401
    );
    let challenge = format!("{WEBHOOKS}?hub.mode=subscribe&hub.verify_token={TOKEN}");
    let answer = idle.get(&format!("{challenge}&hub.challenge=1")).await?;
    assert_eq!(answer.status, 200);
    let mut http = Http::open(address).await?;
    let head = format!(
        "POST {WEBHOOKS} HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\n\
         content-length: {}\r\nx-hub-signature-256: {}\r\n\r\n",
        body.len(),
        sign(&body)
    );
    http.say(head.as_bytes()).await?;
    // The gateway waits for the body now.
    assert_eq!(http.hear().await?.status, 100);
    http.say(&body[..9]).await?;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap())?).unwrap();
    kill_process(pid, Signal::TERM)?;
    // An idle connection is closed, so the signal has come.
    assert!(idle.is_closed().await?);
    http.say(&body[9..]).await?;
    assert_eq!(http.hear().await?.status, 200);
    let status = tokio::time::timeout(DEADLINE, child.wait()).await??;
    assert!(status.success(), "{status}");
    let queue: Queue<Value> = Queue::open(&client, QUEUE).await?;
    assert_eq!(queue.counts().await?.of(JobState::Waiting), 1);
    said.push_str(&String::from_utf8_lossy(&rest.await??));
    for secret in ["canary", SECRET, TOKEN] {
        assert!(!said.contains(secret), "{secret}");
    }
    client.close().await;
    Ok(())
}
