//! The acceptance list of the customer's document INFRA-004, line by line, and its unit tests.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::client::{Command, Repeat};
use oxbull::kv::Ttl;
use oxbull::{Client, ClientConfig};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::json;

use crate::deployment::Deployment;
use crate::fixture::{ShippedRedis, password, read, simulator};
use crate::http::Gateway;

const HOUR: Duration = Duration::from_secs(3600);

/// What is the document's `test-key`; the role's keys have a prefix.
const KEY: &str = "api:test-key";

/// The client as the document configures it, under the role whose keys these are.
async fn service() -> TestResult<(ShippedRedis, Client)> {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let client = fixture.client("gateway").await?;
    Ok((fixture, client))
}

/// "Redis container running and accessible": started as the compose file starts it, its check passes.
#[tokio::test]
async fn redis_container_running_and_accessible() -> TestResult {
    let deployment = Deployment::start().await?;
    deployment.is_healthy("redis").await?;
    let client = Client::connect(ClientConfig::from_url(&deployment.url("operator"))?).await?;
    assert!(client.health(DEADLINE).await.is_up());
    Ok(())
}

/// "`RedisService` connects successfully", by host, port and password as REDIS_* give them.
#[tokio::test]
async fn redis_service_connects_successfully() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let config = ClientConfig::new()
        .host("127.0.0.1")
        .port(fixture.server.port())
        .username("gateway")
        .password(password("gateway"))
        .db(0);
    Client::connect(config).await?;
    Ok(())
}

/// "Can set and get values".
#[tokio::test]
async fn can_set_and_get_values() -> TestResult {
    let (_fixture, client) = service().await?;
    client.kv().set_text(KEY, "test-value").await?;
    assert_eq!(
        client.kv().get_text(KEY).await?.as_deref(),
        Some("test-value")
    );
    Ok(())
}

/// "Can delete keys".
#[tokio::test]
async fn can_delete_keys() -> TestResult {
    let (_fixture, client) = service().await?;
    client.kv().set_text(KEY, "value").await?;
    assert!(client.kv().del(KEY).await?);
    assert!(!client.kv().exists(KEY).await?);
    Ok(())
}

/// "TTL expiration working": an hour unless said otherwise, and gone when it is over.
#[tokio::test]
async fn ttl_expiration_working() -> TestResult {
    let (_fixture, client) = service().await?;
    let kv = client.kv();
    kv.set_text(KEY, "value").await?;
    let left = kv.ttl(KEY).await?;
    assert!(
        matches!(left, Ttl::ExpiresIn(left) if left <= HOUR && left > HOUR / 2),
        "{left:?}"
    );
    kv.expire(KEY, Duration::from_millis(1)).await?;
    eventually(DEADLINE, async || {
        kv.exists(KEY).await.is_ok_and(|exists| !exists)
    })
    .await?;
    Ok(())
}

/// "Increment/decrement operations working".
#[tokio::test]
async fn increment_decrement_operations_working() -> TestResult {
    let (_fixture, client) = service().await?;
    let first = client.kv().incr("api:counter").await?;
    assert_eq!(client.kv().incr("api:counter").await?, first + 1);
    assert_eq!(client.kv().decr("api:counter").await?, first);
    Ok(())
}

/// "Health check returns true": of the client, and of the gateway in the document's own words.
#[tokio::test]
async fn health_check_returns_true() -> TestResult {
    let (fixture, client) = service().await?;
    assert!(client.kv().health(DEADLINE).await.is_up());
    let graph = simulator().await?;
    let gateway = Gateway::start(&fixture, graph.url(), &BTreeMap::new()).await?;
    assert_eq!(
        gateway.get("/health", "").await?,
        (200, r#"{"redis":"up"}"#.to_owned())
    );
    Ok(())
}

/// "Connection retries on failure": the same client works again once Redis does.
#[tokio::test]
async fn connection_retries_on_failure() -> TestResult {
    let (fixture, client) = service().await?;
    client.kv().set_text(KEY, "value").await?;
    fixture.server.kill_hard();
    assert!(!client.kv().health(Duration::from_secs(1)).await.is_up());
    fixture.server.restart().await?;
    eventually(DEADLINE, async || {
        client.kv().set_text(KEY, "again").await.is_ok()
    })
    .await?;
    Ok(())
}

/// "Password authentication working": without a name and password, or with others', there is no way in.
#[tokio::test]
async fn password_authentication_working() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let port = fixture.server.port();
    for login in [
        "",
        ":test@",
        "gateway:test@",
        "default:test@",
        "nobody:test@",
    ] {
        let config = ClientConfig::from_url(&format!("redis://{login}127.0.0.1:{port}"))?;
        assert!(Client::connect(config).await.is_err(), "let in: {login:?}");
    }
    fixture.client("gateway").await?;
    Ok(())
}

/// "Can get raw client for BullMQ": the client sends any command; BullMQ takes the same settings.
#[tokio::test]
async fn can_get_raw_client_for_bullmq() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let client = fixture.client("producer").await?;
    let said = client.request(Command::new("PING"), Repeat::Safe).await?;
    assert_eq!(said.into_text()?, "PONG");
    let node = fixture.node("producer").await?;
    node.call("queue.add", json!({ "queue": "post-publishing" }))
        .await?;
    let count = Command::new("LLEN").arg("bull:post-publishing:wait");
    let count = client.request(count, Repeat::Safe).await?;
    assert_eq!(count.into_int()?, 1);
    Ok(())
}

/// "Cache interceptor working for API routes": the second answer is the first, and nobody was asked for it.
#[tokio::test]
async fn cache_interceptor_working_for_api_routes() -> TestResult {
    let fixture = ShippedRedis::start("queue.conf").await?;
    let graph = simulator().await?;
    let gateway = Gateway::start(&fixture, graph.url(), &BTreeMap::new()).await?;
    let path = "/api/analytics/overview/17841491307680853";
    let first = gateway.get(path, "").await?;
    assert_eq!(first.0, 200);
    let asked = graph.counters().requests;
    assert!(!asked.is_empty());
    assert_eq!(gateway.get(path, "").await?, first);
    assert_eq!(graph.counters().requests, asked);
    let key = format!("api:GET:{path}:anonymous");
    assert_eq!(fixture.server.int(&["EXISTS", &key]).await?, 1);
    Ok(())
}

/// "All unit tests passing": the document's own six.
#[tokio::test]
async fn all_unit_tests_passing() -> TestResult {
    let (_fixture, client) = service().await?;
    let kv = client.kv();
    kv.set_text_with_ttl("api:test-key", "test-value", Duration::from_secs(60))
        .await?;
    assert_eq!(
        kv.get_text("api:test-key").await?.as_deref(),
        Some("test-value")
    );
    kv.set_text("api:exists-key", "value").await?;
    assert!(kv.exists("api:exists-key").await?);
    kv.set_text("api:delete-key", "value").await?;
    kv.del("api:delete-key").await?;
    assert!(!kv.exists("api:delete-key").await?);
    let count = kv.incr("api:counter").await?;
    assert_eq!(kv.incr("api:counter").await?, count + 1);
    assert!(kv.health(DEADLINE).await.is_up());
    Ok(())
}

/// Every line of the list has its test, by name.
#[test]
fn every_line_of_the_list_has_a_test() -> TestResult {
    let source = read("workers/tests/operations/acceptance.rs")?;
    let manual = read("docs/operations.md")?;
    let table = manual.split("## Acceptance").nth(1).ok_or("no table")?;
    let rows: Vec<_> = table.lines().filter(|line| line.ends_with("` |")).collect();
    assert_eq!(rows.len(), 12);
    for row in rows {
        let name = row.split('`').nth(1).ok_or("no test")?;
        assert!(source.contains(&format!("async fn {name}()")), "{name}");
    }
    Ok(())
}
