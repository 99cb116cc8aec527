//! The step that makes a post public, and finding out whether it has.

use super::limits::NOT_FOUND_RETRIES;
use super::lookup::{self, Lookup};
use super::steps::{Done, Run};
use super::{IfUnpublished, MediaType, ProgressStore, PublishError, PublishRequest, Step};
use crate::graph::{
    ContainerId, ContainerState, Decision, Failure, GraphError, Media, Pause, Remedy, Stage,
};

/// What is known of a container that publication was requested for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its status says that it is not published.
    Finished,
    /// The API does not show it.
    Hidden,
}

impl<N: ProgressStore> Run<'_, N> {
    pub(super) async fn make_public(&mut self, container: ContainerId, seen: Seen) -> Done {
        if let Some(at) = self.progress.unanswered_at
            && seen == Seen::Finished
            && self.left_of(at, self.limits.doubt).is_zero()
        {
            self.progress.unanswered_at = None;
        }
        let claimed = self.notes.claim(&container).await;
        let claimed = claimed.map_err(PublishError::ProgressStore)?;
        if claimed != container {
            // Another run of the job was about to publish its own, perhaps is just now: go on with
            // that one, once a request for it can no longer be on its way.
            self.progress.container_id = Some(claimed);
            self.next_step().await?;
            return Ok(Some(Step::Wait(self.limits.settle)));
        }
        self.progress.request = Some(PublishRequest {
            at: self.now(),
            ..PublishRequest::default()
        });
        self.keep().await?;
        match self.api.publish(&container).await {
            Ok(media) => {
                self.progress.media_id = Some(media);
                self.progress.step_done();
                // The post is public. If storing this fails, the container's status shows it.
                if let Err(error) = self.keep().await {
                    tracing::warn!(%error, post = self.post.post_id, "published, but not noted");
                }
                Ok(None)
            }
            Err(error) => self.not_published(container, error).await,
        }
    }

    /// The API has reported no success.
    async fn not_published(&mut self, container: ContainerId, error: GraphError) -> Done {
        match error.decision(Stage::Publish) {
            // The post may be visible, so the container's status decides what comes next. Waiting
            // for it uses no attempt: the last one must not fail a post that is published.
            Decision::LookAgain => self.doubt(&error).await,
            _ if error.is_server_error() => self.doubt(&error).await,
            // The API says itself that it has done nothing.
            Decision::SameContainer => self.not_found(container, error).await,
            _ => self.refused(container, error).await,
        }
    }

    /// Notes that the post may be public.
    async fn doubt(&mut self, error: &GraphError) -> Done {
        tracing::info!(%error, post = self.post.post_id, "no clear answer to publishing; looking for the post");
        if let Some(request) = &mut self.progress.request {
            request.problem = Some(error.to_string());
            request.if_unpublished = if error.is_stale_container() || error.is_unknown_object() {
                IfUnpublished::Replace
            } else if error.failure() == Failure::Permanent {
                IfUnpublished::Refuse
            } else {
                IfUnpublished::Retry
            };
        }
        self.wait().await.map(Some)
    }

    /// The container is not found for the moment: asks again once or twice, then replaces it.
    async fn not_found(&mut self, container: ContainerId, error: GraphError) -> Done {
        let retries = self.progress.not_found_retries;
        if retries >= NOT_FOUND_RETRIES && self.progress.unanswered_at.is_some() {
            return self.doubt(&error).await;
        }
        self.progress.request = None;
        if retries < NOT_FOUND_RETRIES {
            self.progress.not_found_retries += 1;
            self.keep().await?;
            return Ok(Some(Step::Wait(self.limits.not_found_wait(retries))));
        }
        self.replace(&container).await?;
        Err(error.into())
    }

    /// The API has declined to publish. It also does so when the container is published already, such as by an
    /// earlier request without an answer.
    async fn refused(&mut self, container: ContainerId, error: GraphError) -> Done {
        let failure = error.failure();
        if matches!(failure, Failure::Permanent | Failure::MissingPermission) {
            match self.status(&container).await? {
                Some(status) if status.state == ContainerState::Published => {
                    return self.find_published().await.map(Some);
                }
                status
                    if failure == Failure::Permanent
                        && (status.is_none() || self.progress.unanswered_at.is_some()) =>
                {
                    return self.doubt(&error).await;
                }
                Some(_) | None => {}
            }
        }
        self.progress.request = None;
        if failure == Failure::NotReady {
            return self.wait_for_container(container).await.map(Some);
        }
        self.keep().await?;
        Err(error.into())
    }

    /// Publishing was asked for and the container is not known to be published. The request may still be on
    /// its way, and its effect may show late. A failed attempt, or a refusal, is only told once neither the
    /// container nor the account's own posts have shown it for minutes, while the death of a worker costs no
    /// attempt.
    pub(super) async fn resolve(
        &mut self,
        container: ContainerId,
        mut request: PublishRequest,
        seen: Seen,
    ) -> Done {
        let settling = self.left_of(request.at, self.limits.settle);
        // Whatever time has passed since the request, one look may be too early to show its effect.
        let settled = settling.is_zero() && request.looks > 0;
        let looked = if settled {
            self.look_for_post().await?
        } else {
            Lookup::Unread
        };
        if let Lookup::Found(media) = looked {
            self.progress.media_id = Some(media.id.clone());
            return self.published(Some(media)).map(Some);
        }
        let is_final = self.limits.last_attempt && request.problem.is_some();
        let may_be_shown = matches!(looked, Lookup::Possible);
        let is_repeated = request.if_unpublished == IfUnpublished::Retry;
        let left = if seen == Seen::Hidden || is_final || may_be_shown || !is_repeated {
            self.left_of(request.at, self.limits.doubt)
        } else {
            settling
        };
        if !settled || !left.is_zero() {
            let wait = self.limits.wait(request.looks);
            request.looks += 1;
            self.progress.request = Some(request);
            self.progress.postponed_since = None;
            self.keep().await?;
            return Ok(Some(Step::Wait(if left.is_zero() {
                wait
            } else {
                wait.min(left)
            })));
        }
        let is_known = matches!(looked, Lookup::Absent);
        match request.if_unpublished {
            _ if may_be_shown || (seen == Seen::Hidden && !is_known) => {
                Err(PublishError::Vanished(container))
            }
            IfUnpublished::Refuse if !is_known => Err(PublishError::Vanished(container)),
            IfUnpublished::Replace => {
                self.replace(&container).await?;
                Err(PublishError::Expired(container))
            }
            IfUnpublished::Refuse => {
                self.progress.request = None;
                self.progress.unanswered_at = None;
                self.keep().await?;
                Err(PublishError::Refused(request.problem.unwrap_or_default()))
            }
            IfUnpublished::Retry => {
                self.progress.request = None;
                self.progress.unanswered_at = Some(request.at).filter(|_| !is_final);
                match request.problem {
                    None => self.make_public(container, seen).await,
                    Some(problem) => {
                        self.keep().await?;
                        Err(PublishError::Unanswered(problem))
                    }
                }
            }
        }
    }

    /// Looks whether the account shows the post, without the container's word for it.
    async fn look_for_post(&mut self) -> Result<Lookup, PublishError> {
        let latest = match self.latest().await {
            Ok(latest) => latest,
            Err(error) => {
                return match error.decision(Stage::ReadBack) {
                    Decision::Wait(Pause::Limit(_) | Pause::Block)
                    | Decision::Final(Remedy::Reconnect) => Err(error.into()),
                    _ => Ok(Lookup::Unread),
                };
            }
        };
        let found = self.ours(latest).await?;
        // Without a caption it may be a post that the account's owner has published by hand.
        if self.caption().is_none() && matches!(found, Lookup::Found(_)) {
            return Ok(Lookup::Possible);
        }
        Ok(found)
    }

    /// The container is published, but its media id is unknown because an answer was lost: looks for
    /// the post among the account's latest.
    pub(super) async fn find_published(&mut self) -> Result<Step, PublishError> {
        let latest = match self.latest().await {
            Ok(latest) => latest,
            Err(error) => return self.wait_for_link(&error).await,
        };
        let found = match self.ours(latest).await? {
            Lookup::Found(media) => Some(media),
            _ if self.progress.waits < self.limits.permalink_waits => return self.wait().await,
            _ => {
                let post = &self.post.post_id;
                tracing::warn!(post, "published; which of the account's posts is unknown");
                None
            }
        };
        self.progress.media_id = found.as_ref().map(|media| media.id.clone());
        self.published(found)
    }

    /// The one of the account's latest posts that is this one. A post of another job is none that it can be.
    async fn ours(&self, latest: Vec<Media>) -> Result<Lookup, PublishError> {
        // No post is older than its container.
        let requested = self.progress.request.as_ref().map(|request| request.at);
        let since = [requested, self.progress.created_at]
            .into_iter()
            .flatten()
            .min();
        let mut recent = Vec::new();
        for media in lookup::published_since(latest, since) {
            let anothers = self.notes.is_anothers(&media.id).await;
            if !anothers.map_err(PublishError::ProgressStore)? {
                recent.push(media);
            }
        }
        let found = lookup::find(recent, self.caption());
        if let Lookup::Found(media) = &found {
            let claimed = self.notes.claim_media(&media.id).await;
            if !claimed.map_err(PublishError::ProgressStore)? {
                // Another job was faster: the next look leaves it out.
                return Ok(Lookup::Possible);
            }
        }
        Ok(found)
    }

    fn is_story(&self) -> bool {
        self.post.media_type == MediaType::Stories
    }

    /// The caption that the API shows; it shows none of stories.
    fn caption(&self) -> Option<&str> {
        let caption = self.post.caption.as_deref().filter(|_| !self.is_story());
        caption.filter(|caption| !caption.trim().is_empty())
    }

    async fn latest(&self) -> Result<Vec<Media>, GraphError> {
        if self.is_story() {
            self.api.recent_stories().await
        } else {
            self.api.recent_media().await
        }
    }

    pub(super) async fn read_back(
        &mut self,
        media: crate::graph::MediaId,
    ) -> Result<Step, PublishError> {
        // So that no other job takes the post for its own.
        if let Err(error) = self.notes.claim_media(&media).await {
            tracing::warn!(%error, post = self.post.post_id, "the published post could not be claimed");
        }
        let error = match self.api.media(&media).await {
            Ok(media) => return self.published(Some(media)),
            Err(error) => error,
        };
        if error.decision(Stage::ReadBack) == Decision::LookAgain
            && let Ok(latest) = self.latest().await
            && let Some(found) = latest.into_iter().find(|post| post.id == media)
        {
            return self.published(Some(found));
        }
        self.wait_for_link(&error).await
    }

    /// A missing permalink never fails a post that is published.
    async fn wait_for_link(&mut self, error: &GraphError) -> Result<Step, PublishError> {
        let passing = !matches!(error.decision(Stage::ReadBack), Decision::Final(_));
        if passing && self.progress.waits < self.limits.permalink_waits {
            return self.wait().await;
        }
        tracing::warn!(%error, post = self.post.post_id, "published; its permalink is unknown");
        self.published(None)
    }
}
