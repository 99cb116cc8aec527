//! The backend of the example (tests/interop/examples/backend.mjs) with the workers, each under its role.

use std::collections::BTreeSet;

use oxbull_testkit::{DEADLINE, NodePeer, TestResult};
use oxbull_workers::jobs::schemas::schemas;
use oxbull_workers::jobs::{analytics_refresh, post_publishing, webhook_processing};
use serde_json::{Value, json};

use crate::fixture::{KEYS, Program, ShippedRedis, password, read, repository, simulator};
use crate::samples;

/// Far enough that a test never sees it come.
const NEXT_CENTURY: &str = "2100-01-01T00:00:00Z";

fn backend(fixture: &ShippedRedis) -> TestResult<NodePeer> {
    let schemas = repository().join("docs/schemas").canonicalize()?;
    Ok(NodePeer::builder("backend.mjs")
        .env("REDIS_PORT", fixture.server.port().to_string())
        .env("REDIS_USERNAME", "producer")
        .env("REDIS_PASSWORD", password("producer"))
        .env("SCHEMAS", schemas.display().to_string())
        .start()?)
}

/// The schemas that backends validate with are those of the types that the workers read.
#[test]
fn schemas_are_those_of_the_types() -> TestResult {
    let mut files = BTreeSet::new();
    for named in schemas() {
        let kept: Value = serde_json::from_str(&read(&format!("docs/schemas/{}", named.file))?)?;
        let again = "run `cargo run -p oxbull-workers --features schemas --bin job-schemas`";
        assert!(
            kept == named.schema,
            "docs/schemas/{} is out of date: {again}",
            named.file
        );
        files.insert(named.file.to_owned());
    }
    let mut kept = BTreeSet::new();
    for entry in std::fs::read_dir(repository().join("docs/schemas"))? {
        kept.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    assert_eq!(kept, files);
    Ok(())
}

/// The samples pass, what the workers could not use does not, and nothing refused is enqueued.
#[tokio::test]
async fn backend_refuses_what_no_worker_could_read() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let node = backend(&fixture)?;
    for (queue, _) in samples::COUNTS {
        for value in samples::of(queue)? {
            let name = format!("{queue}.data");
            node.call("check", json!({ "name": name, "value": value }))
                .await?;
        }
    }
    let post = &samples::of(post_publishing::QUEUE)?[0];
    for (field, bad) in [
        ("postId", Value::Null),
        ("accountId", json!("1/2")),
        ("accountId", json!(17)),
        ("mediaType", json!("HOLOGRAM")),
        ("children", json!("none")),
        ("thumbOffsetMs", json!(-1)),
    ] {
        let mut post = post.clone();
        post[field] = bad;
        let refused = node
            .try_call("schedulePost", json!({ "post": post, "at": NEXT_CENTURY }))
            .await?;
        assert_eq!(refused.unwrap_err().name, "TypeError", "{field}");
    }
    let account = node
        .try_call("refreshAccount", json!({ "accountId": "a:b" }))
        .await?;
    assert_eq!(account.unwrap_err().name, "TypeError");
    let delivery = node
        .try_call("acceptDelivery", json!({ "body": r#"{"entry":5}"# }))
        .await?;
    assert_eq!(delivery.unwrap_err().name, "TypeError");
    assert_eq!(
        fixture.server.cli(&["KEYS", "bull:*:id"]).await?.texts(),
        Vec::<String>::new()
    );
    Ok(())
}

/// A post is scheduled, moved to now, published by the worker, told to its user and read back; another
/// is taken back.
#[tokio::test]
async fn backend_schedules_posts_and_hears_what_became_of_them() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    let node = backend(&fixture)?;
    node.call("listen", json!({})).await?;
    let _workers = fixture.workers(graph.url())?;
    let post = &samples::of(post_publishing::QUEUE)?[0];
    let schedule = json!({ "post": post, "at": NEXT_CENTURY });
    let id = node.call("schedulePost", schedule.clone()).await?;
    assert_eq!(node.call("schedulePost", schedule).await?, id);
    assert_eq!(
        fixture
            .server
            .int(&["ZCARD", "bull:post-publishing:delayed"])
            .await?,
        1
    );
    let now = json!({ "postId": post["postId"], "at": 0 });
    assert_eq!(node.call("reschedulePost", now.clone()).await?, json!(true));
    let wait = json!({ "queue": "post-publishing", "id": id, "timeoutMs": 60_000 });
    let result = node.call("result", wait).await?;
    assert_eq!(result["postId"], post["postId"]);
    assert!(result["permalink"].is_string(), "{result}");
    let told = node.wait_event_named(DEADLINE, "notice").await?;
    assert_eq!(told["user"], post["userId"]);
    assert_eq!(told["notice"]["type"], json!("post.published"));
    assert_eq!(told["notice"]["permalink"], result["permalink"]);
    assert_eq!(node.call("reschedulePost", now).await?, json!(false));

    let mut other = post.clone();
    other["postId"] = json!("taken-back");
    node.call("schedulePost", json!({ "post": other, "at": NEXT_CENTURY }))
        .await?;
    let taken = json!({ "postId": "taken-back" });
    assert_eq!(node.call("cancelPost", taken.clone()).await?, json!(true));
    assert_eq!(node.call("cancelPost", taken).await?, json!(false));
    assert_eq!(
        fixture
            .server
            .int(&["ZCARD", "bull:post-publishing:delayed"])
            .await?,
        0
    );
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    Ok(())
}

/// A seller whom the backend connects while the workers run is published with the token that the example sealed,
/// and not before.
#[tokio::test]
async fn backend_connects_an_account_while_workers_run() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    let post = &samples::of(post_publishing::QUEUE)?[0];
    let account = post["accountId"].as_str().ok_or("no id")?.to_owned();
    graph.add_token(&account, "IGconnected");
    let mut worker = fixture.program(env!("CARGO_BIN_EXE_post-publishing"), "worker", graph.url());
    let worker = Program::start(worker.env_remove("GRAPH_ACCESS_TOKEN"))?;
    worker.answers("/ready").await?;
    let connects = NodePeer::builder("connecting.mjs")
        .env("REDIS_PORT", fixture.server.port().to_string())
        .env("REDIS_USERNAME", "gateway")
        .env("REDIS_PASSWORD", password("gateway"))
        .env("ENCRYPTION_KEYS", KEYS)
        .start()?;
    let node = backend(&fixture)?;
    let id = node
        .call("schedulePost", json!({ "post": post, "at": 0 }))
        .await?;
    fixture
        .holds("bull:post-publishing:delayed", id.as_str().ok_or("no id")?)
        .await?;
    let login = json!({ "access_token": "IGconnected", "expires_in": 5_184_000 });
    let put = json!({ "accountId": account, "userId": "u1", "login": login });
    connects.call("put", put).await?;
    let wait = json!({ "queue": "post-publishing", "id": id, "timeoutMs": 60_000 });
    assert_eq!(node.call("result", wait).await?["postId"], post["postId"]);
    let said = fixture.tokens(&["list", "--json"], "").await?;
    let listed: Value = serde_json::from_str(&said)?;
    assert_eq!(listed["user"], "u1");
    let life =
        listed["expiresAt"].as_i64().unwrap_or(0) - listed["obtainedAt"].as_i64().unwrap_or(0);
    assert_eq!(life, 5_184_000_000);

    // What the command stores can be read by the example.
    fixture
        .tokens(&["put", "other", "--user", "u2"], "IGother")
        .await?;
    let stored = connects
        .call("get", json!({ "accountId": "other" }))
        .await?;
    assert_eq!(
        (&stored["token"], &stored["userId"]),
        (&json!("IGother"), &json!("u2"))
    );
    connects
        .call("remove", json!({ "accountId": "other" }))
        .await?;
    connects
        .call("remove", json!({ "accountId": account }))
        .await?;
    assert_eq!(fixture.tokens(&["list"], "").await?, "");
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    Ok(())
}

/// A delivery that comes twice is one job; an account is refreshed now, and every night until that ends.
#[tokio::test]
async fn backend_hands_on_deliveries_and_has_accounts_refreshed() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    let node = backend(&fixture)?;
    let _workers = fixture.workers(graph.url())?;
    let body = samples::of(webhook_processing::QUEUE)?[0].to_string();
    let id = node.call("acceptDelivery", json!({ "body": body })).await?;
    assert_eq!(
        node.call("acceptDelivery", json!({ "body": body })).await?,
        id
    );
    let wait = json!({ "queue": "webhook-processing", "id": id, "timeoutMs": 60_000 });
    let result = node.call("result", wait).await?;
    assert_eq!(
        result["events"].as_array().map(Vec::len),
        Some(1),
        "{result}"
    );
    assert_eq!(
        fixture
            .server
            .int(&["ZCARD", "bull:webhook-processing:completed"])
            .await?,
        1
    );

    let account = samples::of(analytics_refresh::QUEUE)?[0]["accountId"].clone();
    let one = json!({ "accountId": account, "userId": "u1", "timeZone": "Europe/Berlin" });
    let id = node.call("refreshAccount", one.clone()).await?;
    let wait = json!({ "queue": "analytics-refresh", "id": id, "timeoutMs": 60_000 });
    assert_eq!(node.call("result", wait).await?["accountId"], account);
    node.call("scheduleRefresh", one.clone()).await?;
    assert_eq!(
        fixture
            .server
            .int(&["ZCARD", "bull:analytics-refresh:repeat"])
            .await?,
        1
    );
    assert_eq!(
        node.call("unscheduleRefresh", one.clone()).await?,
        json!(true)
    );
    assert_eq!(node.call("unscheduleRefresh", one).await?, json!(false));
    assert_eq!(fixture.refused().await?, Vec::<String>::new());
    Ok(())
}
