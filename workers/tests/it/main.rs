//! Behaviour of the workers' work against the simulated Graph API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that panics fails its test"
)]

mod containers;
mod cooldowns;
mod crashes;
mod deliveries;
mod event_shapes;
mod gateway;
mod graph;
mod health;
mod help;
mod http;
mod named;
mod outage;
mod posts;
mod publishers;
mod publishing;
mod refreshers;
mod refreshing;
mod schedules;
mod support;
mod tokens;
mod traffic;
