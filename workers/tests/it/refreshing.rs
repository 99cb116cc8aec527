//! An account's numbers in the API cache.

use std::sync::Mutex;
use std::time::Duration;

use oxbull_workers::graph::{AccessToken, AccountId, Failure, GraphClient, GraphOptions};
use oxbull_workers::jobs::BoxError;
use oxbull_workers::jobs::analytics_refresh::{Overview, OverviewCache, overview_key, refresh};
use oxbull_workers::simulator::{Fault, Operation, Simulator, SimulatorOptions};

use crate::support::TestResult;

#[derive(Default)]
struct Shelf(Mutex<Vec<Overview>>);

impl OverviewCache for Shelf {
    async fn store(&self, overview: &Overview) -> Result<(), BoxError> {
        self.0.lock().unwrap().push(overview.clone());
        Ok(())
    }
}

/// What is returned is what is cached, with the customer's key.
#[tokio::test]
async fn overview_is_cached_and_returned() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let graph = GraphClient::new(&GraphOptions::new(simulator.url()))?;
    let account = AccountId::new("17841405822304912")?;
    let shelf = Shelf::default();
    let token = AccessToken::new("s3cret-token");
    let overview = refresh(graph.account(&account, &token), &shelf, 1_700_000_000_000).await?;
    assert!(overview.followers.is_some() && overview.profile_views.is_some());
    assert!(overview.missing.is_empty());
    assert_eq!(*shelf.0.lock().unwrap(), [overview]);
    assert_eq!(
        overview_key(&account),
        "api:analytics:overview:17841405822304912"
    );
    Ok(())
}

/// The API leaves out numbers of small accounts; the rest is still worth caching.
#[tokio::test]
async fn missing_numbers_are_named_not_invented() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let graph = GraphClient::new(&GraphOptions::new(simulator.url()))?;
    let account = AccountId::new("17841405822304919")?;
    let token = AccessToken::new("s3cret-token");
    let overview = refresh(graph.account(&account, &token), &Shelf::default(), 0).await?;
    assert_eq!(overview.profile_views, None);
    assert_eq!(overview.missing, ["profileViews"]);
    Ok(())
}

/// A limited account caches nothing and says that it is limited.
#[tokio::test]
async fn limited_account_caches_nothing() -> TestResult {
    let simulator = Simulator::start(SimulatorOptions::new()).await?;
    let graph = GraphClient::new(&GraphOptions::new(simulator.url()))?;
    let account = AccountId::new("17841405822304912")?;
    let limit = Fault::rate_limit(Duration::from_secs(5)).on(Operation::Insights);
    simulator.arm(limit.account(account.as_str()));
    let shelf = Shelf::default();
    let token = AccessToken::new("s3cret-token");
    let error = refresh(graph.account(&account, &token), &shelf, 0)
        .await
        .unwrap_err();
    assert!(matches!(error.failure(), Failure::RateLimited { .. }));
    assert!(shelf.0.lock().unwrap().is_empty());
    Ok(())
}
