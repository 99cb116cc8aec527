//! Reading an account's numbers into the API cache.

mod handler;
mod refresh;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::graph::AccountId;

pub use handler::{ApiCache, Refresher, handle, options};
pub use refresh::{OVERVIEW_TTL, OverviewCache, RefreshError, overview_key, refresh};

/// The queue's name.
pub const QUEUE: &str = "analytics-refresh";

/// A job's data: the account to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsRefresh {
    /// The account.
    pub account_id: AccountId,
    /// What the backend added besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An account's numbers at a moment: the job's result and the cached value. A number is null when
/// the API did not report it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The account.
    pub account_id: AccountId,
    /// Name shown to people.
    pub username: Option<String>,
    /// Followers now.
    pub followers: Option<u64>,
    /// Posts now.
    pub posts: Option<u64>,
    /// Accounts that saw something, in the last day.
    pub reach: Option<u64>,
    /// Times something was seen, in the last day.
    pub views: Option<u64>,
    /// Times the profile was opened, in the last day.
    pub profile_views: Option<u64>,
    /// Names of the numbers that the API did not report.
    pub missing: Vec<String>,
    /// When they were read, milliseconds since 1970.
    pub fetched_at: i64,
}
