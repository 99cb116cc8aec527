//! Until when the API must not be called, shared by all workers: what one learns from an answer
//! stops every other from asking until then. Accounts do not wait for each other.

use std::time::Duration;

use oxbull::Result;
use oxbull::client::{Client, Repeat, Script};

use super::{AccountId, LimitScope};

/// The cooldown after a limit of the API without a duration.
pub(crate) const DEFAULT_COOLDOWN: Duration = Duration::from_secs(60);

/// The shortest cooldown after a limit, so that no job retries in a tight loop.
pub(crate) const SHORTEST_COOLDOWN: Duration = Duration::from_secs(1);

/// The pauses after the first, the second, … block of an account in a row; the last one repeats. Meta asks to
/// begin with 15 to 30 minutes and to grow, since requests during a block prolong it.
const BLOCK_PAUSES: [Duration; 4] = [
    BLOCK_PAUSE,
    Duration::from_secs(30 * 60),
    Duration::from_secs(60 * 60),
    Duration::from_secs(120 * 60),
];

/// The pause after a block where the pauses before are unknown.
pub(crate) const BLOCK_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How long after a block another one is the next in a row.
const BLOCKS_TTL: Duration = Duration::from_secs(24 * 3600);

static COUNT_BLOCK: Script = Script::new("count_block", include_str!("../../lua/count_block.lua"));

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

    /// Stops all requests for an account that a policy blocks ([`Failure::Blocked`](super::Failure::Blocked)),
    /// for longer with each block in a row, and returns for how long. All requests that one block refuses
    /// count once: those that were under way when the account was stopped do not make the pause longer.
    ///
    /// # Errors
    /// Those of every request to Redis; safe to repeat. What was counted before an error only makes the next
    /// pause longer.
    pub async fn begin_block(&self, account: &AccountId) -> Result<Duration> {
        let key = blocks_key(account);
        // Read before the cooldown: who finds none has then read the count from before it.
        let counted: u32 = self.client.kv().get(&key).await?.unwrap_or(0);
        let held = self.remaining_of(LimitScope::Account, account).await?;
        // A shorter one is of another kind, such as that of a nearly used up rate.
        let [shortest, ..] = BLOCK_PAUSES;
        if held >= shortest / 2 {
            return Ok(held);
        }
        let index = usize::try_from(counted).unwrap_or(usize::MAX);
        let [.., longest] = BLOCK_PAUSES;
        let pause = BLOCK_PAUSES.get(index).copied().unwrap_or(longest);
        // The account is left alone first, so that a crash in between costs no request.
        self.begin(LimitScope::Account, account, pause).await?;
        let ttl = u64::try_from((pause + BLOCKS_TTL).as_millis()).unwrap_or(u64::MAX);
        let call = COUNT_BLOCK.call().key(key).arg(u64::from(counted)).arg(ttl);
        self.client.run(call, Repeat::Safe).await?;
        tracing::warn!(%account, ?pause, before = counted, "the graph api blocks the account for a policy");
        Ok(pause)
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

/// The number of an account's blocks in a row, among the rate limits' keys.
fn blocks_key(account: &AccountId) -> String {
    format!("ratelimit:blocks:graph.account.{account}")
}
