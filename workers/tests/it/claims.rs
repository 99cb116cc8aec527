//! Claims on a real server.

use oxbull::{Client, ClientConfig};
use oxbull_testkit::RedisServer;
use oxbull_workers::jobs::webhook_processing::{Claims, RedisClaims, WebhookDelivery, process};
use serde_json::json;

use crate::support::TestResult;

fn keys() -> Vec<String> {
    ["a", "b"]
        .map(|id| format!("webhook:seen:178:message:{id}"))
        .into()
}

/// The first job that sees an event owns it, also when it runs again; others do not get it.
#[tokio::test]
async fn first_owner_keeps_its_claims() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let claims = RedisClaims::new(client.clone());
    let [first, second] = [&keys()[..1], &keys()[..]];
    assert_eq!(claims.claim(first, "1@1").await.unwrap(), [true]);
    assert_eq!(claims.claim(second, "2@1").await.unwrap(), [false, true]);
    assert_eq!(claims.claim(first, "1@1").await.unwrap(), [true]);
    assert!(claims.claim(&[], "3@1").await.unwrap().is_empty());
    client.close().await;
    Ok(())
}

/// Claims go by themselves, so that remembering events cannot fill the queues' server.
#[tokio::test]
async fn claims_expire() -> TestResult {
    let server = RedisServer::start().await?;
    let client = Client::connect(ClientConfig::from_url(&server.url())?).await?;
    let delivery: WebhookDelivery = serde_json::from_value(json!({
        "object": "instagram",
        "entry": [{ "id": "178", "messaging": [{ "message": { "mid": "a" } }] }],
    }))?;
    let processed = process(&delivery, "1@1", &RedisClaims::new(client.clone())).await;
    assert_eq!(processed.unwrap().events.len(), 1);
    let ttl = server.int(&["PTTL", "webhook:seen:178:message:a"]).await?;
    assert!((1..=48 * 3_600_000).contains(&ttl), "{ttl}");
    client.close().await;
    Ok(())
}
