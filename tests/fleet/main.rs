//! Mixed fleets: BullMQ for Node.js and this library on the same queues, at the same time.
//!
//! Effects are counted in a Redis hash outside the queue, by handlers of both kinds, so that what
//! was run is known exactly, whatever became of the jobs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod deduplicating;
mod events;
mod fleet;
mod flow_adds;
mod flows;
mod limits;
mod load;
mod mixed;
mod operating;
mod schedules;
mod views;
mod windows;
