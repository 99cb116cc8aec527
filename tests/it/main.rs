//! Behaviour tests: one binary, a module per behaviour.

mod client;
mod kv;
mod queueing;
mod settle_model;
mod stage;
mod tidy;
mod working;
