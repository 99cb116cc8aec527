//! Giving a running job children, and taking children from their parents.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::job::{Added, ChildPolicy, Job, JobId, JobOptions};
use crate::queue::{BulkAdded, NewJob, Queue, named};
use crate::store::RemoveChildDependency;

impl<D> Job<D> {
    /// Adds a job as a child of this one, which is in the hands of its handler; `on_failure` is what the
    /// child's final failure does to this job. The queue may be any.
    ///
    /// The handler may run again, and would add another child then: give children ids of their own, made
    /// from this job's. An id that exists is not added again, and joins this parent if it has no other.
    ///
    /// This job completes only when no child is pending. To wait for them, return
    /// [`Outcome::WaitForChildren`](crate::Outcome::WaitForChildren), which has an example.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the options name a parent; [`Error::Refused`] with
    /// [`ParentMissing`](crate::Refusal::ParentMissing) when this job has been removed, with
    /// [`ParentConflict`](crate::Refusal::ParentConflict) when a job of that id has another parent;
    /// otherwise as [`Queue::add_with`].
    ///
    /// # Cancel safety
    ///
    /// The child may be added although the call was dropped.
    pub async fn add_child<C: Serialize>(
        &self,
        queue: &Queue<C>,
        on_failure: ChildPolicy,
        name: impl Into<String>,
        data: &C,
        options: JobOptions,
    ) -> Result<Added> {
        let options = self.adopt(on_failure, options)?;
        queue.add_with(name, data, options).await
    }

    /// Adds many jobs as children of this one. As [`add_child`](Self::add_child) and
    /// [`Queue::add_bulk`].
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the options of one name a parent; otherwise as [`Queue::add_bulk`].
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::{ChildPolicy, Context, Job, JobId, JobOptions, JobResult, NewJob, Outcome, Queue};
    ///
    /// async fn split(job: Job<Vec<String>>, context: Context<Queue<String>>) -> JobResult<()> {
    ///     let mut photos = Vec::new();
    ///     for (n, photo) in job.data().iter().enumerate() {
    ///         let id = JobId::new(format!("{}-{n}", job.id()))?;
    ///         photos.push(NewJob::new("resize", photo.clone()).options(JobOptions::new().id(id)));
    ///     }
    ///     let added = job.add_children(context.state(), ChildPolicy::FailParent, photos).await?;
    ///     added.into_result()?;
    ///     Ok(Outcome::WaitForChildren)
    /// }
    /// ```
    pub async fn add_children<C: Serialize>(
        &self,
        queue: &Queue<C>,
        on_failure: ChildPolicy,
        jobs: impl IntoIterator<Item = NewJob<C>>,
    ) -> Result<BulkAdded> {
        let adopted = jobs.into_iter().map(|job| {
            let (name, data, options) = job.into_parts();
            let options = self.adopt(on_failure, options)?;
            Ok(NewJob::new(name, data).options(options))
        });
        queue.add_bulk(adopted.collect::<Result<Vec<_>>>()?).await
    }

    /// Names this job as the parent in the options of another.
    fn adopt(&self, on_failure: ChildPolicy, options: JobOptions) -> Result<JobOptions> {
        if options.parent.is_some() {
            return Err(Error::invalid(
                "parent",
                "must not be set for a child of the running job",
            ));
        }
        Ok(options.parent(self.as_parent().on_failure(on_failure)))
    }
}

impl<D> Queue<D> {
    /// Deletes the children that a job waits for, each with its own pending descendants, except those that
    /// a worker holds and those that have failed: they stay, and the job goes on waiting for them. A job
    /// that waits for nothing else is released. Returns how many jobs were deleted.
    ///
    /// Goes in bounded steps, so that the server stays responsive. A child with many descendants leaves its
    /// state before they are deleted; if the call is dropped half way, it stays behind, in no state:
    /// [remove](Self::remove) it.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`JobMissing`](crate::Refusal::JobMissing) when there is no such job;
    /// connection errors, in an [`Error::Incomplete`] when some children are deleted. Safe to repeat.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// let removed = queue.remove_unprocessed_children("report-7").await?;
    /// let left = queue.dependency_counts("report-7").await?.unprocessed;
    /// println!("{removed} jobs will not run, {left} children are running or have failed");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_unprocessed_children(&self, parent: impl Into<JobId>) -> Result<u64> {
        let parent = named(parent)?;
        self.store().remove_unprocessed_children(&parent).await
    }

    /// Breaks the link between a job of this queue and the parent that waits for it. The job stays as it
    /// is, and its end does not affect the parent any more; the parent is released if it waited for
    /// nothing else. Returns `false`, and changes nothing, when the parent does not wait for the job: it
    /// has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with [`JobMissing`](crate::Refusal::JobMissing) when there is no such job, with
    /// [`ParentMissing`](crate::Refusal::ParentMissing) when it has no parent or the parent does not
    /// exist; connection errors. Safe to repeat.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(photos: oxbull::Queue) -> oxbull::Result<()> {
    /// // The album no longer waits for this photo, which has failed.
    /// photos.remove_child_dependency("album-7-3").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn remove_child_dependency(&self, child: impl Into<JobId>) -> Result<bool> {
        let job = named(child)?;
        self.store().run(&RemoveChildDependency { job: &job }).await
    }
}
