//! Operations: the files of `config` and `docker-compose.yml`, the roles of Redis, the manual in `docs`, and
//! the customer's acceptance list, all on real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a helper that panics fails its test"
)]

mod acceptance;
mod backend;
mod compose;
mod continuity;
mod dependencies;
mod deployment;
mod fixture;
mod graph_errors;
mod http;
mod kubernetes;
mod manual;
mod roles;
mod samples;

mod threats;
