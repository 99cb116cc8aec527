//! How a gateway runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use oxbull::kv::session::Sessions;

use super::{AppSecrets, Overviews, VerifyToken};
use crate::app::MetricsRegistry;

/// How a gateway runs.
///
/// | option | default |
/// |---|---|
/// | [`address`](Self::address) | 0.0.0.0:4000 |
/// | [`prefix`](Self::prefix) | `bull` |
/// | [`sessions`](Self::sessions) | none: every request is anonymous |
/// | [`body_limit`](Self::body_limit) | 8 MiB |
/// | [`body_memory`](Self::body_memory) | 64 MiB |
/// | [`read_timeout`](Self::read_timeout) | 10 s |
/// | [`connections`](Self::connections) | 1,024 |
/// | [`max_age`](Self::max_age) | 40 h |
/// | [`store_within`](Self::store_within) | 800 ms |
/// | [`grace`](Self::grace) | 10 s |
/// | [`drain_delay`](Self::drain_delay) | none |
/// | [`metrics`](Self::metrics) | its own |
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    pub(super) secrets: AppSecrets,
    pub(super) token: VerifyToken,
    pub(super) overviews: Overviews,
    pub(super) address: SocketAddr,
    pub(super) prefix: String,
    pub(super) sessions: Option<Sessions>,
    pub(super) body_limit: usize,
    pub(super) body_memory: usize,
    pub(super) read_timeout: Duration,
    pub(super) connections: usize,
    pub(super) max_age: Duration,
    pub(super) store_within: Duration,
    pub(super) grace: Duration,
    pub(super) drain_delay: Duration,
    pub(super) metrics: MetricsRegistry,
}

impl GatewayOptions {
    /// The defaults, with what has none.
    pub fn new(secrets: AppSecrets, token: VerifyToken, overviews: Overviews) -> Self {
        Self {
            secrets,
            token,
            overviews,
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 4000)),
            prefix: "bull".to_owned(),
            sessions: None,
            body_limit: 8 << 20,
            body_memory: 64 << 20,
            read_timeout: Duration::from_secs(10),
            connections: 1024,
            max_age: Duration::from_secs(40 * 3600),
            store_within: Duration::from_millis(800),
            grace: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            metrics: MetricsRegistry::default(),
        }
    }

    /// Sets the address to listen on.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Sets the prefix of the queue's keys.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the sessions by which users of the API are known.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Sets the largest delivery, in bytes. The API puts up to 1,000 updates into one, and writes what is
    /// not ASCII with six bytes a character.
    #[must_use]
    pub fn body_limit(mut self, bytes: usize) -> Self {
        self.body_limit = bytes;
        self
    }

    /// Sets the memory for all bodies that are being read or stored, in bytes; at least one fits. Those
    /// up to 64 KiB need none of it. Without room the answer is 503 and the sender repeats the delivery.
    #[must_use]
    pub fn body_memory(mut self, bytes: usize) -> Self {
        self.body_memory = bytes;
        self
    }

    /// Sets how long a request's head, and then its body, may take to come. A connection without
    /// a request for that long is closed.
    #[must_use]
    pub fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// Sets how many connections are open at a time; more wait until one closes.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how old the newest entry of a delivery may be. The API repeats deliveries for 36 h.
    /// Up to 47 h, since repeats are known for 48 h.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Sets how long a delivery may take to be stored, one over 64 KiB four times as long; after that the
    /// answer is 503 and the sender repeats it.
    #[must_use]
    pub fn store_within(mut self, time: Duration) -> Self {
        self.store_within = time;
        self
    }

    /// Sets how long requests under way may take once the gateway is stopping.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long a stopping gateway reports that it is not ready before it stops to
    /// take connections: a balancer takes that long to notice.
    #[must_use]
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// Sets where numbers are gathered, for instance with those of the library.
    #[must_use]
    pub fn metrics(mut self, registry: MetricsRegistry) -> Self {
        self.metrics = registry;
        self
    }
}
