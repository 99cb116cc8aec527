//! The background work of a social-selling platform on Instagram, built on oxbull's public API.
//!
//! - [`app`]: what the programs share: settings, logging, start and stop, health, metrics.
//! - [`graph`]: the Instagram Graph API: typed requests and failures, cooldowns.
//! - [`jobs`]: per queue, the job's data and result and the work itself.
//! - [`notify`]: notices to users.
//! - [`upkeep`]: what programs do beside their jobs for the accounts' tokens.
//! - [`gateway`]: the HTTP side: webhook deliveries in, health and numbers out.
//!
//! Each program has a Cargo feature of its name, so that it can be built with nothing but what it
//! needs; ARCHITECTURE.md beside this package's manifest has the map and the decisions.

pub mod app;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "graph")]
pub mod graph;
pub mod jobs;
pub mod notify;
#[cfg(feature = "graph")]
pub mod upkeep;
