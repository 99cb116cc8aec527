//! The work of each queue: the job's data and result, and the function that does it.
//!
//! The functions know the Graph API and a small trait for what they remember; the handlers beside
//! them connect these to a job and its queue.

pub mod analytics_refresh;
pub mod post_publishing;
pub mod reaction;
pub mod schemas;
pub mod webhook_processing;

pub use oxbull::BoxError;
