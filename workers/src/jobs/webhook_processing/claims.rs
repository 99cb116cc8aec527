//! Claims as keys in Redis: whoever sets a key first owns it until it expires.

use std::time::Duration;

use oxbull::BoxError;
use oxbull::client::Client;
use tokio::time::timeout;

use super::{Claims, SEEN_TTL};

/// How long one round trip may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Claims on the queues' server, which evicts nothing.
#[derive(Debug, Clone)]
pub struct RedisClaims {
    client: Client,
}

impl RedisClaims {
    /// Claims through this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Claims for RedisClaims {
    /// One round trip for all keys. Of each, the owner is read back after it is set, so that a
    /// repetition after a lost reply tells the same.
    async fn claim(&self, keys: &[String], owner: &str) -> Result<Vec<bool>, BoxError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline
                .cmd("SET")
                .arg(key)
                .arg(owner)
                .arg("NX")
                .arg("EX")
                .arg(SEEN_TTL.as_secs())
                .ignore()
                .cmd("GET")
                .arg(key);
        }
        let mut connection = self.client.raw().await?;
        let owners: Vec<Option<String>> =
            timeout(DEADLINE, pipeline.query_async(&mut connection)).await??;
        Ok(owners
            .into_iter()
            .map(|held_by| held_by.as_deref() == Some(owner))
            .collect())
    }
}
