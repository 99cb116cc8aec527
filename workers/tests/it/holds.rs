//! Holds on a real server.

use std::time::Duration;

use oxbull_workers::graph::{AccountId, LimitScope};
use oxbull_workers::holds::Holds;

use crate::support::{Bench, LATER, TestResult};

/// Several workers learn of the same limit at different times: the longest wait counts, so that
/// none of them lets the others ask too early.
#[tokio::test]
async fn longest_hold_counts_and_others_are_free() -> TestResult {
    let bench = Bench::start().await?;
    let holds = Holds::new(bench.client.clone());
    let (held, free) = (AccountId::new("178")?, AccountId::new("179")?);
    let short = Duration::from_secs(1);
    for wait in [short, LATER, short] {
        holds.hold(LimitScope::Account, &held, wait).await?;
    }
    assert!(holds.left(&held).await? > LATER / 2);
    assert_eq!(holds.left(&free).await?, Duration::ZERO);
    holds
        .hold(LimitScope::Publishing, &free, LATER)
        .await
        .unwrap();
    assert!(holds.left(&free).await? > LATER / 2);
    bench.client.close().await;
    Ok(())
}

/// The application's limit is every account's.
#[tokio::test]
async fn hold_of_the_application_holds_all() -> TestResult {
    let bench = Bench::start().await?;
    let holds = Holds::new(bench.client.clone());
    let (one, other) = (AccountId::new("178")?, AccountId::new("179")?);
    holds
        .hold(LimitScope::Application, &one, LATER)
        .await
        .unwrap();
    assert!(holds.left(&other).await? > LATER / 2);
    bench.client.close().await;
    Ok(())
}
