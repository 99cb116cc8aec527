//! What the three worker programs share: settings, logging, start and stop.

mod health;
mod logging;
mod run;
mod settings;

pub use health::HealthSettings;
pub use logging::{LogFormat, init_logging};
pub use run::{Program, StartError, exit_code, listen, settings};
pub use settings::{GraphSettings, ReadSettings, RedisSettings, WorkerSettings};
