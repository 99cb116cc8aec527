//! Telling users: a Redis publish on the user's channel `notify:{userId}`, which the backend's
//! WebSocket server forwards.

use std::time::Duration;

use oxbull::BoxError;
use oxbull::client::{Client, Repeat, Script};
use serde::Serialize;

/// How long it is remembered that a user was told; jobs run again within minutes, not weeks.
const REMEMBERED: Duration = Duration::from_secs(7 * 24 * 3600);

/// Remembers and publishes in one step, so that no crash comes in between: neither is a message
/// repeated, nor does a claim stay without its message, be it that publishing was refused.
static TELL_ONCE: Script = Script::new(
    "tell_once",
    "
if not redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1]) then
  return 0
end
local heard = redis.pcall('PUBLISH', ARGV[2], ARGV[3])
if type(heard) == 'table' and heard.err then
  redis.call('DEL', KEYS[1])
  return heard
end
return 1",
);

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

    /// Tells a user something, as JSON, unless that was done under this claim before. Returns
    /// whether it was done now. Safe to repeat after an error.
    ///
    /// # Errors
    /// When the message has no JSON form, or Redis did not answer.
    pub async fn tell_once(
        &self,
        claim: &str,
        user: &str,
        message: &impl Serialize,
    ) -> Result<bool, BoxError> {
        let millis = u64::try_from(REMEMBERED.as_millis())?;
        let call = TELL_ONCE
            .call()
            .key(key(claim))
            .arg(millis)
            .arg(channel(user))
            .arg(serde_json::to_string(message)?);
        Ok(self.client.run(call, Repeat::Safe).await?.into_int()? == 1)
    }

    /// Forgets a claim, so that a user is told when the same happens again.
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
