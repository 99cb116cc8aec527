//! Layers for HTTP services: a response cache and a rate limit, kept in Redis and shared by all
//! processes.
//!
//! They are [`tower`] layers over [`http`] requests, for axum and everything else that speaks
//! these types. Neither reads anything of a request but its head, and neither waits long for
//! Redis: what a broken or slow server means is each layer's own choice.
//!
//! The user of a request is found by a function of the application, such as one that reads the
//! verified session from the request's extensions. A header that clients can set themselves does
//! not identify a user. Addresses are written as ids with [`escape_id`](crate::kv::escape_id).
//!
//! In axum, put the rate limit around the cache (add it later), so that a hit counts too and no
//! stored response carries another request's limits.

mod body;
mod bounded;
#[cfg(feature = "http-cache")]
mod cache;
#[cfg(feature = "http-rate-limit")]
mod rate_limit;

use std::sync::Arc;

use http::request::Parts;

pub use body::LayerBody;
#[cfg(feature = "http-cache")]
pub use cache::{CacheLayer, CacheOptions, CacheService, CacheStats, CacheTags};
#[cfg(feature = "http-rate-limit")]
pub use rate_limit::{OnFailure, RateLimitLayer, RateLimitService, RateLimitStats};

/// Reads something from the head of a request.
type Extract<T> = Arc<dyn Fn(&Parts) -> T + Send + Sync>;

/// The user id of anonymous requests.
const ANONYMOUS: &str = "anonymous";
