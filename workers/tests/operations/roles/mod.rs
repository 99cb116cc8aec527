//! The roles of `config/redis/users.acl`. Each role's work is done under its user by this library, by BullMQ and
//! by the programs. Nothing may be refused, and the commands it used are exactly those it has: one that is
//! taken away is missed here, and one that is not needed stands out.

mod helping;
mod operating;
mod producing;
mod working;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oxbull::{Client, ClientConfig, JobError, JobOptions, ManualWorker, NewJob, Outcome, Queue};
use oxbull_testkit::{Command, NodePeer, Proxy, Rule, TestResult, Value as Reply};
use serde_json::{Value, json};

use crate::fixture::{NoticeListener, ShippedRedis, granted, simulator};
use crate::http::Gateway;
use helping::helps;
use operating::{BY_HAND, node_operates, rust_operates};
use producing::{add_large_flow, listen, node_produces, prepare, rust_produces};
use working::{fill, lose_an_iteration, node_works, rust_works, unhandled_posts};

const POSTS: &str = "post-publishing";
const MOMENT: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_secs(3600);

/// A role has what its work used, and nothing else.
async fn suffices_and_is_least(fixture: &ShippedRedis, role: &str) -> TestResult {
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    let (used, granted) = (fixture.used().await?, granted(role)?);
    let list = |these: &BTreeSet<String>, those: &BTreeSet<String>| {
        these
            .difference(those)
            .cloned()
            .collect::<Vec<_>>()
            .join(" +")
    };
    assert_eq!(
        (list(&used, &granted), list(&granted, &used)),
        (String::new(), String::new()),
        "{role}: used but not granted, granted but not used"
    );
    Ok(())
}

async fn call(node: &NodePeer, method: &str, mut params: Value) -> TestResult<Value> {
    if params.get("queue").is_none() {
        params["queue"] = json!(POSTS);
    }
    Ok(node.call(method, params).await?)
}

/// The backend adds, reschedules and takes back jobs, waits for results and hears what users are told.
#[tokio::test]
async fn producer_has_what_it_needs_and_no_more() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let done = prepare(&fixture).await?;
    fixture.watch().await?;
    let client = fixture.client("producer").await?;
    rust_produces(&client, &done).await?;
    client.close().await;
    let node = fixture.node("producer").await?;
    node_produces(&node, &done).await?;
    listen(&fixture, "producer").await?;
    suffices_and_is_least(&fixture, "producer").await
}

/// Workers of this library and of BullMQ, and the three programs, end jobs in every way.
#[tokio::test]
async fn worker_has_what_it_needs_and_no_more() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    for queue in ["rust", "node"] {
        fill(&fixture, queue).await?;
    }
    lose_an_iteration(&fixture).await?;
    crate::samples::add(&fixture.observer().await?).await?;
    unhandled_posts(&fixture).await?;
    let mut notices = NoticeListener::open(&fixture).await?;
    fixture.watch().await?;
    // Answers are lost all the time, so that what settles them runs too.
    let proxy = Proxy::start(fixture.server.port()).await?;
    proxy.add(Rule::drop_reply(Command::is_script).every(9));
    let behind = ShippedRedis::url_at("worker", proxy.port());
    let client = Client::connect(ClientConfig::from_url(&behind)?).await?;
    rust_works(&fixture, &client).await?;
    client.close().await;
    let node = fixture.node("worker").await?;
    node_works(&fixture, &node).await?;
    let mut programs = fixture.workers_at(&behind, graph.url())?;
    for (queue, jobs) in crate::samples::COUNTS {
        fixture.ended(queue, jobs).await?;
    }
    notices.wait_for(&["stalled", "cut-caption"]).await?;
    for program in &mut programs {
        for path in ["/health", "/live", "/metrics"] {
            program.answers(path).await?;
        }
    }
    suffices_and_is_least(&fixture, "worker").await
}

/// The gateway takes deliveries in and serves numbers; it and the backend keep sessions, states and limits.
#[tokio::test]
async fn gateway_has_what_it_needs_and_no_more() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    fixture.watch().await?;
    let client = fixture.client("gateway").await?;
    let token = helps(&client).await?;
    let now = client.clock().now().as_millis();
    // Deliveries that arrive together are added together.
    let queue: Queue = Queue::open(&client, "webhook-processing").await?;
    let together = ["a", "b"].map(|name| NewJob::new(name, json!({})));
    queue.add_bulk(together).await?.into_result()?;
    client.close().await;
    let gateway = Gateway::start(&fixture, graph.url(), &BTreeMap::new()).await?;
    for arguments in [
        &["put", "17841400000000001"][..],
        &["list"],
        &["rotate"],
        &["remove", "17841400000000001", "--yes"],
    ] {
        let said = fixture.tokens(arguments, "IGtoken").await?;
        assert!(!said.contains("IGtoken"), "{said}");
    }
    let mut delivery = crate::samples::of("webhook-processing")?[0].clone();
    delivery["entry"][0]["time"] = json!(now);
    for _ in 0..2 {
        assert_eq!(gateway.deliver(&delivery.to_string()).await?.0, 200);
    }
    let account = &crate::samples::of("analytics-refresh")?[0]["accountId"];
    let path = format!(
        "/api/analytics/overview/{}",
        account.as_str().ok_or("no id")?
    );
    for cookie in [String::new(), format!("cookie: __Host-session={token}\r\n")] {
        for _ in 0..2 {
            assert_eq!(gateway.get(&path, &cookie).await?.0, 200);
        }
    }
    for path in ["/health", "/ready", "/live", "/metrics"] {
        assert_eq!(gateway.get(path, "").await?.0, 200);
    }
    suffices_and_is_least(&fixture, "gateway").await
}

/// Who operates looks at queues and jobs, stops and empties them, and watches the server.
#[tokio::test]
async fn operator_has_what_it_needs_and_no_more() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let mut failed = Vec::new();
    let client = fixture.observer().await?;
    for queue in ["rust", "node"] {
        let open: Queue<Value> = Queue::open(&client, queue).await?;
        failed.push(open.add("fails", &json!({})).await?.id);
        let worker = ManualWorker::new(&client, queue)?;
        let job = worker.fetch("t").await?.ok_or("nothing to fetch")?;
        worker
            .finish(&job, "t", Err::<Outcome<Value>, _>(JobError::fatal("no")))
            .await?;
        fill(&fixture, queue).await?;
    }
    let queue: Queue<Value> = Queue::open(&client, "rust").await?;
    add_large_flow(&queue).await?;
    let later = JobOptions::new().delay(LATER);
    let jobs = (0..500).map(|n| NewJob::new("later", json!(n)).options(later.clone()));
    queue.add_bulk(jobs).await?.into_result()?;
    // What a pause by BullMQ 4 leaves, which a resume brings in order.
    fixture
        .server
        .cli(&["RPUSH", "bull:old:paused", "1"])
        .await?;
    client.close().await;
    fixture.watch().await?;
    let client = fixture.client("operator").await?;
    rust_operates(&client, &failed[0]).await?;
    client.close().await;
    let node = fixture.node("operator").await?;
    node_operates(&node, &failed[1]).await?;
    let mut hand = fixture.connect("operator").await?;
    for line in BY_HAND {
        hand.call(&line.split(' ').collect::<Vec<_>>()).await?;
    }
    suffices_and_is_least(&fixture, "operator").await
}

/// What no role may do, and what only others may.
const FORBIDDEN: [(&str, &str); 18] = [
    ("producer worker gateway operator", "CONFIG GET *"),
    (
        "producer worker gateway operator",
        "CONFIG SET maxmemory-policy allkeys-lru",
    ),
    ("producer worker gateway operator", "FLUSHALL"),
    ("producer worker gateway operator", "FLUSHDB"),
    ("producer worker gateway operator", "KEYS *"),
    ("producer worker gateway operator", "SHUTDOWN NOSAVE"),
    (
        "producer worker gateway operator",
        "ACL SETUSER operator +@all",
    ),
    ("producer worker gateway operator", "REPLICAOF 127.0.0.1 1"),
    ("producer worker gateway operator", "MODULE LIST"),
    ("producer worker gateway operator", "FUNCTION FLUSH"),
    ("producer worker gateway operator", "SCRIPT FLUSH"),
    (
        "producer worker gateway operator",
        "EVAL return(redis.call('set',KEYS[1],'1')) 1 elsewhere",
    ),
    ("producer worker gateway operator", "SUBSCRIBE elsewhere"),
    ("producer worker gateway", "MONITOR"),
    ("producer worker gateway", "SCAN 0"),
    ("producer worker operator", "GET session:u1:s1"),
    ("producer operator", "HGETALL token:instagram"),
    ("producer operator", "GET api:analytics:overview:1"),
];

/// A role's user who is taken over reads no other role's keys, and cannot take the server along.
#[tokio::test]
async fn roles_are_refused_what_is_not_theirs() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    for (roles, line) in FORBIDDEN {
        for role in roles.split(' ') {
            let answer = fixture
                .connect(role)
                .await?
                .ask(&line.split(' ').collect::<Vec<_>>())
                .await?;
            let refused = matches!(&answer, Reply::Error(text) if text.contains("NOPERM"));
            assert!(refused, "{role}: {line}: {answer:?}");
        }
    }
    // Nobody without a name, and nobody by another's password.
    let mut stranger = oxbull_testkit::Connection::open(fixture.server.port()).await?;
    for line in [
        vec!["PING"],
        vec!["GET", "test-key"],
        vec!["AUTH", "default", "x"],
        vec!["AUTH", "operator", "worker-s3cret~1"],
    ] {
        let answer = stranger.ask(&line).await?;
        assert!(matches!(answer, Reply::Error(_)), "{line:?}: {answer:?}");
    }
    Ok(())
}
