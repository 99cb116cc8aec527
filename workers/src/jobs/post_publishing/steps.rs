//! The steps of a publication: children, container, status; what follows is in `publish_step`.

use std::time::Duration;

use oxbull::Clock;

use super::publish_step::Seen;
use super::{
    Plan, PostPublishing, ProgressStore, Publication, PublishError, PublishLimits, PublishedPost,
};
use crate::graph::{
    AccountApi, ContainerId, ContainerState, ContainerStatus, Decision, Failure, GraphError, Media,
    MediaId, NewContainer, Stage,
};

/// How long a container that is not published exists.
const CONTAINER_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How many creations of a job may get no answer.
const LOST_CREATIONS: u32 = 3;

/// What one run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The post is published.
    Published(PublishedPost),
    /// The API is not ready; run again after this time.
    Wait(Duration),
}

/// Takes a post as far as it goes without waiting.
///
/// Run it again after [`Step::Wait`], and for the next attempt after an error: it goes on where
/// `post.publication` says, so a post is published at most once whatever is repeated.
///
/// # Errors
/// [`PublishError`]; its [`failure`](PublishError::failure) tells whether a retry can succeed.
pub async fn publish(
    api: AccountApi<'_>,
    post: &PostPublishing,
    plan: &Plan,
    notes: &impl ProgressStore,
    limits: &PublishLimits,
    clock: &Clock,
) -> Result<Step, PublishError> {
    let mut run = Run {
        api,
        post,
        plan,
        notes,
        limits,
        clock,
        progress: post.publication.clone().unwrap_or_default(),
    };
    if run.progress.is_untouched() {
        run.check_quota().await?;
    }
    loop {
        let done = match next(plan, &run.progress) {
            Task::CreateChild(child) => run.create_child(child).await?,
            Task::CheckChild(child) => run.check_child(child).await?,
            Task::CreateContainer => run.create_container().await?,
            Task::CheckContainer(container) => run.check_container(container).await?,
            Task::ReadBack(media) => Some(run.read_back(media).await?),
        };
        if let Some(step) = done {
            return Ok(step);
        }
    }
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
enum Task<'p> {
    CreateChild(&'p NewContainer),
    CheckChild(ContainerId),
    CreateContainer,
    CheckContainer(ContainerId),
    ReadBack(MediaId),
}

/// The state machine: what has been noted decides what comes next.
fn next<'p>(plan: &'p Plan, progress: &Publication) -> Task<'p> {
    if let Some(media) = &progress.media_id {
        return Task::ReadBack(media.clone());
    }
    if let Some(container) = &progress.container_id {
        return Task::CheckContainer(container.clone());
    }
    if let Some(child) = plan.children().get(progress.children.len()) {
        return Task::CreateChild(child);
    }
    match progress.children.get(progress.children_ready) {
        Some(child) => Task::CheckChild(child.clone()),
        None => Task::CreateContainer,
    }
}

/// One run: what it works with, and how far the publication is.
pub(super) struct Run<'a, N> {
    pub(super) api: AccountApi<'a>,
    pub(super) post: &'a PostPublishing,
    plan: &'a Plan,
    pub(super) notes: &'a N,
    pub(super) limits: &'a PublishLimits,
    clock: &'a Clock,
    pub(super) progress: Publication,
}

/// `None` goes on with the next task.
pub(super) type Done = Result<Option<Step>, PublishError>;

impl<N: ProgressStore> Run<'_, N> {
    async fn create_child(&mut self, child: &NewContainer) -> Done {
        if let Some(wait) = self.creation_pause()? {
            return Ok(Some(wait));
        }
        match self.api.create_container(child).await {
            Ok(id) => {
                self.progress.children.push(id);
                self.created().await
            }
            Err(error) => Err(self.not_created(error).await?.into()),
        }
    }

    /// Children are prepared side by side, so the first that is not ready is waited for.
    async fn check_child(&mut self, child: ContainerId) -> Done {
        let Some(status) = self.status(&child).await? else {
            if let Some(wait) = self.hidden(&child).await? {
                return Ok(Some(wait));
            }
            // Creating the carousel tells whether it is ready.
            self.progress.children_ready += 1;
            return Ok(None);
        };
        match status.state {
            ContainerState::InProgress => self.wait_for_container(child).await.map(Some),
            ContainerState::Finished | ContainerState::Published => {
                self.progress.children_ready += 1;
                Ok(None)
            }
            ContainerState::Error | ContainerState::Expired => self.dead(child, &status).await,
        }
    }

    async fn create_container(&mut self) -> Done {
        if let Some(wait) = self.creation_pause()? {
            return Ok(Some(wait));
        }
        let container = self.plan.container(&self.progress.children);
        match self.api.create_container(&container).await {
            Ok(id) => {
                self.progress.container_id = Some(id);
                self.created().await
            }
            Err(error) => {
                // A child whose status could not be read.
                if let Some(child) = self.progress.children.last().cloned()
                    && error.failure() == Failure::NotReady
                {
                    return self.wait_for_container(child).await.map(Some);
                }
                if error.is_stale_container() {
                    self.start_over().await?;
                }
                Err(self.not_created(error).await?.into())
            }
        }
    }

    /// Whether another container may be made: one that got no answer may still be made now, so the next waits as
    /// long as a creation takes, and there are few of them.
    fn creation_pause(&self) -> Result<Option<Step>, PublishError> {
        let Some(lost_at) = self.progress.creation_lost_at else {
            return Ok(None);
        };
        if self.progress.lost_creations >= LOST_CREATIONS {
            return Err(PublishError::NeverCreated);
        }
        let left = self.left_of(lost_at, self.api.creation_deadline());
        Ok(Some(left).filter(|left| !left.is_zero()).map(Step::Wait))
    }

    /// Notes a creation that may have been executed without an answer.
    async fn not_created(&mut self, error: GraphError) -> Result<GraphError, PublishError> {
        if error.is_unanswered() {
            self.progress.lost_creations += 1;
            self.progress.creation_lost_at = Some(self.now());
            self.keep().await?;
        }
        Ok(error)
    }

    async fn check_container(&mut self, container: ContainerId) -> Done {
        let Some(status) = self.status(&container).await? else {
            return match self.progress.request.clone() {
                Some(request) => self.resolve(container, request, Seen::Hidden).await,
                None => match self.hidden(&container).await? {
                    Some(wait) => Ok(Some(wait)),
                    None => self.make_public(container, Seen::Hidden).await,
                },
            };
        };
        match status.state {
            ContainerState::InProgress => self.wait_for_container(container).await.map(Some),
            ContainerState::Published => self.find_published().await.map(Some),
            ContainerState::Error | ContainerState::Expired => self.dead(container, &status).await,
            ContainerState::Finished => match self.progress.request.clone() {
                Some(request) => self.resolve(container, request, Seen::Finished).await,
                None => self.make_public(container, Seen::Finished).await,
            },
        }
    }

    /// Reads how far a container is; `None` when the API does not show it, which it does from time to time of
    /// containers that exist.
    pub(super) async fn status(
        &mut self,
        container: &ContainerId,
    ) -> Result<Option<ContainerStatus>, PublishError> {
        match self.api.container_status(container).await {
            Ok(status) => {
                self.progress.hidden_since = None;
                Ok(Some(status))
            }
            Err(error) if error.decision(Stage::Status) == Decision::LookAgain => {
                tracing::debug!(%error, post = self.post.post_id, "the container is not shown");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a container that the API does not show. `None` when that has taken too long: then it is used
    /// without its status. One that is too old to exist is replaced; its publication was not requested.
    async fn hidden(&mut self, container: &ContainerId) -> Result<Option<Step>, PublishError> {
        if let Some(created) = self.progress.created_at
            && self.left_of(created, CONTAINER_LIFE).is_zero()
        {
            self.replace(container).await?;
            return Err(PublishError::Expired(container.clone()));
        }
        let now = self.now();
        let since = *self.progress.hidden_since.get_or_insert(now);
        let left = self.left_of(since, self.limits.hidden);
        if left.is_zero() {
            return Ok(None);
        }
        let wait = self.limits.wait(self.progress.waits).min(left);
        self.wait().await?;
        Ok(Some(Step::Wait(wait)))
    }

    /// The container can never be published, by the API's answer: the next attempt makes another,
    /// unless it would end the same way.
    async fn dead(&mut self, container: ContainerId, status: &ContainerStatus) -> Done {
        self.replace(&container).await?;
        if status.state == ContainerState::Expired {
            return Err(PublishError::Expired(container));
        }
        Err(PublishError::Container(status.error()))
    }

    pub(super) async fn wait_for_container(
        &mut self,
        container: ContainerId,
    ) -> Result<Step, PublishError> {
        let since = self.progress.waiting_since.unwrap_or(self.now());
        self.progress.waiting_since = Some(since);
        if self.left_of(since, self.limits.processing).is_zero() {
            let limit = self.limits.processing;
            // What may have been published must not be forgotten.
            if !self.progress.may_be_public() {
                self.progress.start_over();
            }
            self.progress.waiting_since = None;
            self.progress.waits = 0;
            self.keep().await?;
            return Err(PublishError::NeverReady { container, limit });
        }
        self.wait().await
    }

    /// Containers are not made for a post that cannot be published at present.
    async fn check_quota(&self) -> Result<(), PublishError> {
        match self.api.publishing_quota().await {
            Ok(quota) if quota.is_used_up() => {
                Err(PublishError::QuotaUsedUp(self.limits.quota_wait))
            }
            Ok(_) => Ok(()),
            // The request to publish reports a used-up quota by itself.
            Err(error)
                if matches!(
                    error.failure(),
                    Failure::Permanent
                        | Failure::MissingPermission
                        | Failure::Transient
                        | Failure::Unclassified
                ) =>
            {
                tracing::debug!(%error, "the publishing quota is unknown");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on with a container that was made just now.
    async fn created(&mut self) -> Done {
        self.progress.created_at = Some(self.now());
        self.next_step().await
    }

    /// Discards a container that is not published, and its claim, so that the next attempt makes another.
    pub(super) async fn replace(&mut self, container: &ContainerId) -> Result<(), PublishError> {
        let released = self.notes.release(container).await;
        released.map_err(PublishError::ProgressStore)?;
        self.start_over().await
    }

    pub(super) async fn next_step(&mut self) -> Done {
        self.progress.step_done();
        self.keep().await?;
        Ok(None)
    }

    async fn start_over(&mut self) -> Result<(), PublishError> {
        self.progress.start_over();
        self.keep().await
    }

    pub(super) async fn wait(&mut self) -> Result<Step, PublishError> {
        let wait = self.limits.wait(self.progress.waits);
        self.progress.waits += 1;
        self.progress.postponed_since = None;
        self.keep().await?;
        Ok(Step::Wait(wait))
    }

    pub(super) async fn keep(&self) -> Result<(), PublishError> {
        let kept = self.notes.keep(&self.progress).await;
        kept.map_err(PublishError::ProgressStore)
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// What is left of a span of time that began at `since`.
    pub(super) fn left_of(&self, since: i64, span: Duration) -> Duration {
        let passed = u64::try_from(self.now().saturating_sub(since)).unwrap_or(0);
        span.saturating_sub(Duration::from_millis(passed))
    }

    pub(super) fn published(&self, media: Option<Media>) -> Result<Step, PublishError> {
        let Some(container) = &self.progress.container_id else {
            // Only a container that was noted can have been published.
            return Err(GraphError::Unexpected("a post without a container".to_owned()).into());
        };
        Ok(Step::Published(PublishedPost {
            post_id: self.post.post_id.clone(),
            container_id: container.clone(),
            media_id: self.progress.media_id.clone(),
            permalink: media.and_then(|media| media.permalink),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str) -> ContainerId {
        ContainerId::new(id).unwrap()
    }

    fn image() -> NewContainer {
        NewContainer::image("https://x/a.jpg")
    }

    /// A stored step is never repeated, whichever step a run died in.
    #[test]
    fn what_is_noted_decides_what_comes_next() {
        let plan = Plan::Carousel {
            children: vec![image().in_carousel(), image().in_carousel()],
            caption: None,
        };
        let child = plan.children().first().unwrap();
        let mut progress = Publication::default();
        assert_eq!(next(&plan, &progress), Task::CreateChild(child));
        progress.children.push(container("1"));
        assert_eq!(next(&plan, &progress), Task::CreateChild(child));
        progress.children.push(container("2"));
        assert_eq!(next(&plan, &progress), Task::CheckChild(container("1")));
        progress.children_ready = 1;
        assert_eq!(next(&plan, &progress), Task::CheckChild(container("2")));
        progress.children_ready = 2;
        assert_eq!(next(&plan, &progress), Task::CreateContainer);
        progress.container_id = Some(container("3"));
        assert_eq!(next(&plan, &progress), Task::CheckContainer(container("3")));
        let media = MediaId::new("4").unwrap();
        progress.media_id = Some(media.clone());
        assert_eq!(next(&plan, &progress), Task::ReadBack(media));
        assert_eq!(
            next(&Plan::Single(image()), &Publication::default()),
            Task::CreateContainer
        );
    }
}
