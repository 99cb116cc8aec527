//! Reading accounts within the limits that all processes share: the worker does it at night, the
//! gateway when no snapshot is stored.

use std::time::Duration;

use oxbull::client::Client;

use super::reaction::Reaction;
use super::{
    Budget, Budgets, Denial, OVERVIEW_TTL, Overview, RefreshError, RefreshLimits, overview_key,
    refresh,
};
use crate::graph::{
    AccessToken, AccessTokens, AccountId, BLOCK_PAUSE, Cooldowns, Failure, GraphClient, LimitScope,
    UsageMeter,
};

/// How much is read, and how often the API may be asked. Processes that share a Redis server must
/// have the same budgets.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// How much is read of an account.
    pub limits: RefreshLimits,
    /// Requests for one account. Default: 200 at once and 200 an hour.
    pub account: Budget,
    /// Requests for all accounts. Default: 600 at once and 600 a minute.
    pub application: Budget,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            limits: RefreshLimits::default(),
            account: Budget::new(200, 3600),
            application: Budget::new(600, 60),
        }
    }
}

/// Reads accounts' numbers; cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    client: Client,
    graph: GraphClient,
    tokens: AccessTokens,
    budgets: Budgets,
    cooldowns: Cooldowns,
    limits: RefreshLimits,
}

impl Reader {
    /// Reads from this API with these tokens.
    ///
    /// # Errors
    /// [`oxbull::Error::Invalid`] when a budget is out of bounds.
    pub fn new(
        client: &Client,
        graph: GraphClient,
        tokens: AccessTokens,
        options: ReadOptions,
    ) -> oxbull::Result<Self> {
        Ok(Self {
            budgets: Budgets::new(client, options.account, options.application)?,
            cooldowns: Cooldowns::new(client.clone()),
            client: client.clone(),
            graph,
            tokens,
            limits: options.limits,
        })
    }

    /// For how long a missing token is waited for.
    pub(super) fn missing_token_max(&self) -> Duration {
        self.tokens.missing_max()
    }

    /// Reads one account as [`refresh`] does, unless it is to be left alone, and passes on to all
    /// the limits that the API's answers report. A refused token that has been replaced meanwhile is not the
    /// last word.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn read(
        &self,
        account: &AccountId,
        settle_for_less: bool,
    ) -> Result<Overview, RefreshError> {
        let token = self.tokens.of(account).await?;
        let read = self.read_with(account, &token, settle_for_less).await;
        match read {
            Err(error)
                if error.failure().needs_reconnection()
                    && self.tokens.is_replaced(account, &token).await =>
            {
                let token = self.tokens.of(account).await?;
                self.read_with(account, &token, settle_for_less).await
            }
            Err(RefreshError::Graph(error)) => {
                let problem = self.tokens.not_understood(account, &token, &error);
                Err(problem.map_or(RefreshError::Graph(error), RefreshError::NoToken))
            }
            read => read,
        }
    }

    async fn read_with(
        &self,
        account: &AccountId,
        token: &AccessToken,
        settle_for_less: bool,
    ) -> Result<Overview, RefreshError> {
        let held = self.cooldowns.for_reading(account).await;
        if let Some((scope, wait)) = held.map_err(|error| RefreshError::NoLimits(error.into()))? {
            return Err(RefreshError::Held(Denial { scope, wait }));
        }
        let meter = UsageMeter::for_account(account);
        let read = refresh(
            self.graph.account(account, token).metered(&meter),
            &self.budgets,
            &self.limits,
            settle_for_less,
            self.client.clock().now().as_millis(),
        )
        .await;
        let throttle = meter.throttle();
        self.cool_down(LimitScope::Account, account, throttle.account)
            .await;
        self.cool_down(LimitScope::Application, account, throttle.application)
            .await;
        if let Err(error) = &read
            && error.failure() == Failure::Blocked
        {
            let begun = self.cooldowns.begin_block(account).await;
            let wait = begun.unwrap_or_else(|error| {
                tracing::warn!(%error, %account, "a block could not be passed on to others");
                BLOCK_PAUSE
            });
            let scope = LimitScope::Account;
            return Err(RefreshError::Held(Denial { scope, wait }));
        }
        if let Err(error @ RefreshError::Graph(_)) = &read
            && let Some(Denial { scope, wait }) = error.denial()
        {
            self.cool_down(scope, account, wait).await;
        }
        read
    }

    /// Keeps an overview under [`overview_key`] for [`OVERVIEW_TTL`].
    ///
    /// # Errors
    /// [`RefreshError::Cache`].
    pub async fn keep(&self, overview: &Overview) -> Result<(), RefreshError> {
        let key = overview_key(&overview.account_id);
        let cache = self.client.cache();
        let kept = cache.set_with_ttl(&key, overview, OVERVIEW_TTL).await;
        kept.map_err(|error| RefreshError::Cache(error.into()))
    }

    /// Without the cooldown others call the API and are refused.
    async fn cool_down(&self, scope: LimitScope, account: &AccountId, wait: Duration) {
        if wait.is_zero() {
            return;
        }
        if let Err(error) = self.cooldowns.begin(scope, account, wait).await {
            tracing::warn!(%error, %account, "a limit could not be passed on to others");
        }
    }
}

impl RefreshError {
    /// Whose limit is reached, and how long to wait.
    pub fn denial(&self) -> Option<Denial> {
        match Reaction::from(self.failure()) {
            Reaction::Postpone(wait) => Some(Denial {
                scope: LimitScope::Account,
                wait,
            }),
            Reaction::LimitQueue(wait) => Some(Denial {
                scope: LimitScope::Application,
                wait,
            }),
            Reaction::Fail | Reaction::Retry => None,
        }
    }
}
