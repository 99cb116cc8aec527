//! What the programs share: settings, logging, start and stop, health, metrics.

mod health;
pub(crate) mod http_server;
mod logging;
pub(crate) mod metrics;
pub(crate) mod problems;
mod run;
mod settings;
pub(crate) mod write_probe;

pub use health::HealthSettings;
pub use logging::{LogFormat, init_logging};
pub use metrics::MetricsRegistry;
pub use problems::Problems;
pub use run::{Program, StartError, closed, command_settings, exit_code, listen, settings};
pub use settings::{RedisSettings, WorkerSettings};
