//! Reading an account's numbers into the API cache: every day at the account's own time, by a
//! scheduler an account, see [`schedule_account`].
//!
//! All of an account is read in one request. Where the API refuses a part of it, the parts are
//! asked for one by one: what is not to be had is left out and named, and the rest is kept. The
//! API's limits are shared by all processes, see [`Reader`].

mod budget;
mod handler;
mod overview;
mod posts;
mod reaction;
mod reader;
mod refresh;
mod schedule;
mod settings;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::graph::AccountId;

pub use crate::notify::AccountNotice;
pub use budget::{Allowance, Budget, Budgets, Denial};
pub use handler::{POSTPONE_MAX, Refresher, handle, options};
pub use overview::{OVERVIEW_TTL, Overview, PostNumbers, overview_key};
pub use reader::{ReadOptions, Reader};
pub use refresh::{RefreshError, RefreshLimits, refresh};
pub use schedule::{
    InvalidWindow, RefreshWindow, ScheduleError, schedule_account, schedule_of, scheduler_id,
    unschedule_account,
};
pub use settings::ReadSettings;

/// The queue's name.
pub const QUEUE: &str = "analytics-refresh";

/// A job's data: the account to read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AnalyticsRefresh {
    /// The account.
    pub account_id: AccountId,
    /// The user notified when the account has to be connected again; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// What the backend added besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl AnalyticsRefresh {
    /// The data for an account, without a user to notify.
    pub fn new(account_id: AccountId) -> Self {
        Self {
            account_id,
            user_id: None,
            other: Map::new(),
        }
    }

    /// Sets the user notified when the account has to be connected again.
    #[must_use]
    pub fn user(mut self, user_id: impl Into<String>) -> Self {
        self.user_id = Some(user_id.into());
        self
    }
}
