//! Notices to users about their accounts.

use serde::{Deserialize, Serialize};

/// The message on a user's channel when an account needs its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum AccountNotice {
    /// The account has to be connected again: its access has expired, or it or a
    /// permission was revoked.
    #[serde(rename = "account.reconnect", rename_all = "camelCase")]
    Reconnect {
        /// The account.
        account_id: String,
        /// The reason, as the job keeps it.
        reason: String,
        /// When it was found out, milliseconds since 1970.
        at: i64,
    },
}
