//! Publishing: containers, their status, publication, and what is published.

use serde::{Deserialize, Serialize};

use super::{AccountApi, ApiError, ContainerId, GraphError, MediaId};

/// An image to publish.
#[derive(Debug, Clone, Serialize)]
pub struct NewImage {
    image_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    caption: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alt_text: Option<String>,
}

impl NewImage {
    /// An image by its public URL, from which the API downloads it.
    pub fn new(image_url: impl Into<String>) -> Self {
        Self {
            image_url: image_url.into(),
            caption: None,
            alt_text: None,
        }
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

/// A container's state and what the API says about it.
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
        let text = self.status.clone().unwrap_or_default();
        ApiError::of_container(subcode_in(&text), text)
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

impl AccountApi<'_> {
    /// Creates a container for an image; nothing is visible until it is published. Repeating it
    /// makes another container, which is harmless: unpublished ones expire after 24 hours.
    ///
    /// # Errors
    /// Any [`GraphError`]; [`GraphError::failure`] says what to do.
    pub async fn create_image_container(
        &self,
        image: &NewImage,
    ) -> Result<ContainerId, GraphError> {
        let created: Created<_> = self
            .write("create_container", &[self.id().as_str(), "media"], image)
            .await?;
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
        let created: Created<_> = self
            .write(
                "publish",
                &[self.id().as_str(), "media_publish"],
                &Publication {
                    creation_id: container,
                },
            )
            .await?;
        Ok(created.id)
    }

    /// Reads a published post with its permalink.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn media(&self, media: &MediaId) -> Result<Media, GraphError> {
        self.read(
            "permalink",
            &[media.as_str()],
            &[("fields", "id,permalink,caption,timestamp")],
        )
        .await
    }

    /// Reads the account's latest posts, newest first, at most 25.
    ///
    /// # Errors
    /// Any [`GraphError`].
    pub async fn recent_media(&self) -> Result<Vec<Media>, GraphError> {
        let page: Page<Media> = self
            .read(
                "recent_media",
                &[self.id().as_str(), "media"],
                &[
                    ("fields", "id,permalink,caption,timestamp"),
                    ("limit", "25"),
                ],
            )
            .await?;
        Ok(page.data)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(failed("Error").failure, Failure::Permanent);
    }
}
