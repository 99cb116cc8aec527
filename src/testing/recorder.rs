//! What a handler does through its job.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::{Error, Refusal, Result};
use crate::job::{
    Action, Actions, Dependency, DependencyCounts, DependencyPage, DependencyState, JobId,
    PageRequest, ReadDependencies,
};
use crate::store::LimitRate;

/// Records the actions of a handler.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<Recorded>);

#[derive(Debug, Default)]
pub(super) struct Recorded {
    /// JSON text, oldest first.
    pub(super) progress: Vec<String>,
    pub(super) logs: Vec<String>,
    /// JSON text.
    pub(super) data: Option<String>,
    pub(super) limits: Vec<Duration>,
    /// What the job knows of its children.
    pub(super) children: Vec<Dependency>,
    /// With what every action is refused.
    pub(super) refusal: Option<Refusal>,
}

impl Recorder {
    pub(super) fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, job: &JobId, action: Action) -> Result<u64> {
        let mut recorded = self.lock();
        if let Some(source) = recorded.refusal {
            let job = job.clone();
            return Err(Error::Refused { job, source });
        }
        match action {
            Action::Progress(progress) => recorded.progress.push(progress),
            Action::Data(data) => recorded.data = Some(data),
            Action::Log { row, keep } => {
                recorded.logs.push(row);
                let rows = recorded.logs.len();
                if let Ok(keep @ 1..) = usize::try_from(keep) {
                    recorded.logs.drain(..rows.saturating_sub(keep));
                }
                return Ok(u64::try_from(recorded.logs.len()).unwrap_or(u64::MAX));
            }
            Action::RemoveUnprocessedChildren => {
                let before = recorded.children.len();
                let stays = |child: &Dependency| child.state != DependencyState::Unprocessed;
                recorded.children.retain(stays);
                let removed = before - recorded.children.len();
                return Ok(u64::try_from(removed).unwrap_or(u64::MAX));
            }
            Action::Limit(wait) => {
                LimitRate::checked(wait, None)?;
                recorded.limits.push(wait);
                return Ok(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            }
        }
        Ok(0)
    }
}

impl ReadDependencies for Recorder {
    fn dependency_page<'a>(
        &'a self,
        _: &'a JobId,
        request: PageRequest,
    ) -> BoxFuture<'a, Result<DependencyPage>> {
        let recorded = self.lock();
        let of_kind = |child: &&Dependency| child.state.kind() == request.kind;
        let dependencies = recorded.children.iter().filter(of_kind).cloned().collect();
        let page = DependencyPage {
            dependencies,
            next: None,
        };
        Box::pin(std::future::ready(Ok(page)))
    }

    fn dependency_counts<'a>(&'a self, _: &'a JobId) -> BoxFuture<'a, Result<DependencyCounts>> {
        let recorded = self.lock();
        let mut counts = DependencyCounts::default();
        for child in &recorded.children {
            *counts.of_mut(child.state.kind()) += 1;
        }
        Box::pin(std::future::ready(Ok(counts)))
    }
}

impl Actions for Recorder {
    fn queue(&self) -> &'static str {
        "bull:test"
    }

    fn run<'a>(&'a self, job: &'a JobId, action: Action) -> BoxFuture<'a, Result<u64>> {
        Box::pin(std::future::ready(self.record(job, action)))
    }
}
