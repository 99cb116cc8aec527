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

/// Requests that were under way when the account was blocked are refused as well. They are one block, whoever
/// of the workers made them.
#[tokio::test]
async fn one_block_counts_once_for_all_whom_it_refuses() -> TestResult {
    let redis = RedisFixture::start().await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let (account, other) = (AccountId::new("178")?, AccountId::new("179")?);
    let longest = |pauses: Vec<Duration>| pauses.into_iter().max().unwrap_or_default();
    for minutes in [15, 30, 60, 120, 120] {
        let refused = (0..20).map(|_| cooldowns.begin_block(&account));
        let pauses = futures::future::try_join_all(refused).await?;
        assert_eq!(longest(pauses), Duration::from_secs(minutes * 60));
        assert!(cooldowns.remaining(&account).await? > Duration::from_secs(minutes * 59));
        assert!(cooldowns.end(LimitScope::Account, &account).await?);
    }
    assert_eq!(cooldowns.remaining(&other).await?, Duration::ZERO);
    let first = cooldowns.begin_block(&other).await?;
    assert_eq!(first, Duration::from_secs(15 * 60));
    redis.client.close().await;
    Ok(())
}

/// A worker that dies once the account is left alone has not counted: the next pause is as long, never
/// shorter, and nobody asks before it is over.
#[tokio::test]
async fn block_that_was_not_counted_still_holds() -> TestResult {
    let redis = RedisFixture::start().await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let account = AccountId::new("178")?;
    let quarter = Duration::from_secs(15 * 60);
    cooldowns
        .begin(LimitScope::Account, &account, quarter)
        .await?;
    let left = cooldowns.begin_block(&account).await?;
    assert!(left <= quarter && left > quarter / 2);
    assert!(cooldowns.end(LimitScope::Account, &account).await?);
    assert_eq!(cooldowns.begin_block(&account).await?, quarter);
    redis.client.close().await;
    Ok(())
}

/// A nearly used up rate holds the account for seconds. A block that comes with it still pauses for a quarter
/// of an hour.
#[tokio::test]
async fn block_outlasts_a_short_hold() -> TestResult {
    let redis = RedisFixture::start().await?;
    let cooldowns = Cooldowns::new(redis.client.clone());
    let account = AccountId::new("178")?;
    let short = Duration::from_secs(6);
    cooldowns
        .begin(LimitScope::Account, &account, short)
        .await?;
    let pause = cooldowns.begin_block(&account).await?;
    assert_eq!(pause, Duration::from_secs(15 * 60));
    assert!(cooldowns.remaining(&account).await? > Duration::from_secs(14 * 60));
    redis.client.close().await;
    Ok(())
}
