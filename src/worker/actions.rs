//! What a handler can do with its job while it runs.

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::job::{
    Action, Actions, DependencyCounts, DependencyPage, JobId, PageRequest, ReadDependencies,
};
use crate::store::{AddLog, LimitRate, LockToken, Store, UpdateData, UpdateProgress};
use crate::worker::events::{EventSender, WorkerEvent};

/// A job's actions, carried out by the store.
pub(super) struct StoreActions {
    pub(super) store: Store,
    /// The number of jobs in the worker's own rate limit.
    pub(super) limit: Option<u32>,
    pub(super) token: LockToken,
    pub(super) events: EventSender,
}

impl ReadDependencies for StoreActions {
    fn dependency_page<'a>(
        &'a self,
        parent: &'a JobId,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<DependencyPage>> {
        self.store.dependency_page(parent, request)
    }

    fn dependency_counts<'a>(
        &'a self,
        parent: &'a JobId,
    ) -> BoxFuture<'a, Result<DependencyCounts>> {
        self.store.dependency_counts(parent)
    }
}

impl Actions for StoreActions {
    fn queue(&self) -> &str {
        self.store.keys().qualified()
    }

    fn run<'a>(&'a self, job: &'a JobId, action: Action) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            match action {
                Action::Progress(progress) => {
                    let progress = &progress;
                    self.store.run(&UpdateProgress { job, progress }).await?;
                    self.events.send(|| WorkerEvent::Progress {
                        id: job.clone(),
                        progress: progress.as_str().into(),
                    });
                    Ok(0)
                }
                Action::Data(data) => {
                    let update = UpdateData {
                        job,
                        data: &data,
                        token: Some(&self.token),
                    };
                    self.store.run(&update).await?;
                    Ok(0)
                }
                Action::Log { row, keep } => {
                    let row = &row;
                    self.store.run(&AddLog { job, row, keep }).await
                }
                Action::RemoveUnprocessedChildren => {
                    self.store.remove_unprocessed_children(job).await
                }
                Action::Limit(wait) => {
                    let limit = LimitRate::checked(wait, self.limit)?;
                    let left = self.store.run(&limit).await?;
                    Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
                }
            }
        })
    }
}
