//! Behaviour tests: one binary, a module per behaviour.

mod client;
mod events;
mod kv;
mod limits;
mod model;
mod operations;
mod queueing;
mod rivals;
mod settle_model;
mod stage;
mod tidy;
mod waiting;
mod working;
