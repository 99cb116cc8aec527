//! Refreshing as a job.

use std::time::Duration;

use oxbull::client::Client;
use oxbull::kv::Kv;
use oxbull::{Backoff, BoxError, Context, Job, JobOptions, JobResult, Outcome};

use super::{AnalyticsRefresh, OVERVIEW_TTL, Overview, OverviewCache, overview_key, refresh};
use crate::graph::{AccessTokens, GraphClient};
use crate::jobs::reaction::Reaction;

/// The options of these jobs: 5 attempts, starting 30 s apart; nobody waits for them.
pub fn options() -> JobOptions {
    JobOptions::new()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_secs(30)))
}

/// What the handler works with.
#[derive(Debug)]
pub struct Refresher {
    /// The API.
    pub graph: GraphClient,
    /// The accounts' tokens.
    pub tokens: AccessTokens,
    /// For the cache and the time.
    pub client: Client,
}

/// Reads one account's numbers into the cache.
///
/// # Errors
/// The failed attempt; permanent errors of the API fail the job for good.
pub async fn handle(
    job: Job<AnalyticsRefresh>,
    context: Context<Refresher>,
) -> JobResult<Overview> {
    let refresher = context.state();
    let account = &job.data().account_id;
    let token = match refresher.tokens.of(account) {
        Ok(token) => token,
        Err(error) => return Reaction::Fail.settle(error),
    };
    let api = refresher.graph.account(account, token);
    let cache = ApiCache::new(refresher.client.cache());
    let now = refresher.client.clock().now().as_millis();
    match refresh(api, &cache, now).await {
        Ok(overview) => Ok(Outcome::Done(overview)),
        Err(error) => Reaction::from(error.failure()).settle(error),
    }
}

/// The cache server's keys.
#[derive(Debug, Clone)]
pub struct ApiCache(Kv);

impl ApiCache {
    /// The keys of this server.
    pub fn new(kv: Kv) -> Self {
        Self(kv)
    }
}

impl OverviewCache for ApiCache {
    async fn store(&self, overview: &Overview) -> Result<(), BoxError> {
        let key = overview_key(&overview.account_id);
        Ok(self.0.set_with_ttl(&key, overview, OVERVIEW_TTL).await?)
    }
}
