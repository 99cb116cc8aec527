//! Notices to users: a Redis publish on the user's channel `notify:{userId}`, which the backend's
//! WebSocket server forwards.

use std::time::Duration;

use oxbull::BoxError;
use oxbull::client::{Client, Repeat, Script};
use serde::{Deserialize, Serialize};

/// How long a claim is kept; jobs run again within minutes, not weeks.
const CLAIM_TTL: Duration = Duration::from_secs(7 * 24 * 3600);

static NOTIFY_ONCE: Script = Script::new("notify_once", include_str!("../lua/notify_once.lua"));

/// The message on a user's channel when an account needs its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum AccountNotice {
    /// The account has to be connected again: its access has expired, or it or a
    /// permission was revoked.
    #[serde(rename = "account.reconnect", rename_all = "camelCase")]
    Reconnect {
        /// The account.
        account_id: String,
        /// The reason, as the job keeps it.
        reason: String,
        /// When it was found out, milliseconds since 1970.
        at: i64,
    },
}

/// The claim of the notice that an account has to be connected again: once a week, whoever finds out.
pub fn reconnect_claim(account: &str) -> String {
    format!("analytics-refresh:{account}:reconnect")
}

/// The claim of the notice that an account's token cannot be prolonged: once a week for each token. Its own,
/// because such an account may be read, which forgets [`reconnect_claim`]. A refreshed or replaced token has
/// other times and so another claim; they are in milliseconds since 1970.
pub fn prolong_claim(account: &str, expires_at: Option<i64>, obtained_at: Option<i64>) -> String {
    let token = expires_at.or(obtained_at).unwrap_or(0);
    format!("token:{account}:prolong:{token}")
}

/// Publishes to users' channels.
///
/// Redis publishes a message exactly once per claim. Who is not subscribed at that moment does not
/// get it; what happened stays in the job's result or failure reason.
#[derive(Debug, Clone)]
pub struct Notifier {
    client: Client,
}

impl Notifier {
    /// Publishes through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Publishes a message to a user, as JSON, unless that was done under this claim before. Returns
    /// whether it was published now. Safe to repeat after an error.
    ///
    /// # Errors
    /// When the message has no JSON form, or Redis did not answer.
    pub async fn notify_once(
        &self,
        claim: &str,
        user: &str,
        message: &impl Serialize,
    ) -> Result<bool, BoxError> {
        let millis = u64::try_from(CLAIM_TTL.as_millis())?;
        let call = NOTIFY_ONCE
            .call()
            .key(key(claim))
            .arg(millis)
            .arg(channel(user))
            .arg(serde_json::to_string(message)?);
        Ok(self.client.run(call, Repeat::Safe).await?.into_int()? == 1)
    }

    /// Deletes a claim, so that the user is notified when the same happens again.
    ///
    /// # Errors
    /// Those of every request to Redis; safe to repeat.
    pub async fn forget(&self, claim: &str) -> oxbull::Result<()> {
        self.client.kv().del(&key(claim)).await.map(drop)
    }
}

/// A claim's key.
fn key(claim: &str) -> String {
    format!("notified:{claim}")
}

/// A user's channel.
pub fn channel(user: &str) -> String {
    format!("notify:{user}")
}
