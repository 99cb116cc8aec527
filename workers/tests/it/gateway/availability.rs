//! What the gateway answers while Redis is unavailable and while it drains.

use std::time::Duration;

use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::Value;

use super::GatewayFixture;
use crate::http::{Http, options};

/// The status and body of `/health`.
async fn get_health(mut http: Http) -> TestResult<(u16, String)> {
    let health = http.get("/health").await?;
    Ok((health.status, health.body))
}

/// Without Redis no delivery is acknowledged, so that the sender repeats it. Health reports the
/// outage, and recovers once Redis is back.
#[tokio::test]
async fn unavailable_redis_is_answered_with_503() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let mut http = fixture.http().await?;
    let health = http.get("/health").await?;
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"redis":"up"}"#)
    );
    assert_eq!(http.get("/ready").await?.body, r#"{"ready":true}"#);
    let body = fixture.fresh("a");

    fixture.server.kill_hard();
    let answer = http.deliver(&body).await?;
    assert_eq!(answer.status, 503);
    assert!(
        answer.head.contains("retry-after: 5\r\n"),
        "{}",
        answer.head
    );
    // The last successful write counts for half a second.
    eventually(DEADLINE, async || {
        let health = fixture.http().await.map_err(|e| e.to_string())?;
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

    fixture.server.restart().await?;
    eventually(DEADLINE, async || {
        let answer = fixture.deliver(&body).await.map_err(|e| e.to_string())?;
        (answer.status == 200)
            .then_some(())
            .ok_or(answer.status.to_string())
    })
    .await?;
    assert_eq!(fixture.jobs().await?, 1);
    fixture.end().await;
    Ok(())
}

/// A hanging Redis must not make the sender wait.
#[tokio::test]
async fn hanging_redis_is_answered_with_503() -> TestResult {
    let fixture = GatewayFixture::with(options().store_within(Duration::from_millis(100))).await?;
    let body = fixture.fresh("a");
    fixture.server.freeze()?;
    let mut http = fixture.http().await?;
    assert_eq!(http.deliver(&body).await?.status, 503);
    fixture.server.thaw()?;
    eventually(DEADLINE, async || {
        let answer = fixture.deliver(&body).await.map_err(|e| e.to_string())?;
        (answer.status == 200)
            .then_some(())
            .ok_or(answer.status.to_string())
    })
    .await?;
    assert_eq!(fixture.jobs().await?, 1);
    fixture.end().await;
    Ok(())
}

/// A full server answers, but stores nothing: health and readiness report it, and recover after it.
#[tokio::test]
async fn full_redis_is_not_up() -> TestResult {
    let fixture = GatewayFixture::start().await?;
    let mut http = fixture.http().await?;
    fixture
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "1"])
        .await?;
    let asked = async |path: &'static str, status: u16| {
        eventually(DEADLINE, async || {
            let answer = Http::to(&fixture.gateway)
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
    assert_eq!(http.deliver(&fixture.fresh("a")).await?.status, 503);
    fixture
        .server
        .cli(&["CONFIG", "SET", "maxmemory", "0"])
        .await?;
    assert_eq!(asked("/health", 200).await?, r#"{"redis":"up"}"#);
    asked("/ready", 200).await?;
    fixture.end().await;
    Ok(())
}

/// A load balancer sees that the gateway is stopping before a connection is refused.
#[tokio::test]
async fn draining_gateway_is_not_ready_and_takes_deliveries() -> TestResult {
    let fixture = GatewayFixture::with(options().drain_delay(DEADLINE)).await?;
    let asking = async {
        eventually(DEADLINE, async || {
            let answer = Http::to(&fixture.gateway)
                .await
                .map_err(|e| e.to_string())?
                .get("/ready")
                .await;
            let status = answer.map_err(|error| error.to_string())?.status;
            (status == 503).then_some(()).ok_or(status.to_string())
        })
        .await?;
        let mut http = fixture.http().await?;
        assert_eq!(http.get("/health").await?.status, 200);
        assert_eq!(http.get("/live").await?.status, 200);
        assert_eq!(http.deliver(&fixture.fresh("a")).await?.status, 200);
        TestResult::Ok(())
    };
    tokio::select! {
        () = fixture.gateway.drain() => panic!("it stopped at once"),
        asked = asking => asked?,
    }
    assert_eq!(fixture.jobs().await?, 1);
    fixture.end().await;
    Ok(())
}
