//! Looking at the children of a job, from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{
    ChildResults, Dependencies, DependencyCounts, DependencyCursor, DependencyKind, DependencyPage,
    JobId, JobKey, PageRequest, ReadDependencies,
};
use crate::queue::{Queue, named};

/// # Children
///
/// What a parent of this queue knows of its children, which may be in any queue. A job that does not
/// exist has no children. For a running parent, its [`Job`](crate::Job) has the same.
impl<D> Queue<D> {
    /// Reads what the children of a job that completed have returned, by child. As
    /// [`Job::children_values`](crate::Job::children_values).
    ///
    /// # Errors
    ///
    /// Connection errors. A result that does not decode is an error of its child in the answer.
    #[doc(alias = "getChildrenValues")]
    pub async fn children_values<R: DeserializeOwned>(
        &self,
        parent: impl Into<JobId>,
    ) -> Result<ChildResults<R>> {
        let processed = self.dependencies(parent, DependencyKind::Processed)?;
        processed.results().await
    }

    /// Reads why children of a job failed that let it continue, by child. As
    /// [`Job::ignored_failures`](crate::Job::ignored_failures).
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getIgnoredChildrenFailures")]
    pub async fn ignored_failures(
        &self,
        parent: impl Into<JobId>,
    ) -> Result<BTreeMap<JobKey, String>> {
        let ignored = self.dependencies(parent, DependencyKind::Ignored)?;
        ignored.reasons().await
    }

    /// Reads when children of a job failed that fail it, by child. As
    /// [`Job::failed_children`](crate::Job::failed_children).
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn failed_children(
        &self,
        parent: impl Into<JobId>,
    ) -> Result<BTreeMap<JobKey, Timestamp>> {
        let failed = self.dependencies(parent, DependencyKind::Failed)?;
        failed.failures().await
    }

    /// Walks over the children of one kind, in bounded steps.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) when the id is a key of the queue.
    #[doc(alias = "getDependencies")]
    pub fn dependencies(
        &self,
        parent: impl Into<JobId>,
        kind: DependencyKind,
    ) -> Result<Dependencies> {
        let reader = Arc::new(self.store().clone());
        Ok(Dependencies::new(reader, named(parent)?, kind))
    }

    /// Reads one page of the children of one kind: about `count` of them, of few children all. For
    /// readers that come back with the cursor, such as APIs; within one process
    /// [`dependencies`](Self::dependencies) is simpler.
    ///
    /// Over all pages it holds what a [walk](Dependencies) promises.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a count of 0; connection errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::{DependencyCursor, DependencyKind};
    ///
    /// let kind = DependencyKind::Ignored;
    /// let page = queue.dependency_page("report-7", kind, DependencyCursor::START, 20).await?;
    /// if let Some(next) = page.next {
    ///     let _more = queue.dependency_page("report-7", kind, next, 20).await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dependency_page(
        &self,
        parent: impl Into<JobId>,
        kind: DependencyKind,
        from: DependencyCursor,
        count: u32,
    ) -> Result<DependencyPage> {
        let request = PageRequest::checked(kind, from, count)?;
        self.store().dependency_page(&named(parent)?, request).await
    }

    /// Counts the children of each kind at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getDependenciesCount")]
    pub async fn dependency_counts(&self, parent: impl Into<JobId>) -> Result<DependencyCounts> {
        self.store().dependency_counts(&named(parent)?).await
    }
}
