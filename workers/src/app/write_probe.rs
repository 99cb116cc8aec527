//! Whether Redis accepts writes, which `PING` does not show: a full server answers it.

use std::sync::Arc;
use std::time::Duration;

use oxbull::client::Client;
use oxbull::{Error, Result};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

/// How long Redis gets to answer.
pub(crate) const DEADLINE: Duration = Duration::from_millis(500);

/// How long a result is reused, so that frequent probes cost Redis little.
const FRESH: Duration = Duration::from_millis(500);

/// The key that is written; every role may.
const KEY: &str = "ratelimit:write-probe";

/// How long the key stays.
const TTL: Duration = Duration::from_secs(60);

/// Tries to write.
#[derive(Debug)]
pub(crate) struct WriteProbe {
    client: Client,
    last: Mutex<Option<(Instant, Option<Arc<Error>>)>>,
}

impl WriteProbe {
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            client: client.clone(),
            last: Mutex::default(),
        }
    }

    /// The error of the last attempt to write, if it failed.
    pub(crate) async fn problem(&self) -> Option<Arc<Error>> {
        let mut last = self.last.lock().await;
        if let Some((at, problem)) = &*last
            && at.elapsed() < FRESH
        {
            return problem.clone();
        }
        let problem = self.write().await.err().map(Arc::new);
        *last = Some((Instant::now(), problem.clone()));
        problem
    }

    async fn write(&self) -> Result<()> {
        let kv = self.client.kv();
        match timeout(DEADLINE, kv.set_with_ttl(KEY, &1, TTL)).await {
            Ok(written) => written,
            Err(_) => Err(Error::Timeout(DEADLINE)),
        }
    }
}
