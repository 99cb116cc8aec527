//! Job schedulers: jobs that repeat in time.

mod local_zone;
mod preview;
