//! Deleting jobs.

use crate::error::Result;
use crate::job::JobId;
use crate::queue::{Queue, named};
use crate::telemetry::Operation;

impl<D> Queue<D> {
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
        self.remove_with(&named(id)?, true).await
    }

    /// Deletes a job and leaves its children, which then end without effect on a parent.
    ///
    /// # Errors
    ///
    /// As [`remove`](Self::remove).
    pub async fn remove_only(&self, id: impl Into<JobId>) -> Result<bool> {
        self.remove_with(&named(id)?, false).await
    }

    async fn remove_with(&self, id: &JobId, children: bool) -> Result<bool> {
        let options = if children {
            r#"{"removeChildren":true}"#
        } else {
            r#"{"removeChildren":false}"#
        };
        let span = Operation::new(self.name().as_str(), "remove")
            .text("bullmq.job.id", id)
            .text("bullmq.job.options", options);
        span.around(self.store().remove_job(id, children)).await
    }
}
