//! The steps of a publication: container, status, publish, permalink.

use std::future::Future;

use oxbull::BoxError;

use super::{MediaType, PostPublishing, Publication, PublishedPost};
use crate::graph::{
    AccountApi, ApiError, ContainerId, ContainerState, Failure, GraphError, Media, NewImage,
};

/// Where a publication's progress is kept so that the next step or attempt finds it.
pub trait Notebook {
    /// Keeps the progress, replacing what was kept; `None` starts the publication over.
    fn keep(
        &self,
        progress: Option<&Publication>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;
}

/// How often a job waits for the API in one step before it gives up on it.
#[derive(Debug, Clone, Copy)]
pub struct PublishLimits {
    /// Waits for a container to be finished.
    pub container_waits: u32,
    /// Waits for a published post's permalink.
    pub permalink_waits: u32,
}

impl Default for PublishLimits {
    /// 60 waits for a container, 3 for a permalink.
    fn default() -> Self {
        Self {
            container_waits: 60,
            permalink_waits: 3,
        }
    }
}

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The post is published.
    Published(PublishedPost),
    /// The API is not ready; run again after the poll interval.
    Wait,
}

/// Why a post was not published by this attempt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A request failed.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The API cannot use the media.
    #[error("the media cannot be published")]
    Container(#[source] ApiError),
    /// The container was not published in time; the next attempt makes another.
    #[error("container {0} expired")]
    Expired(ContainerId),
    /// The container stayed in progress; the next attempt makes another.
    #[error("container {container} was not ready after {waits} polls")]
    NeverReady {
        /// The container.
        container: ContainerId,
        /// How often its status was read.
        waits: u32,
    },
    /// This worker does not publish such posts.
    #[error("posts of type {0} are not supported")]
    Unsupported(String),
    /// The progress could not be kept; nothing was published since.
    #[error("the progress could not be kept")]
    Notebook(#[source] BoxError),
}

impl PublishError {
    /// What to do about it.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Graph(error) => error.failure(),
            Self::Container(error) => error.failure,
            Self::Expired(_) | Self::NeverReady { .. } | Self::Notebook(_) => Failure::Transient,
            Self::Unsupported(_) => Failure::Permanent,
        }
    }
}

/// Takes a post as far as it goes without waiting.
///
/// Run it again after [`Step::Wait`], and for the next attempt after an error: it goes on where
/// `post.publication` says, so a post is published at most once whatever is repeated.
///
/// # Errors
/// [`PublishError`]; its [`failure`](PublishError::failure) says whether trying again helps.
pub async fn publish(
    api: AccountApi<'_>,
    post: &PostPublishing,
    notes: &impl Notebook,
    limits: PublishLimits,
) -> Result<Step, PublishError> {
    if let MediaType::Other(kind) = &post.media_type {
        return Err(PublishError::Unsupported(kind.clone()));
    }
    let run = Run {
        api,
        post,
        notes,
        limits,
    };
    let progress = match &post.publication {
        Some(progress) => progress.clone(),
        None => run.create().await?,
    };
    if progress.media_id.is_some() {
        return run.read_back(progress).await;
    }
    run.advance(progress).await
}

struct Run<'a, N> {
    api: AccountApi<'a>,
    post: &'a PostPublishing,
    notes: &'a N,
    limits: PublishLimits,
}

impl<N: Notebook> Run<'_, N> {
    async fn create(&self) -> Result<Publication, PublishError> {
        let image = NewImage::new(&self.post.image_url)
            .caption(self.post.caption.clone())
            .alt_text(self.post.alt_text.clone());
        let progress = Publication {
            container_id: self.api.create_image_container(&image).await?,
            media_id: None,
            waits: 0,
        };
        self.keep(Some(&progress)).await?;
        Ok(progress)
    }

    async fn advance(&self, progress: Publication) -> Result<Step, PublishError> {
        let container = &progress.container_id;
        let status = self.api.container_status(container).await?;
        match status.state {
            ContainerState::InProgress => self.wait_for_container(progress).await,
            ContainerState::Finished => self.make_public(progress).await,
            ContainerState::Published => self.find_published(progress).await,
            ContainerState::Error => {
                let error = status.error();
                if error.failure != Failure::Permanent {
                    self.keep(None).await?;
                }
                Err(PublishError::Container(error))
            }
            ContainerState::Expired => {
                self.keep(None).await?;
                Err(PublishError::Expired(container.clone()))
            }
        }
    }

    async fn wait_for_container(&self, progress: Publication) -> Result<Step, PublishError> {
        if progress.waits >= self.limits.container_waits {
            self.keep(None).await?;
            return Err(PublishError::NeverReady {
                container: progress.container_id,
                waits: progress.waits,
            });
        }
        self.wait(progress).await
    }

    async fn make_public(&self, mut progress: Publication) -> Result<Step, PublishError> {
        match self.api.publish(&progress.container_id).await {
            Ok(media) => {
                progress.media_id = Some(media);
                progress.waits = 0;
                // Published is published: should this fail, the container's status tells.
                if let Err(error) = self.keep(Some(&progress)).await {
                    tracing::warn!(%error, post = self.post.post_id, "published, but not noted");
                }
                self.read_back(progress).await
            }
            // The post may be visible, so only the container's status says how to go on. Waiting
            // for it uses no attempt: the last one must not fail a post that is published.
            Err(error) if error.is_ambiguous() => {
                if progress.waits >= self.limits.container_waits {
                    return Err(error.into());
                }
                self.wait(progress).await
            }
            Err(error) if error.failure() == Failure::Permanent => {
                let status = self.api.container_status(&progress.container_id).await?;
                if status.state == ContainerState::Published {
                    self.find_published(progress).await
                } else {
                    Err(error.into())
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The container is published and nobody noted as what, since an answer was lost: looks for
    /// the account's latest post with this caption.
    async fn find_published(&self, mut progress: Publication) -> Result<Step, PublishError> {
        if self.post.caption.is_none() {
            return Ok(self.published(&progress, None));
        }
        match self.api.recent_media().await {
            Ok(media) => {
                let found = media
                    .into_iter()
                    .find(|media| media.caption == self.post.caption);
                progress.media_id = found.as_ref().map(|media| media.id.clone());
                Ok(self.published(&progress, found))
            }
            Err(error) => self.wait_for_link(progress, &error).await,
        }
    }

    async fn read_back(&self, progress: Publication) -> Result<Step, PublishError> {
        let Some(media) = &progress.media_id else {
            return self.find_published(progress).await;
        };
        match self.api.media(media).await {
            Ok(media) => Ok(self.published(&progress, Some(media))),
            Err(error) => self.wait_for_link(progress, &error).await,
        }
    }

    /// A missing permalink never fails a post that is published.
    async fn wait_for_link(
        &self,
        progress: Publication,
        error: &GraphError,
    ) -> Result<Step, PublishError> {
        let passing = matches!(
            error.failure(),
            Failure::Transient | Failure::RateLimited { .. }
        );
        if passing && progress.waits < self.limits.permalink_waits {
            return self.wait(progress).await;
        }
        tracing::warn!(%error, post = self.post.post_id, "published; its permalink is unknown");
        Ok(self.published(&progress, None))
    }

    async fn wait(&self, mut progress: Publication) -> Result<Step, PublishError> {
        progress.waits += 1;
        self.keep(Some(&progress)).await?;
        Ok(Step::Wait)
    }

    async fn keep(&self, progress: Option<&Publication>) -> Result<(), PublishError> {
        self.notes
            .keep(progress)
            .await
            .map_err(PublishError::Notebook)
    }

    fn published(&self, progress: &Publication, media: Option<Media>) -> Step {
        Step::Published(PublishedPost {
            post_id: self.post.post_id.clone(),
            container_id: progress.container_id.clone(),
            media_id: progress.media_id.clone(),
            permalink: media.and_then(|media| media.permalink),
        })
    }
}
