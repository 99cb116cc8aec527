//! What oxbull's tests run against: private Redis servers they may kill and freeze, a proxy that
//! loses replies on purpose, and peers written in Node.js.
//!
//! Nothing here depends on oxbull, so a bug in oxbull cannot hide itself in the tools that look
//! for it. Everything started here ends with the value that owns it, and also when the test
//! process is killed.

mod cluster;
mod error;
mod node;
mod proxy;
mod redis;
mod resp;
mod result;
mod sentinels;
mod wait;
mod watchdog;

pub use cluster::RedisCluster;
pub use error::{KitError, Result};
pub use node::{BullMq, NodePeer, NodePeerBuilder, PeerError, interop_dir};
pub use proxy::{Command, Direction, Proxy, ProxyStats, Rule, RuleHandle};
pub use redis::{RedisServer, RedisServerBuilder, TlsFiles};
pub use resp::{Connection, Value};
pub use result::TestResult;
pub use sentinels::SentinelGroup;
pub use wait::{DEADLINE, Progress, eventually, free_port, unique};
