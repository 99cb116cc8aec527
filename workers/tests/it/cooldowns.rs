//! Cooldowns on a real server.

use std::time::Duration;

use oxbull_testkit::TestResult;
use oxbull_workers::graph::Cooldowns;
use oxbull_workers::graph::{AccountId, LimitScope};

use crate::support::{LATER, RedisFixture};

/// Several workers learn of the same limit at different times: the longest wait counts, so that
/// none of them lets the others ask too early.
#[tokio::test]
async fn longest_hold_counts_and_others_are_free() -> TestResult {
    let redis = RedisFixture::start().await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let (held, free) = (AccountId::new("178")?, AccountId::new("179")?);
    let short = Duration::from_secs(1);
    for wait in [short, LATER, short] {
        cooldowns.begin(LimitScope::Account, &held, wait).await?;
    }
    assert!(cooldowns.remaining(&held).await? > LATER / 2);
    assert_eq!(cooldowns.remaining(&free).await?, Duration::ZERO);
    cooldowns
        .begin(LimitScope::Publishing, &free, LATER)
        .await
        .unwrap();
    assert!(cooldowns.remaining(&free).await? > LATER / 2);
    redis.client.close().await;
    Ok(())
}

/// The application's limit is every account's.
#[tokio::test]
async fn hold_of_the_application_holds_all() -> TestResult {
    let redis = RedisFixture::start().await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let (one, other) = (AccountId::new("178")?, AccountId::new("179")?);
    cooldowns
        .begin(LimitScope::Application, &one, LATER)
        .await
        .unwrap();
    assert!(cooldowns.remaining(&other).await? > LATER / 2);
    redis.client.close().await;
    Ok(())
}
