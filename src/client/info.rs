//! What a server says about itself, and whether it can hold queues.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::config::Topology;
use crate::error::Error;

/// The implementation behind a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Flavor {
    /// Redis itself, and servers that do not name themselves.
    Redis,
    /// Valkey.
    Valkey,
    /// Dragonfly.
    Dragonfly,
}

/// A server's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
    /// The third number.
    pub patch: u32,
}

impl Version {
    /// Builds a version.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            major,
            minor,
            patch,
        }
    }

    /// Reads `8.0.10`, with or without a prefix such as `v` or `df-v` and a suffix.
    fn parse(text: &str) -> Option<Self> {
        let start = text.find(|c: char| c.is_ascii_digit())?;
        let mut parts = text
            .get(start..)?
            .split(|c: char| !c.is_ascii_digit())
            .map(|part| part.parse().unwrap_or(0));
        Some(Self::new(
            parts.next()?,
            parts.next().unwrap_or(0),
            parts.next().unwrap_or(0),
        ))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A server's role in replication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Role {
    /// Accepts writes.
    Primary,
    /// Follows another server and refuses writes.
    Replica,
}

/// What a server is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Mode {
    /// It holds all keys, alone or with replicas.
    Standalone,
    /// It is a node of a cluster, and holds the keys of some slots.
    Cluster,
    /// It watches other servers and holds no data.
    Sentinel,
}

/// What a server said at connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ServerInfo {
    /// The implementation.
    pub flavor: Flavor,
    /// The implementation's version.
    pub version: Version,
    /// What it does when memory is full; `None` when it does not say.
    pub eviction_policy: Option<String>,
    /// Whether it writes an append-only file; `None` when it does not say.
    pub append_only: Option<bool>,
    /// Its role in replication.
    pub role: Role,
    /// Whether it is still reading its data set from disk.
    pub loading: bool,
    /// What it is part of.
    pub mode: Mode,
}

/// What to do where the configuration means a cluster, and the server is none.
pub(super) const NO_CLUSTER: &str =
    "it is not part of a cluster; write redis:// instead of redis+cluster://";
/// The version assumed of a server that may not be asked.
const UNASKED: Version = Version::new(5, 0, 0);
/// Older servers lack what the scripts need.
const MINIMUM: Version = Version::new(5, 0, 0);
/// Older servers work, with known weaknesses.
const RECOMMENDED: Version = Version::new(6, 2, 0);

impl ServerInfo {
    /// What is assumed when INFO may not be used: the least able server.
    pub(super) fn unknown() -> Self {
        Self {
            flavor: Flavor::Redis,
            version: UNASKED,
            eviction_policy: None,
            append_only: None,
            role: Role::Primary,
            loading: false,
            mode: Mode::Standalone,
        }
    }

    /// Reads the text of INFO; fields it lacks stay unknown.
    pub(super) fn parse(text: &str) -> Self {
        let field = |name: &str| {
            text.lines().find_map(|line| {
                line.strip_prefix(name)
                    .and_then(|rest| rest.strip_prefix(':'))
                    .map(str::trim)
            })
        };
        let version = |name| field(name).and_then(Version::parse);
        let (flavor, version) = if let Some(found) = version("valkey_version") {
            (Flavor::Valkey, found)
        } else if let Some(found) = version("dragonfly_version") {
            (Flavor::Dragonfly, found)
        } else {
            let found = version("redis_version").or_else(|| {
                text.lines()
                    .find_map(|line| line.split_once("version:"))
                    .and_then(|(_, found)| Version::parse(found))
            });
            (Flavor::Redis, found.unwrap_or(UNASKED))
        };
        Self {
            flavor,
            version,
            eviction_policy: field("maxmemory_policy").map(str::to_owned),
            append_only: field("aof_enabled").map(|value| value == "1"),
            role: if field("role") == Some("slave") {
                Role::Replica
            } else {
                Role::Primary
            },
            loading: field("loading") == Some("1"),
            // Valkey's name for it is the second.
            mode: match field("redis_mode").or_else(|| field("server_mode")) {
                Some("sentinel") => Mode::Sentinel,
                Some("cluster") => Mode::Cluster,
                _ if field("cluster_enabled") == Some("1") => Mode::Cluster,
                _ => Mode::Standalone,
            },
        }
    }

    /// Refuses a server that is part of something else than the configuration says.
    ///
    /// # Errors
    /// [`Error::Unsuitable`], with what to write instead.
    pub(super) fn check_mode(&self, topology: &Topology) -> Result<(), Error> {
        let text = match (self.mode, topology) {
            (Mode::Sentinel, Topology::Standalone(_)) => {
                "it is a sentinel; write redis+sentinel://, with the name of its service behind the \
                 address, or connect to the server that it watches"
            }
            (Mode::Sentinel, _) => "it is a sentinel and holds no keys",
            // What calls itself so there has all keys on one node.
            (Mode::Cluster, _) if self.flavor == Flavor::Dragonfly => return Ok(()),
            (Mode::Cluster, Topology::Standalone(_)) => {
                "it is a node of a cluster; write redis+cluster:// instead of redis://"
            }
            (Mode::Cluster, Topology::Sentinel { .. }) => {
                "it is a node of a cluster, which has no sentinels; write redis+cluster://"
            }
            (Mode::Standalone, Topology::Cluster { .. }) => NO_CLUSTER,
            (Mode::Standalone, _) | (Mode::Cluster, Topology::Cluster { .. }) => return Ok(()),
        };
        Err(Error::Unsuitable(text.to_owned()))
    }

    /// Refuses a server whose scripts or commands are too old.
    ///
    /// # Errors
    /// [`Error::Unsuitable`], naming the version.
    pub(super) fn check_version(&self) -> Result<(), Error> {
        if self.flavor == Flavor::Redis && self.version < MINIMUM {
            return Err(Error::Unsuitable(format!(
                "version {} is too old, at least {MINIMUM} is needed",
                self.version
            )));
        }
        Ok(())
    }

    /// Returns whether an upgrade is advisable.
    pub(super) fn is_dated(&self) -> bool {
        self.flavor == Flavor::Redis && self.version < RECOMMENDED
    }

    /// Returns the policy under which this server may drop queue keys.
    pub(super) fn evicts(&self) -> Option<&str> {
        self.eviction_policy
            .as_deref()
            .filter(|policy| *policy != "noeviction")
    }

    /// Rounds a blocking read's `timeout` to what this server accepts, never to zero, which
    /// would block forever.
    pub(super) fn block_timeout(&self, timeout: Duration) -> Duration {
        let redis = self.flavor == Flavor::Redis;
        if redis && self.version < Version::new(6, 0, 0) {
            let whole = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
            return Duration::from_secs(whole.max(1));
        }
        let least = if redis && self.version < Version::new(7, 0, 8) {
            2
        } else {
            1
        };
        let millis = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(millis.max(least))
    }
}

/// Writes a timeout as decimal seconds with at most three places.
pub(super) fn seconds(timeout: Duration) -> String {
    let text = format!("{}.{:03}", timeout.as_secs(), timeout.subsec_millis());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(version: &str) -> ServerInfo {
        ServerInfo::parse(&format!("# Server\r\nredis_version:{version}\r\n"))
    }

    #[test]
    fn flavors_are_told_apart_by_their_own_version_line() {
        let valkey = ServerInfo::parse("redis_version:7.2.4\r\nvalkey_version:8.0.10\r\n");
        assert_eq!(valkey.flavor, Flavor::Valkey);
        assert_eq!(valkey.version, Version::new(8, 0, 10));
        let dragonfly = ServerInfo::parse("redis_version:2.0.15\ndragonfly_version:df-v1.0.0\n");
        assert_eq!(dragonfly.flavor, Flavor::Dragonfly);
        assert!(dragonfly.check_version().is_ok());
        assert!(!dragonfly.is_dated());
        let other = ServerInfo::parse("some_version:6.3.1\n");
        assert_eq!(other.version, Version::new(6, 3, 1));
    }

    #[test]
    fn version_thresholds_are_those_of_the_protocol() {
        assert!(redis("4.0.14").check_version().is_err());
        assert!(redis("5.0.0").check_version().is_ok());
        assert!(redis("6.0.16").is_dated());
        assert!(!redis("6.2.0").is_dated());
    }

    #[test]
    fn block_timeouts_follow_the_server_version() {
        let ms = Duration::from_millis;
        let text = |info: &ServerInfo, wait| seconds(info.block_timeout(wait));
        assert_eq!(text(&redis("5.0.14"), ms(1_300)), "2");
        assert_eq!(text(&redis("5.0.14"), ms(0)), "1");
        assert_eq!(text(&redis("6.0.16"), ms(1_300)), "1.3");
        assert_eq!(text(&redis("6.2.14"), ms(1)), "0.002");
        assert_eq!(text(&redis("7.0.7"), ms(0)), "0.002");
        assert_eq!(text(&redis("7.0.15"), ms(0)), "0.001");
        assert_eq!(text(&redis("7.0.15"), ms(10_000)), "10");
        let valkey = ServerInfo::parse("valkey_version:8.0.10");
        assert_eq!(text(&valkey, ms(1_500)), "1.5");
        assert_eq!(text(&valkey, ms(1)), "0.001");
        assert_eq!(text(&ServerInfo::unknown(), ms(1)), "1");
    }

    /// Redis and Valkey name the mode differently, and Dragonfly's emulation of a cluster is one server.
    #[test]
    fn modes_are_refused_where_they_are_not_meant() {
        let at = super::super::Address {
            host: "h".to_owned(),
            port: 7,
        };
        let standalone = Topology::Standalone(at.clone());
        let cluster = Topology::Cluster { nodes: vec![at] };
        for (info, alone, clustered) in [
            (
                "redis_version:7.0.15\r\nredis_mode:standalone\r\n",
                true,
                false,
            ),
            (
                "valkey_version:9.1.2\r\nserver_mode:standalone\r\n",
                true,
                false,
            ),
            (
                "redis_version:7.0.15\r\nredis_mode:cluster\r\n",
                false,
                true,
            ),
            (
                "valkey_version:9.1.2\r\nserver_mode:cluster\r\n",
                false,
                true,
            ),
            ("redis_version:7.0.15\r\ncluster_enabled:1\r\n", false, true),
            (
                "redis_version:7.0.15\r\nredis_mode:sentinel\r\n",
                false,
                false,
            ),
            (
                "valkey_version:9.1.2\r\nserver_mode:sentinel\r\n",
                false,
                false,
            ),
            (
                "dragonfly_version:df-v1\r\nredis_mode:cluster\r\n",
                true,
                true,
            ),
        ] {
            let info_of = ServerInfo::parse(info);
            let fits = |topology| info_of.check_mode(topology).is_ok();
            assert_eq!(
                (fits(&standalone), fits(&cluster)),
                (alone, clustered),
                "{info}"
            );
        }
    }

    #[test]
    fn only_noeviction_keeps_queue_keys() {
        assert_eq!(
            ServerInfo::parse("maxmemory_policy:volatile-lru\r\n").evicts(),
            Some("volatile-lru")
        );
        assert_eq!(
            ServerInfo::parse("maxmemory_policy:noeviction\r\n").evicts(),
            None
        );
        assert_eq!(redis("7.0.0").evicts(), None);
    }
}
