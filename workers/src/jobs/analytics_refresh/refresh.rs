//! One account: read, cache, return.

use std::future::Future;
use std::time::Duration;

use oxbull::BoxError;

use super::Overview;
use crate::graph::{AccountApi, AccountId, AccountInsights, Failure, GraphError};

/// How long a cached overview lasts.
pub const OVERVIEW_TTL: Duration = Duration::from_secs(3600);

/// The cache key of an account's overview.
pub fn overview_key(account: &AccountId) -> String {
    format!("api:analytics:overview:{account}")
}

/// Where overviews are cached.
pub trait OverviewCache {
    /// Stores an overview under [`overview_key`] for [`OVERVIEW_TTL`].
    fn store(&self, overview: &Overview) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// Why an account's numbers were not refreshed by this attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshError {
    /// A request failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The numbers were read and could not be cached.
    #[error("the overview could not be cached")]
    Cache(#[source] BoxError),
}

impl RefreshError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Graph(error) => error.failure(),
            Self::Cache(_) => Failure::Transient,
        }
    }
}

/// Reads an account's numbers and caches them; `now` is in milliseconds since 1970.
///
/// # Errors
/// [`RefreshError`]; numbers that the API leaves out are no error.
pub async fn refresh(
    api: AccountApi<'_>,
    cache: &impl OverviewCache,
    now: i64,
) -> Result<Overview, RefreshError> {
    let overview = overview(api.id().clone(), api.insights().await?, now);
    cache.store(&overview).await.map_err(RefreshError::Cache)?;
    Ok(overview)
}

fn overview(account_id: AccountId, read: AccountInsights, fetched_at: i64) -> Overview {
    let numbers = [
        ("followers", read.followers),
        ("posts", read.posts),
        ("reach", read.reach),
        ("views", read.views),
        ("profileViews", read.profile_views),
    ];
    let missing = numbers
        .into_iter()
        .filter(|(_, number)| number.is_none())
        .map(|(name, _)| name.to_owned())
        .collect();
    Overview {
        account_id,
        username: read.username,
        followers: read.followers,
        posts: read.posts,
        reach: read.reach,
        views: read.views,
        profile_views: read.profile_views,
        missing,
        fetched_at,
    }
}
