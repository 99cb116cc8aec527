//! When the API is to be left alone, known to all workers: what one learns from an answer keeps
//! every other from asking until then. Accounts do not wait for each other.

use std::time::Duration;

use oxbull::Result;
use oxbull::client::Client;

use crate::graph::{AccountId, LimitScope};

/// Holds as keys on the queues' server, `ratelimit:hold:graph.…`; the longest wait counts.
#[derive(Debug, Clone)]
pub struct Holds {
    client: Client,
}

impl Holds {
    /// Holds through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Lets nobody ask the API for so long, within the scope of an account's limit.
    ///
    /// # Errors
    /// Those of [`Kv::hold_off`](oxbull::kv::Kv::hold_off), which is safe to repeat.
    pub async fn hold(&self, scope: LimitScope, account: &AccountId, wait: Duration) -> Result<()> {
        let until = self.client.clock().now() + wait;
        let resource = resource(scope, account);
        self.client.kv().hold_off(&resource, until).await.map(drop)
    }

    /// Ends a hold early; says whether there was one.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn end(&self, scope: LimitScope, account: &AccountId) -> Result<bool> {
        self.client.kv().end_hold(&resource(scope, account)).await
    }

    /// How long a publication for an account has to wait; zero when nothing holds it.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn left(&self, account: &AccountId) -> Result<Duration> {
        let kv = self.client.kv();
        let held_until = async |scope| kv.held_until(&resource(scope, account)).await;
        let (own, publishing, application) = tokio::try_join!(
            held_until(LimitScope::Account),
            held_until(LimitScope::Publishing),
            held_until(LimitScope::Application),
        )?;
        let latest = own.max(publishing).max(application);
        let now = self.client.clock().now();
        Ok(latest.map_or(Duration::ZERO, |latest| latest.since(now)))
    }

    /// The hold that reading an account's numbers has to wait for, and for how long. The
    /// application's comes first, since it is every account's.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn on_reading(&self, account: &AccountId) -> Result<Option<(LimitScope, Duration)>> {
        let kv = self.client.kv();
        let held = async |scope| {
            let until = kv.held_until(&resource(scope, account)).await?;
            let now = self.client.clock().now();
            let wait = until.map_or(Duration::ZERO, |until| until.since(now));
            Ok::<_, oxbull::Error>((!wait.is_zero()).then_some((scope, wait)))
        };
        let (application, own) =
            tokio::try_join!(held(LimitScope::Application), held(LimitScope::Account))?;
        Ok(application.or(own))
    }
}

fn resource(scope: LimitScope, account: &AccountId) -> String {
    match scope {
        LimitScope::Account => format!("graph.account.{account}"),
        LimitScope::Publishing => format!("graph.publishing.{account}"),
        LimitScope::Application => "graph.application".to_owned(),
    }
}
