//! Publishing a scheduled post. A retry never publishes twice: the container is written into the
//! job's data before anything is done with it, and its status tells whether it is published.

mod handler;
mod publish;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::graph::{AccountId, ContainerId, MediaId};

pub use handler::{Publisher, handle, options};
pub use publish::{Notebook, PublishError, PublishLimits, Step, publish};

/// The queue's name.
pub const QUEUE: &str = "post-publishing";

/// A job's data: the post as the backend scheduled it, and how far its publication is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PostPublishing {
    /// The backend's id of the post.
    pub post_id: String,
    /// The user who scheduled it.
    pub user_id: String,
    /// The account it is published on.
    pub account_id: AccountId,
    /// What kind of post it is; an image when absent.
    #[serde(default)]
    pub media_type: MediaType,
    /// Public URL of the image.
    pub image_url: String,
    /// Caption below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Text read to people who do not see the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_text: Option<String>,
    /// Written by the worker: how far the publication is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<Publication>,
    /// What the backend added besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Kinds of posts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MediaType {
    /// One image in the feed.
    #[default]
    Image,
    /// A kind that this worker does not publish.
    #[serde(untagged)]
    Other(String),
}

/// How far a publication is, remembered between the steps and attempts of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publication {
    /// The container made for the post.
    pub container_id: ContainerId,
    /// The post's id once it is published and known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<MediaId>,
    /// How often the job has waited in its present step.
    #[serde(default)]
    pub waits: u32,
}

/// A job's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PublishedPost {
    /// The backend's id of the post.
    pub post_id: String,
    /// The container it was published from.
    pub container_id: ContainerId,
    /// The API's id; null when the API never told it.
    pub media_id: Option<MediaId>,
    /// Address for people; null when the API did not tell it in time.
    pub permalink: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Updating a job's data must not drop what the backend put there.
    #[test]
    fn fields_of_the_backend_survive_a_round_trip() {
        let text = r#"{"postId":"p1","userId":"u1","accountId":"178","imageUrl":"https://x/a.jpg",
            "mediaType":"REELS","campaign":{"id":7}}"#;
        let data: PostPublishing = serde_json::from_str(text).unwrap();
        assert_eq!(data.media_type, MediaType::Other("REELS".to_owned()));
        let back = serde_json::to_value(&data).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
    }
}
