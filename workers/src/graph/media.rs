//! Publishing: containers, their status, publication, and what is published.

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use super::{AccountApi, ApiError, ContainerId, GraphError, MediaId};

/// The API's time format, such as `2026-03-01T12:00:00+0000`.
const TIME: &str = "%Y-%m-%dT%H:%M:%S%z";

/// A container to create: a post, or one child of a carousel. The API downloads the media itself,
/// from public URLs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewContainer {
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    video_url: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_carousel_item: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<ContainerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alt_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cover_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thumb_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_to_feed: Option<bool>,
}

impl NewContainer {
    /// One image in the feed.
    pub fn image(url: impl Into<String>) -> Self {
        Self {
            image_url: Some(url.into()),
            ..Self::default()
        }
    }

    /// A video that is to be a child of a carousel; a video of its own is a [`reel`](Self::reel).
    pub fn video(url: impl Into<String>) -> Self {
        Self {
            media_type: Some("VIDEO"),
            video_url: Some(url.into()),
            ..Self::default()
        }
    }

    /// A reel.
    pub fn reel(url: impl Into<String>) -> Self {
        Self {
            media_type: Some("REELS"),
            video_url: Some(url.into()),
            ..Self::default()
        }
    }

    /// A carousel of 2 to 10 finished containers, in this order.
    pub fn carousel(children: Vec<ContainerId>) -> Self {
        Self {
            media_type: Some("CAROUSEL"),
            children,
            ..Self::default()
        }
    }

    /// Makes it a story.
    #[must_use]
    pub fn story(mut self) -> Self {
        self.media_type = Some("STORIES");
        self
    }

    /// Makes it a child of a carousel.
    #[must_use]
    pub fn in_carousel(mut self) -> Self {
        self.is_carousel_item = true;
        self
    }

    /// Sets the caption.
    #[must_use]
    pub fn caption(mut self, caption: Option<String>) -> Self {
        self.caption = caption;
        self
    }

    /// Sets the text read to people who do not see the image.
    #[must_use]
    pub fn alt_text(mut self, alt_text: Option<String>) -> Self {
        self.alt_text = alt_text;
        self
    }

    /// Sets the image that a reel shows before it is played.
    #[must_use]
    pub fn cover(mut self, url: Option<String>) -> Self {
        self.cover_url = url;
        self
    }

    /// Sets which frame a reel shows before it is played, in milliseconds from its start.
    #[must_use]
    pub fn thumb_offset(mut self, millis: Option<u64>) -> Self {
        self.thumb_offset = millis;
        self
    }

    /// Whether a reel is shown in the feed too.
    #[must_use]
    pub fn share_to_feed(mut self, share: Option<bool>) -> Self {
        self.share_to_feed = share;
        self
    }
}

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ContainerState {
    /// The API still downloads or converts the media.
    InProgress,
    /// Ready to be published.
    Finished,
    /// Published already.
    Published,
    /// The media cannot be published.
    Error,
    /// Not published within 24 hours; a new container is needed.
    Expired,
}

/// A container's state and the API's text about it.
#[derive(Debug, Clone, Deserialize)]
pub struct ContainerStatus {
    /// How far it is.
    #[serde(rename = "status_code")]
    pub state: ContainerState,
    /// The API's text; for an error it names the subcode.
    #[serde(default)]
    pub status: Option<String>,
}

impl ContainerStatus {
    /// The failure that a container in [`ContainerState::Error`] reports.
    pub fn error(&self) -> ApiError {
        let text = self.status.as_deref().unwrap_or_default();
        ApiError::of_container(subcode_in(text), text)
    }
}

/// Finds the subcode in texts such as `Error: Media upload has failed with error code 2207053`.
fn subcode_in(text: &str) -> Option<i64> {
    text.split(|character: char| !character.is_ascii_digit())
        .find(|digits| digits.len() == 7)
        .and_then(|digits| digits.parse().ok())
}

/// A published post.
#[derive(Debug, Clone, Deserialize)]
pub struct Media {
    /// Its id.
    pub id: MediaId,
    /// Its address for people.
    #[serde(default)]
    pub permalink: Option<String>,
    /// Its caption.
    #[serde(default)]
    pub caption: Option<String>,
    /// When it was published, ISO 8601.
    #[serde(default)]
    pub timestamp: Option<String>,
}

impl Media {
    /// When it was published, in milliseconds since 1970; `None` when the API did not return it.
    pub fn published_at(&self) -> Option<i64> {
        let text = self.timestamp.as_deref()?;
        let time = DateTime::parse_from_str(text, TIME)
            .or_else(|_| DateTime::parse_from_rfc3339(text))
            .ok()?;
        Some(time.timestamp_millis())
    }
}

/// How many posts an account may publish through the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishingQuota {
    /// Posts published in the quota's window, which is 24 hours.
    pub used: u64,
    /// Posts allowed in it; `None` when the API did not return it.
    pub total: Option<u64>,
}

impl PublishingQuota {
    /// Whether the quota is used up.
    pub fn is_used_up(self) -> bool {
        self.total.is_some_and(|total| self.used >= total)
    }
}

#[derive(Deserialize)]
struct Quota {
    #[serde(default)]
    quota_usage: u64,
    config: Option<QuotaConfig>,
}

#[derive(Deserialize)]
struct QuotaConfig {
    quota_total: Option<u64>,
}

#[derive(Deserialize)]
struct Created<I> {
    id: I,
}

#[derive(Deserialize)]
struct Page<T> {
    data: Vec<T>,
}

#[derive(Serialize)]
struct Publication<'a> {
    creation_id: &'a ContainerId,
}

/// What is read of a published post.
const MEDIA_FIELDS: (&str, &str) = ("fields", "id,permalink,caption,timestamp");

impl AccountApi<'_> {
    /// Creates a container; nothing is visible until it is published. Repeating it makes another
    /// container, of which an account may make 400 in 24 hours. The API fetches the media meanwhile, so this
    /// request may take four times as long as others, 60 s by default.
    ///
    /// # Errors
    /// Any [`GraphError`]; [`GraphError::failure`] classifies it.
    pub async fn create_container(
        &self,
        container: &NewContainer,
    ) -> Result<ContainerId, GraphError> {
        let path = [self.id().as_str(), "media"];
        let created: Created<_> = self.create("create_container", &path, container).await?;
        Ok(created.id)
    }

    /// Reads how far a container is.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn container_status(
        &self,
        container: &ContainerId,
    ) -> Result<ContainerStatus, GraphError> {
        self.read(
            "container_status",
            &[container.as_str()],
            &[("fields", "status_code,status")],
        )
        .await
    }

    /// Publishes a finished container. After an error whose [`GraphError::is_ambiguous`] holds the
    /// post may be visible: read the container's status before asking again.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn publish(&self, container: &ContainerId) -> Result<MediaId, GraphError> {
        let path = [self.id().as_str(), "media_publish"];
        let publication = Publication {
            creation_id: container,
        };
        let created: Created<_> = self.write("publish", &path, &publication).await?;
        Ok(created.id)
    }

    /// Reads how much of the account's publishing quota is used.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn publishing_quota(&self) -> Result<PublishingQuota, GraphError> {
        let page: Page<Quota> = self
            .read(
                "publishing_quota",
                &[self.id().as_str(), "content_publishing_limit"],
                &[("fields", "quota_usage,config")],
            )
            .await?;
        let quota = page.data.into_iter().next();
        Ok(PublishingQuota {
            used: quota.as_ref().map_or(0, |quota| quota.quota_usage),
            total: quota
                .and_then(|quota| quota.config)
                .and_then(|config| config.quota_total),
        })
    }

    /// Reads a published post with its permalink.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn media(&self, media: &MediaId) -> Result<Media, GraphError> {
        self.read("permalink", &[media.as_str()], &[MEDIA_FIELDS])
            .await
    }

    /// Reads the account's latest posts and reels, newest first, at most 25.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn recent_media(&self) -> Result<Vec<Media>, GraphError> {
        self.latest("recent_media", "media").await
    }

    /// Reads the account's stories of the last 24 hours, newest first, at most 25.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn recent_stories(&self) -> Result<Vec<Media>, GraphError> {
        self.latest("recent_stories", "stories").await
    }

    async fn latest(&self, operation: &'static str, edge: &str) -> Result<Vec<Media>, GraphError> {
        let path = [self.id().as_str(), edge];
        let query = [MEDIA_FIELDS, ("limit", "25")];
        let page: Page<Media> = self.read(operation, &path, &query).await?;
        Ok(page.data)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::graph::Failure;

    fn failed(text: &str) -> ApiError {
        ContainerStatus {
            state: ContainerState::Error,
            status: Some(text.to_owned()),
        }
        .error()
    }

    /// A container's failure comes as text; its subcode decides whether trying again helps.
    #[test]
    fn failed_containers_are_sorted_by_the_subcode_in_their_text() {
        let upload = failed("Error: Media upload has failed with error code 2207053");
        assert_eq!(
            (upload.subcode, upload.failure),
            (Some(2_207_053), Failure::Transient)
        );
        let format = failed("Error: 2207005 image format is not supported");
        assert_eq!(format.failure, Failure::Permanent);
        assert_eq!(failed("Error").failure, Failure::Unclassified);
    }

    /// The API distinguishes kinds of containers by these fields alone.
    #[test]
    fn containers_have_the_fields_of_their_kind() {
        let child = ContainerId::new("17").unwrap();
        let form = |container: NewContainer| serde_json::to_value(container).unwrap();
        assert_eq!(
            form(NewContainer::image("i").caption(Some("c".to_owned()))),
            json!({ "image_url": "i", "caption": "c" })
        );
        assert_eq!(
            form(NewContainer::video("v").in_carousel()),
            json!({ "media_type": "VIDEO", "video_url": "v", "is_carousel_item": true })
        );
        assert_eq!(
            form(NewContainer::carousel(vec![child])),
            json!({ "media_type": "CAROUSEL", "children": ["17"] })
        );
        assert_eq!(
            form(NewContainer::reel("v").share_to_feed(Some(false))),
            json!({ "media_type": "REELS", "video_url": "v", "share_to_feed": false })
        );
        assert_eq!(
            form(NewContainer::image("i").story()),
            json!({ "media_type": "STORIES", "image_url": "i" })
        );
    }

    /// A post is recognised by when it was published, so both of the API's forms must be read.
    #[test]
    fn publication_times_are_read_in_both_forms() {
        let media = |timestamp: &str| Media {
            id: MediaId::new("1").unwrap(),
            permalink: None,
            caption: None,
            timestamp: Some(timestamp.to_owned()),
        };
        let expected = Some(1_772_366_400_000);
        assert_eq!(media("2026-03-01T12:00:00+0000").published_at(), expected);
        assert_eq!(media("2026-03-01T13:00:00+01:00").published_at(), expected);
        assert_eq!(media("soon").published_at(), None);
    }
}
