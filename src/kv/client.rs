//! How a [`Client`] gives access to the values on its servers.

use super::Kv;
use crate::client::Client;

impl Client {
    /// Returns the values of the queue server: sessions, states, counters.
    pub fn kv(&self) -> Kv {
        Kv::new(self.connection().clone())
    }

    /// Returns the values of the cache server ([`ClientConfig::cache`](crate::ClientConfig::cache)),
    /// or of the only server where none is configured.
    pub fn cache(&self) -> Kv {
        Kv::new(self.cache_connection().clone())
    }
}
