//! The steps of a publication: children, container, status, publish, permalink.

use std::time::Duration;

use oxbull::Clock;

use super::{
    MediaType, Plan, PostPublishing, ProgressStore, Publication, PublishError, PublishRequest,
    PublishedPost, lookup,
};
use crate::graph::{
    AccountApi, ContainerId, ContainerState, ContainerStatus, Failure, GraphError, Media, MediaId,
    NewContainer,
};

/// How long and how often a job waits for the API. None of the waits uses an attempt.
#[derive(Debug, Clone, Copy)]
pub struct PublishLimits {
    /// The first wait of a step; each further one is twice as long. Default: 5 s.
    pub first_wait: Duration,
    /// No wait is longer. Default: 60 s.
    pub longest_wait: Duration,
    /// How long an attempt waits for its containers to be finished. Default: 30 min.
    pub processing: Duration,
    /// How long a request to publish that got no answer may still be on its way: only then is a
    /// container that is not published published again. Default: 30 s, twice a request's deadline.
    pub settle: Duration,
    /// Waits for a published post's permalink. Default: 3.
    pub permalink_waits: u32,
    /// How long an account whose publishing quota is used up waits until it looks again.
    /// Default: 15 min.
    pub quota_wait: Duration,
    /// How long limits of the API may put a post off before it fails. Default: 24 h.
    pub postpone_max: Duration,
}

impl Default for PublishLimits {
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(5),
            longest_wait: Duration::from_secs(60),
            processing: Duration::from_secs(30 * 60),
            settle: Duration::from_secs(30),
            permalink_waits: 3,
            quota_wait: Duration::from_secs(15 * 60),
            postpone_max: Duration::from_secs(24 * 3600),
        }
    }
}

impl PublishLimits {
    /// How long the wait after `waits` others is.
    fn wait(&self, waits: u32) -> Duration {
        self.first_wait
            .saturating_mul(1_u32.checked_shl(waits).unwrap_or(u32::MAX))
            .min(self.longest_wait)
    }
}

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

struct Run<'a, N> {
    api: AccountApi<'a>,
    post: &'a PostPublishing,
    plan: &'a Plan,
    notes: &'a N,
    limits: &'a PublishLimits,
    clock: &'a Clock,
    progress: Publication,
}

/// `None` goes on with the next task.
type Done = Result<Option<Step>, PublishError>;

impl<N: ProgressStore> Run<'_, N> {
    async fn create_child(&mut self, child: &NewContainer) -> Done {
        let id = self.api.create_container(child).await?;
        self.progress.children.push(id);
        self.next_step().await
    }

    /// Children are prepared side by side, so the first that is not ready is waited for.
    async fn check_child(&mut self, child: ContainerId) -> Done {
        let status = match self.api.container_status(&child).await {
            Ok(status) => status,
            Err(error) => return Err(self.unknown_container(child, error).await?),
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
        let container = self.plan.container(&self.progress.children);
        match self.api.create_container(&container).await {
            Ok(id) => {
                self.progress.container_id = Some(id);
                self.next_step().await
            }
            Err(error) => {
                if error.is_stale_container() {
                    self.start_over().await?;
                }
                Err(error.into())
            }
        }
    }

    async fn check_container(&mut self, container: ContainerId) -> Done {
        let status = match self.api.container_status(&container).await {
            Ok(status) => status,
            Err(error) => return Err(self.unknown_container(container, error).await?),
        };
        match status.state {
            ContainerState::InProgress => self.wait_for_container(container).await.map(Some),
            ContainerState::Published => self.find_published().await.map(Some),
            ContainerState::Error | ContainerState::Expired => self.dead(container, &status).await,
            ContainerState::Finished => match self.progress.request.clone() {
                Some(request) => self.resolve(container, request).await,
                None => self.make_public(container).await,
            },
        }
    }

    /// Publishing was asked for and the container is not published. The request may still be on
    /// its way; once it cannot be any more, it is known to have had no effect. One whose failure
    /// was seen is a failed attempt, while the death of a worker costs none.
    async fn resolve(&mut self, container: ContainerId, request: PublishRequest) -> Done {
        let left = self.left_of(request.at, self.limits.settle);
        if !left.is_zero() {
            return Ok(Some(Step::Wait(left.min(self.limits.longest_wait))));
        }
        self.progress.request = None;
        match request.problem {
            None => self.make_public(container).await,
            Some(problem) => {
                self.keep().await?;
                Err(PublishError::Unanswered(problem))
            }
        }
    }

    async fn make_public(&mut self, container: ContainerId) -> Done {
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
            problem: None,
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
            // The post may be visible, so the container's status decides what comes next. Waiting
            // for it uses no attempt: the last one must not fail a post that is published.
            Err(error) if error.is_ambiguous() => {
                if let Some(request) = &mut self.progress.request {
                    request.problem = Some(error.to_string());
                }
                self.wait().await.map(Some)
            }
            Err(error) => self.refused(container, error).await,
        }
    }

    /// The API has declined to publish. It also does so when the container is published already.
    async fn refused(&mut self, container: ContainerId, error: GraphError) -> Done {
        let failure = error.failure();
        if matches!(failure, Failure::Permanent | Failure::MissingPermission)
            && self.api.container_status(&container).await?.state == ContainerState::Published
        {
            return self.find_published().await.map(Some);
        }
        self.progress.request = None;
        if failure == Failure::NotReady {
            return self.wait_for_container(container).await.map(Some);
        }
        self.keep().await?;
        Err(error.into())
    }

    /// The container can never be published, by the API's answer: the next attempt makes another,
    /// unless it would end the same way.
    async fn dead(&mut self, container: ContainerId, status: &ContainerStatus) -> Done {
        self.notes
            .release(&container)
            .await
            .map_err(PublishError::ProgressStore)?;
        self.start_over().await?;
        if status.state == ContainerState::Expired {
            return Err(PublishError::Expired(container));
        }
        Err(PublishError::Container(status.error()))
    }

    /// A container that does not exist any more is replaced, unless it may have been published.
    async fn unknown_container(
        &mut self,
        container: ContainerId,
        error: GraphError,
    ) -> Result<PublishError, PublishError> {
        if !error.is_unknown_object() {
            return Ok(error.into());
        }
        if self.progress.request.is_some() {
            return Ok(PublishError::Vanished(container));
        }
        self.start_over().await?;
        Ok(PublishError::Expired(container))
    }

    async fn wait_for_container(&mut self, container: ContainerId) -> Result<Step, PublishError> {
        let since = self.progress.waiting_since.unwrap_or(self.now());
        self.progress.waiting_since = Some(since);
        if self.left_of(since, self.limits.processing).is_zero() {
            let limit = self.limits.processing;
            // What may have been published must not be forgotten.
            if self.progress.request.is_none() {
                self.progress.start_over();
            }
            self.progress.waiting_since = None;
            self.progress.waits = 0;
            self.keep().await?;
            return Err(PublishError::NeverReady { container, limit });
        }
        self.wait().await
    }

    /// The container is published, but its media id is unknown because an answer was lost: looks for
    /// the post among the account's latest.
    async fn find_published(&mut self) -> Result<Step, PublishError> {
        let stories = self.post.media_type == MediaType::Stories;
        let latest = if stories {
            self.api.recent_stories().await
        } else {
            self.api.recent_media().await
        };
        match latest {
            Ok(latest) => {
                let caption = self.post.caption.as_deref().filter(|_| !stories);
                let asked_at = self.progress.request.as_ref().map(|request| request.at);
                let found = lookup::find(latest, caption, asked_at);
                if found.is_none() {
                    let post = &self.post.post_id;
                    tracing::warn!(post, "published; which of the account's posts is unknown");
                }
                self.progress.media_id = found.as_ref().map(|media| media.id.clone());
                self.published(found)
            }
            Err(error) => self.wait_for_link(&error).await,
        }
    }

    async fn read_back(&mut self, media: MediaId) -> Result<Step, PublishError> {
        match self.api.media(&media).await {
            Ok(media) => self.published(Some(media)),
            Err(error) => self.wait_for_link(&error).await,
        }
    }

    /// A missing permalink never fails a post that is published.
    async fn wait_for_link(&mut self, error: &GraphError) -> Result<Step, PublishError> {
        let passing = !matches!(
            error.failure(),
            Failure::Permanent | Failure::MissingPermission | Failure::ExpiredToken
        );
        if passing && self.progress.waits < self.limits.permalink_waits {
            return self.wait().await;
        }
        tracing::warn!(%error, post = self.post.post_id, "published; its permalink is unknown");
        self.published(None)
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

    async fn next_step(&mut self) -> Done {
        self.progress.step_done();
        self.keep().await?;
        Ok(None)
    }

    async fn start_over(&mut self) -> Result<(), PublishError> {
        self.progress.start_over();
        self.keep().await
    }

    async fn wait(&mut self) -> Result<Step, PublishError> {
        let wait = self.limits.wait(self.progress.waits);
        self.progress.waits += 1;
        self.progress.postponed_since = None;
        self.keep().await?;
        Ok(Step::Wait(wait))
    }

    async fn keep(&self) -> Result<(), PublishError> {
        let kept = self.notes.keep(&self.progress).await;
        kept.map_err(PublishError::ProgressStore)
    }

    fn now(&self) -> i64 {
        self.clock.now().as_millis()
    }

    /// What is left of a span of time that began at `since`.
    fn left_of(&self, since: i64, span: Duration) -> Duration {
        let passed = u64::try_from(self.now().saturating_sub(since)).unwrap_or(0);
        span.saturating_sub(Duration::from_millis(passed))
    }

    fn published(&self, media: Option<Media>) -> Result<Step, PublishError> {
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

    /// A video that takes an hour must not be asked about every five seconds.
    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = PublishLimits::default();
        let seconds: Vec<_> = (0..6).map(|waits| limits.wait(waits).as_secs()).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 60, 60]);
        assert_eq!(limits.wait(u32::MAX), limits.longest_wait);
    }
}
