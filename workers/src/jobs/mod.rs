//! The work of each queue: the job's data and result, and the function that does it.
//!
//! The functions know the Graph API and a small trait for what they remember; the handlers beside
//! them connect these to a job and its queue.

#[cfg(feature = "analytics")]
pub mod analytics_refresh;
#[cfg(feature = "post-publishing")]
pub mod post_publishing;
#[cfg(any(
    feature = "analytics",
    feature = "post-publishing",
    feature = "webhooks"
))]
mod redis_failure;
#[cfg(feature = "schemas")]
pub mod schemas;
#[cfg(feature = "webhooks")]
pub mod webhook_processing;

pub use oxbull::BoxError;
