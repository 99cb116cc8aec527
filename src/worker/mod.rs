//! Working on a queue's jobs.

mod manual;
mod options;

pub use manual::{Availability, ManualWorker};
pub use options::{BackoffStrategy, ShutdownOptions};
