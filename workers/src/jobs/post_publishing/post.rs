//! A job's data and result.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Publication;
use crate::graph::{AccountId, ContainerId, MediaId};

/// A job's data: the post as the backend scheduled it, and how far its publication is.
///
/// Which media a post needs depends on its type; [`Plan::of`](super::Plan::of) checks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PostPublishing {
    /// The backend's id of the post.
    pub post_id: String,
    /// The user who scheduled it, and who receives the notice of its outcome.
    pub user_id: String,
    /// The account it is published on.
    pub account_id: AccountId,
    /// What kind of post it is; an image when absent.
    #[serde(default)]
    #[cfg_attr(feature = "schemas", schemars(with = "String", extend("enum" = MediaType::NAMES)))]
    pub media_type: MediaType,
    /// Public https URL of the image: of an image post or a story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Public https URL of the video: of a reel or a story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// The 2 to 10 images and videos of a carousel, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ChildMedia>,
    /// Caption below it; stories have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<String>,
    /// Text read to people who do not see the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_text: Option<String>,
    /// Public https URL of the image that a reel shows before it is played.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cover_url: Option<String>,
    /// Which frame a reel shows before it is played, in milliseconds from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumb_offset_ms: Option<u64>,
    /// Whether a reel is shown in the feed too; the API decides when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_to_feed: Option<bool>,
    /// Written by the worker: how far the publication is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<Publication>,
    /// What the backend added besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An image or a video of a carousel: exactly one of the URLs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChildMedia {
    /// Public https URL of an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<String>,
    /// Public https URL of a video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video_url: Option<String>,
    /// Text read to people who do not see the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt_text: Option<String>,
    /// What the backend added besides; kept as it is.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Kinds of posts, by the API's names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MediaType {
    /// One image in the feed.
    #[default]
    #[serde(alias = "FEED")]
    Image,
    /// 2 to 10 images and videos in the feed.
    #[serde(alias = "CAROUSEL_ALBUM")]
    Carousel,
    /// A video.
    #[serde(alias = "REEL")]
    Reels,
    /// An image or a video for 24 hours.
    #[serde(alias = "STORY")]
    Stories,
    /// A kind that this worker does not publish.
    #[serde(untagged)]
    Other(String),
}

#[cfg(feature = "schemas")]
impl MediaType {
    /// The names that are published.
    const NAMES: [&'static str; 8] = [
        "IMAGE",
        "FEED",
        "CAROUSEL",
        "CAROUSEL_ALBUM",
        "REELS",
        "REEL",
        "STORIES",
        "STORY",
    ];
}

/// A job's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PublishedPost {
    /// The backend's id of the post.
    pub post_id: String,
    /// The container it was published from.
    pub container_id: ContainerId,
    /// The API's id; null when the API's answer was lost and the post could not be identified.
    pub media_id: Option<MediaId>,
    /// Its public URL; null when the API did not return it in time.
    pub permalink: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs that are in Redis when a new worker starts must decode as they always did.
    #[test]
    fn job_with_an_image_url_alone_is_an_image() {
        let text = r#"{"postId":"p1","userId":"u1","accountId":"178","imageUrl":"https://x/a.jpg",
            "publication":{"containerId":"17","waits":2}}"#;
        let data: PostPublishing = serde_json::from_str(text).unwrap();
        assert_eq!(data.media_type, MediaType::Image);
        let publication = data.publication.unwrap();
        assert_eq!(publication.waits, 2);
        assert!(publication.container_id.is_some());
    }

    /// Updating a job's data must not drop what the backend put there.
    #[test]
    fn fields_of_the_backend_survive_a_round_trip() {
        let text = r#"{"postId":"p1","userId":"u1","accountId":"178","mediaType":"LIVE",
            "children":[{"videoUrl":"https://x/a.mp4","focus":[1,2]}],
            "publication":{"containerId":"17","waits":0,"by":"v9"},"campaign":{"id":7}}"#;
        let data: PostPublishing = serde_json::from_str(text).unwrap();
        assert_eq!(data.media_type, MediaType::Other("LIVE".to_owned()));
        let back = serde_json::to_value(&data).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(text).unwrap());
    }

    /// Backends name the kinds as the API does on either side of it.
    #[test]
    fn kinds_are_read_by_the_names_that_are_in_use() {
        for (name, kind) in [
            ("IMAGE", MediaType::Image),
            ("FEED", MediaType::Image),
            ("CAROUSEL", MediaType::Carousel),
            ("CAROUSEL_ALBUM", MediaType::Carousel),
            ("REELS", MediaType::Reels),
            ("REEL", MediaType::Reels),
            ("STORIES", MediaType::Stories),
            ("STORY", MediaType::Stories),
        ] {
            let read: MediaType = serde_json::from_value(name.into()).unwrap();
            assert_eq!(read, kind, "{name}");
            assert!(MediaType::NAMES.contains(&name), "{name}");
        }
    }
}
