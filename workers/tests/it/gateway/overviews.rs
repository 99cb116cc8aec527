//! The numbers of an account: read, cached, and per user.

use std::time::Duration;

use oxbull::kv::session::{Sessions, UserId};
use oxbull::{Client, ClientConfig};
use oxbull_instagram_simulator::{Fault, Simulator, SimulatorOptions};
use oxbull_testkit::{RedisServer, TestResult};
use oxbull_workers::gateway::{AppSecrets, Gateway, GatewayOptions, Overviews, VerifyToken};
use oxbull_workers::graph::{
    AccessToken, AccessTokens, AccountId, Cooldowns, GraphClient, GraphOptions, LimitScope,
};
use oxbull_workers::jobs::analytics_refresh::ReadOptions;
use serde_json::{Value, json};

use super::GatewayFixture;
use crate::http::{Answer, Http, SECRET, TOKEN, options};
use crate::support::ACCOUNT;

/// Options of a gateway that reads accounts without a snapshot from the API.
fn reading(simulator: &Simulator) -> TestResult<GatewayOptions> {
    let shared = AccessTokens::shared(AccessToken::new("s3cret-token"));
    reading_with(simulator, shared)
}

fn reading_with(simulator: &Simulator, tokens: AccessTokens) -> TestResult<GatewayOptions> {
    let graph = GraphClient::new(&GraphOptions::new(simulator.url()))?;
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
    let fixture = GatewayFixture::with(reading(&simulator)?).await?;
    let mut http = fixture.http().await?;
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
    let stored = fixture.server.text(&["GET", &key]).await?;
    assert_eq!(stored.as_deref(), Some(first.body.as_str()));
    let metrics = http.get("/metrics").await?.body;
    assert!(
        metrics.contains("gateway_cache_total{result=\"hit\"} 1"),
        "{metrics}"
    );
    assert_eq!(http.get("/api/analytics/overview/a%3Ab").await?.status, 404);
    assert_eq!(http.get("/elsewhere").await?.status, 404);
    fixture.end().await;
    Ok(())
}

/// The gateway and the workers share the API's limits: during an account's cooldown it is not
/// requested for a reader either, and the answer has a `Retry-After`.
#[tokio::test]
async fn held_account_is_not_asked_about() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let fixture = GatewayFixture::with(reading(&simulator)?).await?;
    let account = AccountId::new(ACCOUNT)?;
    let cooldowns = Cooldowns::new(fixture.client.clone());
    let wait = Duration::from_secs(3600);
    cooldowns.begin(LimitScope::Account, &account, wait).await?;
    let mut http = fixture.http().await?;
    let answer = http
        .get(&format!("/api/analytics/overview/{ACCOUNT}"))
        .await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.head.contains("retry-after: 3"), "{}", answer.head);
    assert!(simulator.counters().requests.is_empty());
    fixture.end().await;
    Ok(())
}

/// A seller who has to act learns that, and not that something is out of order: a token that is missing or refused
/// and a revoked permission are told apart from what passes by itself, and are not cached.
#[tokio::test]
async fn account_that_has_to_be_connected_again_says_so() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let path = format!("/api/analytics/overview/{ACCOUNT}");
    let none = reading_with(&simulator, AccessTokens::default())?;
    let without = GatewayFixture::with(none).await?;
    let fixture = GatewayFixture::with(reading(&simulator)?).await?;
    for (fault, status, code) in [
        (Fault::error(400, 190).subcode(463), 409, "reconnect"),
        (Fault::error(403, 10), 409, "reconnect"),
        (Fault::error(500, 2), 502, "unavailable"),
    ] {
        simulator.disarm();
        simulator.arm(fault);
        let answer = fixture.http().await?.get(&path).await?;
        assert_eq!(answer.status, status, "{}", answer.body);
        let said: Value = serde_json::from_str(&answer.body)?;
        assert_eq!(said["code"], code);
        assert!(said["error"].is_string());
    }
    simulator.disarm();
    let answer = without.http().await?.get(&path).await?;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert_eq!(
        serde_json::from_str::<Value>(&answer.body)?["code"],
        "reconnect"
    );
    // Connected again, it is read.
    assert_eq!(fixture.http().await?.get(&path).await?.status, 200);
    fixture.end().await;
    without.end().await;
    Ok(())
}

/// Numbers that a refresh has stored are shown without asking the API, which may have no token.
#[tokio::test]
async fn stored_overview_needs_no_api() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let mut http = fixture.http().await?;
    let path = format!("/api/analytics/overview/{ACCOUNT}");
    assert_eq!(http.get(&path).await?.status, 404);
    let stored = json!({
        "accountId": ACCOUNT, "username": "shoes", "followers": 3, "posts": 1, "reach": null,
        "views": null, "profileViews": null, "missing": [],
        "fetchedAt": fixture.client.clock().now().as_millis(),
    });
    let key = format!("api:analytics:overview:{ACCOUNT}");
    fixture.client.cache().set(&key, &stored).await?;
    let answer = http.get(&path).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(serde_json::from_str::<Value>(&answer.body)?["followers"], 3);
    fixture.end().await;
    Ok(())
}

/// Users have entries of their own, and only a verified session makes one.
#[tokio::test]
async fn session_decides_whose_entry_is_used() -> TestResult {
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
