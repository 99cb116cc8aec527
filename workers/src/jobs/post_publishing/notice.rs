//! Notices to users about their posts.

use serde::{Deserialize, Serialize};

use super::PublishedPost;
use crate::graph::{MediaId, Remedy};

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
    /// Change the post: its media or text is refused. Or the account is restricted, as the reason then says:
    /// its owner signs in to the Instagram app and does what it asks for.
    Refused,
    /// Connect the account again: its access has expired, or it or a permission was revoked.
    Reconnect,
    /// Try again later: the API's limits left no room in time.
    Limited,
    /// Try again later: the service did not work, or refused the post with an error that nothing documents.
    Unavailable,
    /// Look at the account: the post may be public, and could not be found there by the API. Publish it again
    /// only if it is not.
    InDoubt,
}

impl NoticeCode {
    /// The code of a remedy.
    pub(super) fn of(remedy: Remedy) -> Self {
        match remedy {
            Remedy::Reconnect | Remedy::GrantPermission | Remedy::CheckAccount => Self::Reconnect,
            Remedy::ChangePost | Remedy::OpenInstagram | Remedy::LeaveOut => Self::Refused,
            Remedy::CheckApplication => Self::Unavailable,
        }
    }
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
