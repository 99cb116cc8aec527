//! Deleting jobs.

use crate::error::Result;
use crate::job::JobId;
use crate::queue::{Queue, named};
use crate::store::{Drain, Drainable};

/// Which jobs [`Queue::drain`] deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DrainScope {
    /// Those that are ready to run, with and without a priority.
    #[default]
    Ready,
    /// Those and the delayed ones.
    ReadyAndDelayed,
}

impl<D> Queue<D> {
    /// Deletes the jobs that are ready to run, and with [`DrainScope::ReadyAndDelayed`] the delayed
    /// ones, in bounded steps, so that the server stays responsive. Pending iterations of job
    /// schedulers stay. Returns how many jobs were deleted.
    ///
    /// # Errors
    ///
    /// Connection errors, in an [`Error::Incomplete`](crate::Error::Incomplete) when some jobs are
    /// deleted. Safe to repeat.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::DrainScope;
    ///
    /// let deleted = queue.drain(DrainScope::ReadyAndDelayed).await?;
    /// println!("{deleted} jobs will not run");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, scope: DrainScope) -> Result<u64> {
        // In this order parents in other queues are released.
        let mut places = vec![Drainable::Wait, Drainable::Paused];
        if scope == DrainScope::ReadyAndDelayed {
            places.push(Drainable::Delayed);
        }
        places.push(Drainable::Prioritized);
        let mut deleted = 0;
        for from in places {
            let mut skip = 0;
            loop {
                let step = self.store().run(&Drain { from, skip }).await;
                let step = step.map_err(|error| match deleted {
                    0 => error,
                    _ => error.after(|| format!("{deleted} jobs were deleted")),
                })?;
                deleted += step.deleted;
                skip = step.skip;
                if !step.more {
                    break;
                }
            }
        }
        Ok(deleted)
    }

    /// Deletes a job and its children. Returns whether there was such a job.
    ///
    /// Up to about a hundred jobs are deleted in one step. A larger flow is deleted in bounded steps, so
    /// that the server stays responsive: first all locks are checked, then the job leaves its state, so
    /// that no worker starts it any more, and its children are deleted before it. A child that a
    /// worker starts between two steps is left to that worker; it ends without effect on a parent. If
    /// the call is dropped half way, the rest of the flow stays, with the job in no state: remove it
    /// again.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`](crate::Error::Refused) when a worker holds the job or a child that has not
    /// ended ([`Locked`](crate::Refusal::Locked)), or when a job scheduler needs it
    /// ([`SchedulerOwned`](crate::Refusal::SchedulerOwned)); connection errors, in an
    /// [`Error::Incomplete`](crate::Error::Incomplete) when a part of the flow is deleted.
    pub async fn remove(&self, id: impl Into<JobId>) -> Result<bool> {
        self.store().remove_job(&named(id)?, true).await
    }

    /// Deletes a job and leaves its children, which then end without effect on a parent.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    pub async fn remove_only(&self, id: impl Into<JobId>) -> Result<bool> {
        self.store().remove_job(&named(id)?, false).await
    }
}
