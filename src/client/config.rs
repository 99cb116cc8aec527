//! How a client finds its server and behaves when it cannot.

use std::fmt;
use std::time::Duration;

use super::{env, url};
use crate::error::{Error, Result};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Where the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topology {
    /// One server.
    Standalone(Address),
    /// A primary that sentinels name: they are asked before every attempt to connect.
    Sentinel {
        /// The name that the sentinels know the primary by.
        service: String,
        /// Some of the sentinels; they name the others.
        sentinels: Vec<Address>,
    },
    /// A cluster, whose keys are spread over its nodes.
    Cluster {
        /// Some of the nodes; they name the others.
        nodes: Vec<Address>,
    },
}

/// Whom to trust and who to be on an encrypted connection.
#[derive(Clone, Default)]
pub struct TlsOptions {
    pub(super) roots: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Secret)>,
}

impl TlsOptions {
    /// Trusts the system's root certificates (or the file that `SSL_CERT_FILE` names).
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these PEM certificates instead of the system's.
    #[must_use]
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// Presents this PEM certificate chain with its private key to the server.
    #[must_use]
    pub fn client_pem(mut self, certificates: impl Into<Vec<u8>>, key: &str) -> Self {
        self.identity = Some((certificates.into(), Secret::new(key)));
        self
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("own_roots", &self.roots.is_some())
            .field("client_certificate", &self.identity.is_some())
            .finish()
    }
}

/// How the connections to sentinels are encrypted.
#[derive(Debug, Clone, Default)]
pub(super) enum SentinelTls {
    /// As those to the server.
    #[default]
    AsServer,
    Plain,
    Own(TlsOptions),
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How a [`Client`](crate::client::Client) reaches its server.
///
/// Neither `Debug` nor `Display` shows a password or key.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use oxbull::client::ClientConfig;
///
/// let config = ClientConfig::new()
///     .host("redis.internal")
///     .password("secret")
///     .command_deadline(Duration::from_secs(2));
/// assert_eq!(config.to_string(), "redis://***@redis.internal:6379/0");
/// # let url = ClientConfig::from_url("rediss://app:secret@redis.internal/1")?;
/// # assert_eq!(url.to_string(), "rediss://app:***@redis.internal:6379/1");
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientConfig {
    pub(super) topology: Topology,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) db: u32,
    pub(super) tls: Option<TlsOptions>,
    pub(super) retries: u32,
    pub(super) connect_timeout: Duration,
    pub(super) command_deadline: Duration,
    pub(super) start_deadline: Duration,
    pub(super) backoff_base: Duration,
    pub(super) backoff_max: Duration,
    pub(super) ready_check: bool,
    pub(super) strict_eviction: bool,
    pub(super) skip_version_check: bool,
    pub(super) cache: Option<Box<Self>>,
    pub(super) sentinel_username: Option<String>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) sentinel_tls: SentinelTls,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            topology: Topology::Standalone(Address {
                host: "127.0.0.1".to_owned(),
                port: url::DEFAULT_PORT,
            }),
            username: None,
            password: None,
            db: 0,
            tls: None,
            retries: 3,
            connect_timeout: Duration::from_secs(3),
            command_deadline: Duration::from_secs(5),
            start_deadline: Duration::from_secs(5),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            ready_check: true,
            strict_eviction: false,
            skip_version_check: false,
            cache: None,
            sentinel_username: None,
            sentinel_password: None,
            sentinel_tls: SentinelTls::AsServer,
        }
    }
}

impl ClientConfig {
    /// Starts from the defaults: a server on `127.0.0.1:6379`, database 0, no password.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the environment: `REDIS_URL`, else `REDIS_HOST`, `REDIS_PORT`, `REDIS_USERNAME`,
    /// `REDIS_PASSWORD`, `REDIS_DB` and `REDIS_TLS`; and `REDIS_CACHE_URL` for the cache.
    ///
    /// `REDIS_URL` wins over the single variables. An empty variable counts as unset.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the variable, never its value.
    pub fn from_env() -> Result<Self> {
        env::read(|name| match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(()),
        })
    }

    /// Reads a URL: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS,
    /// `redis+sentinel://host:port,host:port/service[/db]` and `redis+cluster://host,host`.
    ///
    /// # Errors
    /// [`Error::Invalid`], without repeating the URL.
    pub fn from_url(url: &str) -> Result<Self> {
        url::parse("url", url)
    }

    /// Sets the host of a single server.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        let port = self.standalone().map_or(url::DEFAULT_PORT, |a| a.port);
        self.topology = Topology::Standalone(Address {
            host: host.into(),
            port,
        });
        self
    }

    /// Sets the port of a single server. Default: 6379.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        let host = self
            .standalone()
            .map_or("127.0.0.1".to_owned(), |a| a.host.clone());
        self.topology = Topology::Standalone(Address { host, port });
        self
    }

    /// Sets the user of the server's access list. Default: none, the server's `default` user.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password. Default: none.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(Secret::new(password));
        self
    }

    /// Sets the database. Default: 0.
    #[must_use]
    pub fn db(mut self, db: u32) -> Self {
        self.db = db;
        self
    }

    /// Encrypts the connection. Default: plain TCP.
    #[must_use]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    /// Sets how many failed reconnects, or lost answers of a repeatable request, an ordinary
    /// request survives. Default: 3.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Bounds one attempt to connect, from name lookup to the ready check. Default: 3 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Bounds the wait for one answer; a connection that is later is thrown away. A request
    /// waits as long for a connection, and one that is repeated ends within three times this
    /// time. Default: 5 s.
    #[must_use]
    pub fn command_deadline(mut self, deadline: Duration) -> Self {
        self.command_deadline = deadline;
        self
    }

    /// Sets how long [`Client::connect`](crate::client::Client::connect) tries. Default: 5 s.
    #[must_use]
    pub fn start_deadline(mut self, deadline: Duration) -> Self {
        self.start_deadline = deadline;
        self
    }

    /// Sets the wait before reconnect n to at most n times `base`, up to `max`.
    /// Default: 50 ms and 2 s.
    #[must_use]
    pub fn reconnect_backoff(mut self, base: Duration, max: Duration) -> Self {
        self.backoff_base = base;
        self.backoff_max = max;
        self
    }

    /// Sets whether a new connection is used only once the server has loaded its data and
    /// accepts writes. Default: on.
    #[must_use]
    pub fn ready_check(mut self, on: bool) -> Self {
        self.ready_check = on;
        self
    }

    /// Makes an evicting memory policy an error instead of a warning. Default: off.
    #[must_use]
    pub fn strict_eviction(mut self, on: bool) -> Self {
        self.strict_eviction = on;
        self
    }

    /// Leaves the server's version and memory policy unchecked. Default: off.
    #[must_use]
    pub fn skip_version_check(mut self, on: bool) -> Self {
        self.skip_version_check = on;
        self
    }

    /// Puts cached values on another server, which may evict. Default: the same server.
    #[must_use]
    pub fn cache(mut self, cache: Self) -> Self {
        self.cache = Some(Box::new(cache));
        self
    }

    /// Sets the user of the sentinels' access list. Default: none, their `default` user.
    #[must_use]
    pub fn sentinel_username(mut self, username: impl Into<String>) -> Self {
        self.sentinel_username = Some(username.into());
        self
    }

    /// Sets the password of the sentinels, which have no part of the server's. Default: none.
    #[must_use]
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_password = Some(Secret::new(password));
        self
    }

    /// Encrypts the connections to sentinels by options of their own; `None` leaves them plain. Default: as
    /// those to the server.
    #[must_use]
    pub fn sentinel_tls(mut self, options: impl Into<Option<TlsOptions>>) -> Self {
        self.sentinel_tls = match options.into() {
            Some(options) => SentinelTls::Own(options),
            None => SentinelTls::Plain,
        };
        self
    }

    /// Returns where the server is.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    fn standalone(&self) -> Option<&Address> {
        match &self.topology {
            Topology::Standalone(address) => Some(address),
            Topology::Sentinel { .. } | Topology::Cluster { .. } => None,
        }
    }

    /// Checks what can be checked without a connection.
    pub(super) fn validate(&self) -> Result<()> {
        let (field, addresses) = match &self.topology {
            Topology::Standalone(address) => ("host", std::slice::from_ref(address)),
            Topology::Sentinel { sentinels, .. } => ("sentinels", sentinels.as_slice()),
            Topology::Cluster { .. } if self.db != 0 => {
                return Err(Error::invalid("db", "must be 0: a cluster has no other"));
            }
            Topology::Cluster { nodes } => ("nodes", nodes.as_slice()),
        };
        if addresses.is_empty() || addresses.iter().any(|address| address.host.is_empty()) {
            return Err(Error::invalid(field, "is empty"));
        }
        for (field, value) in [
            ("connect_timeout", self.connect_timeout),
            ("command_deadline", self.command_deadline),
            ("start_deadline", self.start_deadline),
        ] {
            if value.is_zero() {
                return Err(Error::invalid(field, "must be longer than zero"));
            }
        }
        if self.username.is_some() && self.password.is_none() {
            return Err(Error::invalid("password", "is missing for the username"));
        }
        if self.sentinel_username.is_some() && self.sentinel_password.is_none() {
            let problem = "is missing for the username";
            return Err(Error::invalid("sentinel_password", problem));
        }
        Ok(())
    }

    /// Returns the longest wait before reconnect `n`, the first being 1.
    pub(super) fn backoff(&self, n: u32) -> Duration {
        self.backoff_base.saturating_mul(n).min(self.backoff_max)
    }
}

impl fmt::Display for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls.is_some() {
            "rediss"
        } else {
            "redis"
        })?;
        let (kind, nodes, service) = match &self.topology {
            Topology::Standalone(address) => ("", std::slice::from_ref(address), None),
            Topology::Sentinel { service, sentinels } => {
                ("+sentinel", sentinels.as_slice(), Some(service))
            }
            Topology::Cluster { nodes } => ("+cluster", nodes.as_slice(), None),
        };
        write!(f, "{kind}://")?;
        match (&self.username, &self.password) {
            (Some(user), Some(_)) => write!(f, "{user}:***@")?,
            (None, Some(_)) => f.write_str("***@")?,
            (Some(user), None) => write!(f, "{user}@")?,
            (None, None) => {}
        }
        for (index, node) in nodes.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{node}")?;
        }
        if let Some(service) = service {
            write!(f, "/{service}")?;
        }
        write!(f, "/{}", self.db)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_by_its_base_up_to_its_maximum() {
        let config = ClientConfig::new();
        let millis: Vec<_> = [1, 2, 3, 39, 40, 41, u32::MAX]
            .map(|n| config.backoff(n).as_millis())
            .to_vec();
        assert_eq!(millis, [50, 100, 150, 1950, 2000, 2000, 2000]);
    }

    #[test]
    fn secrets_appear_in_no_form() {
        let config = ClientConfig::new()
            .username("app")
            .password("hunter2")
            .tls(TlsOptions::new().client_pem("CERT", "hunter2"))
            .sentinel_password("hunter2")
            .cache(ClientConfig::new().password("hunter2"));
        let shown = format!("{config:?} {config:#?} {config}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
