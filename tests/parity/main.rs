//! Parity: the same steps taken by BullMQ for Node and by this library leave the same keys.
//!
//! A scenario is a plain async function over a [`player::Player`]. It is played by several casts:
//! BullMQ alone (the reference), this library alone, and both mixed within one queue. Replies and
//! snapshots of all keys must be equal. `README.md` maps transitions to scenarios.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod cast;
mod differences;
mod driver;
mod node;
mod ox;
mod player;
mod random;
mod scenarios;
mod slots;
mod snapshot;
mod stage;
mod table;
