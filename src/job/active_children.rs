//! What a running parent can see of its children.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::dependencies::{PageRequest, ReadDependencies};
use crate::job::{
    Action, ChildResults, Dependencies, DependencyCounts, DependencyCursor, DependencyKind,
    DependencyPage, Job, JobKey, Parent,
};

/// # Children
///
/// What a handler sees and does when its job is a parent. A job gets children when it is added as the
/// root of a flow, or from its own handler: with [`add_child`](Self::add_child). To wait for them, the
/// handler returns [`Outcome::WaitForChildren`](crate::Outcome::WaitForChildren), which has an example.
impl<D> Job<D> {
    /// Returns the job as the parent of jobs to be added: for
    /// [`JobOptions::parent`](crate::JobOptions::parent).
    pub fn as_parent(&self) -> Parent {
        Parent::new(self.actions.queue(), self.id().clone())
    }

    /// Reads what the children that completed have returned, by child.
    ///
    /// A result stays when its child is removed. A child that fails under a
    /// [policy](crate::ChildPolicy) has none: see [`ignored_failures`](Self::ignored_failures). All
    /// results are in memory at once; for very many of them see [`dependencies`](Self::dependencies).
    ///
    /// # Errors
    ///
    /// Connection errors. A result that does not decode is an error of its child in the answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{Job, JobResult, Outcome};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Thumbnail {
    ///     url: String,
    /// }
    ///
    /// async fn publish(job: Job<serde_json::Value>) -> JobResult<Vec<String>> {
    ///     let thumbnails = job.children_values::<Thumbnail>().await?.into_map()?;
    ///     let urls = thumbnails.into_values().map(|thumbnail| thumbnail.url);
    ///     Ok(Outcome::Done(urls.collect()))
    /// }
    /// ```
    #[doc(alias = "getChildrenValues")]
    pub async fn children_values<R: DeserializeOwned>(&self) -> Result<ChildResults<R>> {
        self.dependencies(DependencyKind::Processed).results().await
    }

    /// Reads why children failed that let their parent continue, by child: those under
    /// [`ChildPolicy::Ignore`](crate::ChildPolicy::Ignore) and
    /// [`ChildPolicy::ContinueParent`](crate::ChildPolicy::ContinueParent).
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getIgnoredChildrenFailures")]
    pub async fn ignored_failures(&self) -> Result<BTreeMap<JobKey, String>> {
        self.dependencies(DependencyKind::Ignored).reasons().await
    }

    /// Reads when children failed that fail their parent, by child: those under
    /// [`ChildPolicy::FailParent`](crate::ChildPolicy::FailParent). A handler sees them when they fail
    /// while it runs; its job cannot complete any more.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn failed_children(&self) -> Result<BTreeMap<JobKey, Timestamp>> {
        self.dependencies(DependencyKind::Failed).failures().await
    }

    /// Walks over the children of one kind, in bounded steps.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{DependencyKind, Job};
    ///
    /// async fn total(job: Job<()>) -> oxbull::Result<u64> {
    ///     let mut total = 0;
    ///     let mut pages = job.dependencies(DependencyKind::Processed);
    ///     while let Some(page) = pages.next().await {
    ///         total += page?.result::<u64>()?.unwrap_or(0);
    ///     }
    ///     Ok(total)
    /// }
    /// ```
    #[doc(alias = "getDependencies")]
    pub fn dependencies(&self, kind: DependencyKind) -> Dependencies {
        let actions = Arc::clone(&self.actions);
        Dependencies::new(
            actions as Arc<dyn ReadDependencies>,
            self.id().clone(),
            kind,
        )
    }

    /// Reads one page of the children of one kind. As
    /// [`Queue::dependency_page`](crate::Queue::dependency_page).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a count of 0; connection errors.
    pub async fn dependency_page(
        &self,
        kind: DependencyKind,
        from: DependencyCursor,
        count: u32,
    ) -> Result<DependencyPage> {
        let request = PageRequest::checked(kind, from, count)?;
        self.actions.dependency_page(self.id(), request).await
    }

    /// Counts the children of each kind at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getDependenciesCount")]
    pub async fn dependency_counts(&self) -> Result<DependencyCounts> {
        self.actions.dependency_counts(self.id()).await
    }

    /// Deletes the children that the job waits for, except those that a worker holds and those that have
    /// failed. For a job that runs because one child has failed
    /// ([`ContinueParent`](crate::ChildPolicy::ContinueParent)) and does without the others. As
    /// [`Queue::remove_unprocessed_children`](crate::Queue::remove_unprocessed_children); returns how many
    /// jobs were deleted.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when the job does not exist; connection errors. Safe to
    /// repeat.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{Job, JobResult, Outcome};
    ///
    /// async fn first_offer(job: Job<()>) -> JobResult<usize> {
    ///     if !job.ignored_failures().await?.is_empty() {
    ///         job.remove_unprocessed_children().await?;
    ///         if job.dependency_counts().await?.unprocessed > 0 {
    ///             return Ok(Outcome::WaitForChildren);
    ///         }
    ///     }
    ///     let offers = job.children_values::<u64>().await?;
    ///     Ok(Outcome::Done(offers.len()))
    /// }
    /// ```
    #[doc(alias = "removeUnprocessedChildren")]
    pub async fn remove_unprocessed_children(&self) -> Result<u64> {
        let action = Action::RemoveUnprocessedChildren;
        self.actions.run(self.id(), action).await
    }
}
