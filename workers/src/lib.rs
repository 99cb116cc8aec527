//! The background work of a social-selling platform on Instagram, built on oxbull's public API.
//!
//! - [`gateway`]: the HTTP side: webhook deliveries in, health and numbers out.
//! - [`graph`]: the Instagram Graph API: typed requests and failures.
//! - [`holds`]: when the API is to be left alone, known to all workers.
//! - [`notify`]: telling users what happened.
//! - [`simulator`]: a local stand-in for that API, which can be slow, fail and limit rates.
//! - [`jobs`]: per queue, the job's data and result and the work itself.
//! - [`meters`]: numbers of a program, for Prometheus.
//! - [`trouble`]: what a program cannot do at present.
//! - [`app`]: what the programs share: settings, logging, health, exit codes.

pub mod app;
pub mod gateway;
pub mod graph;
pub mod holds;
pub mod jobs;
pub mod meters;
pub mod notify;
mod serve;
pub mod simulator;
pub mod trouble;
mod writes;
