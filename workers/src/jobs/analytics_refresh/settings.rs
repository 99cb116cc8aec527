//! Settings of reading accounts, by flag or environment variable.

use super::{Budget, ReadOptions, RefreshLimits};

/// How much is read of accounts. Budgets are shared by all programs that use a Redis server, which
/// must have the same ones: so many requests at once, and as many again in each period.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Reading accounts")]
pub struct ReadSettings {
    /// Latest posts read of each account
    #[arg(long, env = "ANALYTICS_POSTS", value_name = "ANALYTICS_POSTS", default_value_t = 25, value_parser = clap::value_parser!(u16).range(0..=200))]
    posts: u16,
    /// Requests for one account, as `requests/seconds`
    #[arg(
        long,
        env = "GRAPH_ACCOUNT_BUDGET",
        value_name = "GRAPH_ACCOUNT_BUDGET",
        default_value = "200/3600"
    )]
    account_budget: Budget,
    /// Requests for all accounts, as `requests/seconds`
    #[arg(
        long,
        env = "GRAPH_APPLICATION_BUDGET",
        value_name = "GRAPH_APPLICATION_BUDGET",
        default_value = "600/60"
    )]
    application_budget: Budget,
}

impl ReadSettings {
    /// The options of these settings.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            limits: RefreshLimits {
                posts: self.posts.into(),
                ..RefreshLimits::default()
            },
            account: self.account_budget,
            application: self.application_budget,
        }
    }
}
