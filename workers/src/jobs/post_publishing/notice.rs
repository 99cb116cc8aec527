//! Notices to users about their posts.

use serde::{Deserialize, Serialize};

use super::PublishedPost;
use crate::graph::MediaId;

/// The message on a user's channel once a post is published or has failed for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum PostNotice {
    /// The post is public.
    #[serde(rename = "post.published", rename_all = "camelCase")]
    Published {
        /// The backend's id of the post.
        post_id: String,
        /// The account it is on.
        account_id: String,
        /// The API's id; null when it is unknown.
        media_id: Option<MediaId>,
        /// Its public URL; null when it is unknown.
        permalink: Option<String>,
        /// When it was known, milliseconds since 1970.
        at: i64,
    },
    /// The post is not published, and no retry is scheduled.
    #[serde(rename = "post.failed", rename_all = "camelCase")]
    Failed {
        /// The backend's id of the post; null when the job's data does not contain it.
        post_id: Option<String>,
        /// The account it was for; null when the job's data does not contain it.
        account_id: Option<String>,
        /// What the user can do about it.
        code: NoticeCode,
        /// The reason, as the job keeps it.
        reason: String,
        /// When it failed, milliseconds since 1970.
        at: i64,
    },
}

/// Why a post failed, by what its user can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NoticeCode {
    /// Change the post: its media or text is refused, or the account may not publish it.
    Refused,
    /// Connect the account again: its access has expired or was revoked.
    Reconnect,
    /// Try again later: the API's limits left no room in time.
    Limited,
    /// Try again later: the service did not work.
    Unavailable,
}

impl PostNotice {
    /// The notice of a published post.
    pub(super) fn published(account_id: String, post: &PublishedPost, at: i64) -> Self {
        Self::Published {
            post_id: post.post_id.clone(),
            account_id,
            media_id: post.media_id.clone(),
            permalink: post.permalink.clone(),
            at,
        }
    }
}
