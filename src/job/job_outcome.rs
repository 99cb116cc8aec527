//! How a job ended.

use serde::{Deserialize, Serialize};

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum JobOutcome<R> {
    /// It completed with this result.
    Completed(R),
    /// It failed for good.
    Failed {
        /// Why.
        #[serde(rename = "failedReason")]
        reason: String,
    },
}
