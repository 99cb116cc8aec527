//! Behaviour tests: one binary, a module per behaviour.

mod attempts;
mod backlog;
mod budget;
mod children;
mod circles;
mod claims;
mod client;
mod deduplication;
mod dependencies;
mod documents;
mod ending;
mod events;
mod examples;
mod flow_adds;
#[cfg(feature = "http-cache")]
mod http_cache;
#[cfg(feature = "http-rate-limit")]
mod http_rate_limit;
mod inspect;
mod json;
mod kv;
#[cfg(any(feature = "sessions", feature = "oauth"))]
mod least;
mod lenient;
mod limits;
mod logs;
mod manifest;
mod many;
mod model;
#[cfg(feature = "oauth")]
mod oauth;
mod operations;
mod outcomes;
mod parents;
mod priorities;
mod queueing;
mod rate;
mod rivals;
mod schedulers;
#[cfg(feature = "sessions")]
mod sealing;
#[cfg(feature = "sessions")]
mod sessions;
mod settle_model;
mod spoiled;
mod stalling;
mod steering;
#[cfg(feature = "opentelemetry")]
mod telemetry;
mod testing;
mod tidy;
#[cfg(feature = "tower-sessions")]
mod tower_store;
#[cfg(feature = "encryption")]
mod vault;
mod waiting;
mod working;
