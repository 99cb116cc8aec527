//! Parity: the same steps taken by BullMQ for Node and by this library leave the same keys.
//!
//! A scenario is a plain async function over a [`driver::Driver`]. It runs with several assignments of roles:
//! BullMQ alone (the reference), this library alone, and both mixed within one queue. Replies and
//! snapshots of all keys must be equal. `README.md` maps transitions to scenarios.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod differences;
mod driver;
mod fixture;
mod guide;
mod many;
mod node;
mod ox;
mod random;
mod roles;
mod scenarios;
mod slots;
mod snapshot;
mod step;
mod table;
