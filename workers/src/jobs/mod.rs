//! The work of each queue: the job's data and result, and the function that does it.
//!
//! The functions know the Graph API and a small trait for what they remember; the handlers beside
//! them connect these to a job and its queue.

pub mod analytics_refresh;
pub mod post_publishing;
pub mod reaction;
pub mod webhook_processing;

/// The error of what a job's work is connected to: its own storage, the cache, the claims.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
