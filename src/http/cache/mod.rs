//! A response cache in front of a service.

mod entry;
mod layer;
mod options;
mod remote;
mod rules;
mod service;
mod single_flight;
mod stats;

pub use layer::CacheLayer;
pub use options::CacheOptions;
pub use rules::CacheTags;
pub use service::CacheService;
pub use stats::CacheStats;
