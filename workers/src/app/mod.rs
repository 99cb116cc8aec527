//! What the three worker programs share: settings, logging, start and stop.

mod health;
mod logging;
mod run;
mod settings;

pub use logging::{LogFormat, init_logging};
pub use run::{StartError, connect, exit_code, listen, run_beside, run_to_end, worker};
pub use settings::{GraphSettings, ReadSettings, RedisSettings, WorkerSettings};
