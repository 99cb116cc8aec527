//! Until when the API must not be called, shared by all workers: what one learns from an answer
//! stops every other from asking until then. Accounts do not wait for each other.

use std::time::Duration;

use oxbull::Result;
use oxbull::client::Client;

use super::{AccountId, LimitScope};

/// The cooldown after a limit of the API without a duration.
pub(crate) const DEFAULT_COOLDOWN: Duration = Duration::from_secs(60);

/// The shortest cooldown after a limit, so that no job retries in a tight loop.
pub(crate) const SHORTEST_COOLDOWN: Duration = Duration::from_secs(1);

/// Cooldowns as keys on the queues' server, `ratelimit:hold:graph.…`; the longest wait counts.
#[derive(Debug, Clone)]
pub struct Cooldowns {
    client: Client,
}

impl Cooldowns {
    /// Cooldowns through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Stops all requests to the API within the scope of an account's limit for `wait`.
    ///
    /// # Errors
    /// Those of [`Kv::hold_off`](oxbull::kv::Kv::hold_off), which is safe to repeat.
    pub async fn begin(
        &self,
        scope: LimitScope,
        account: &AccountId,
        wait: Duration,
    ) -> Result<()> {
        let until = self.client.clock().now() + wait;
        let resource = resource(scope, account);
        self.client.kv().hold_off(&resource, until).await.map(drop)
    }

    /// Ends a cooldown early; returns whether there was one.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn end(&self, scope: LimitScope, account: &AccountId) -> Result<bool> {
        self.client.kv().end_hold(&resource(scope, account)).await
    }

    /// How long a publication for an account has to wait; zero when there is no cooldown.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn remaining(&self, account: &AccountId) -> Result<Duration> {
        let (own, publishing, application) = tokio::try_join!(
            self.remaining_of(LimitScope::Account, account),
            self.remaining_of(LimitScope::Publishing, account),
            self.remaining_of(LimitScope::Application, account),
        )?;
        Ok(own.max(publishing).max(application))
    }

    /// The cooldown that reading an account's numbers has to wait for, and for how long. The
    /// application's comes first, since it applies to every account.
    ///
    /// # Errors
    /// Those of every request to Redis.
    pub async fn for_reading(&self, account: &AccountId) -> Result<Option<(LimitScope, Duration)>> {
        let (application, own) = tokio::try_join!(
            self.remaining_of(LimitScope::Application, account),
            self.remaining_of(LimitScope::Account, account),
        )?;
        let scopes = [
            (LimitScope::Application, application),
            (LimitScope::Account, own),
        ];
        Ok(scopes.into_iter().find(|(_, wait)| !wait.is_zero()))
    }

    async fn remaining_of(&self, scope: LimitScope, account: &AccountId) -> Result<Duration> {
        let until = self
            .client
            .kv()
            .held_until(&resource(scope, account))
            .await?;
        let now = self.client.clock().now();
        Ok(until.map_or(Duration::ZERO, |until| until.since(now)))
    }
}

/// The name of a scope's cooldown among the rate limits' keys.
fn resource(scope: LimitScope, account: &AccountId) -> String {
    match scope {
        LimitScope::Account => format!("graph.account.{account}"),
        LimitScope::Publishing => format!("graph.publishing.{account}"),
        LimitScope::Application => "graph.application".to_owned(),
    }
}
