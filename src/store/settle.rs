//! Calls whose outcome is settled: after a lost answer the call is repeated, in a form that recognises its
//! earlier execution, until the outcome is known.
//!
//! Adds with an id of their own and upserts of schedulers are settled here, and flows in `flow.rs`. Results of attempts are settled
//! by the worker, which does not give up while a job's lock may last; which errors are worth a repetition
//! is one decision for both ([`CallError::may_pass`]).

use std::time::Duration;

use crate::client::CallError;
use crate::clock::Timestamp;
use crate::error::{Error, Result, SharedError};
use crate::job::{Added, JobId};
use crate::store::replay::{EnqueueReplay, UpsertReplay};
use crate::store::{Enqueue, NewRecord, Store, UpsertScheduler, reply};

/// How long a call is repeated: Redis comes back from a restart or a failover in that time, and a
/// caller waits no longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How far our clock may be ahead of the server's, in milliseconds.
const CLOCK_ERROR: i64 = 100;

/// A call in the form that recognises its earlier execution.
pub(super) trait Replay {
    /// What the call returns.
    type Reply;

    /// Makes the call once.
    fn call(
        &mut self,
        store: &Store,
    ) -> impl Future<Output = Result<Self::Reply, CallError>> + Send;
}

impl Store {
    /// Stores and queues jobs in one call. Returns the outcome of each, in order.
    ///
    /// After a lost answer, jobs with an id of their own are asked for again. The others end as
    /// [`Error::Indeterminate`], because asking again could store them twice.
    pub(crate) async fn enqueue(&self, jobs: Vec<NewRecord>) -> Vec<Result<Added>> {
        let since = earliest_event(self.clock().now());
        let lost = match self.enqueue_once(&jobs).await {
            Ok(outcomes) => return outcomes,
            Err(CallError::Unknown(error)) => error,
            Err(CallError::NotExecuted(error) | CallError::Answered(error)) => {
                return repeat_error(error, jobs.len());
            }
        };
        let mut outcomes = repeat_error(lost, jobs.len());
        let (jobs, places): (Vec<_>, Vec<_>) = jobs
            .into_iter()
            .enumerate()
            .filter(|(_, job)| job.id.is_some())
            .map(|(place, job)| (job, place))
            .unzip();
        if jobs.is_empty() {
            return outcomes;
        }
        let replay = EnqueueReplay { jobs: &jobs, since };
        let settled = match self.settle(replay).await {
            Ok(settled) => settled,
            Err(error) => repeat_error(error, places.len()),
        };
        for (place, settled) in places.into_iter().zip(settled) {
            if let Some(outcome) = outcomes.get_mut(place) {
                *outcome = settled;
            }
        }
        outcomes
    }

    /// Stores and queues one job, as [`enqueue`](Self::enqueue).
    pub(crate) async fn enqueue_alone(&self, job: NewRecord) -> Result<Added> {
        let since = earliest_event(self.clock().now());
        let jobs = std::slice::from_ref(&job);
        let mut outcomes = match self.enqueue_once(jobs).await {
            Ok(outcomes) => outcomes,
            // What is rare has no room in the future of every add.
            Err(CallError::Unknown(_)) if job.id.is_some() => {
                Box::pin(self.settle(EnqueueReplay { jobs, since })).await?
            }
            Err(error) => return Err(error.into()),
        };
        let outcome = outcomes.pop();
        outcome.unwrap_or_else(|| Err(reply::unexpected("enqueue")))
    }

    /// Stores and queues jobs.
    async fn enqueue_once(&self, jobs: &[NewRecord]) -> Result<Vec<Result<Added>>, CallError> {
        let call = Enqueue {
            jobs,
            history: None,
        };
        let outcomes = self.attempt(&call).await?;
        outcomes.ok_or_else(|| CallError::Answered(reply::unexpected("enqueue")))
    }

    /// Writes a scheduler's definition and adds its iteration. Returns the iteration and its
    /// occurrence.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`]; connection errors; [`Error::Indeterminate`] when the outcome could not be
    /// settled.
    pub(crate) async fn upsert_scheduler(
        &self,
        upsert: &mut UpsertScheduler<'_>,
    ) -> Result<(JobId, Timestamp)> {
        let since = earliest_event(upsert.now);
        match self.attempt(&*upsert).await {
            Ok(Some(made)) => Ok(made),
            Ok(None) => Err(reply::unexpected("upsert_scheduler")),
            Err(CallError::Unknown(_)) => self.settle(UpsertReplay { upsert, since }).await,
            Err(error) => Err(error.into()),
        }
    }

    /// Repeats a call whose answer was lost until there is an answer, for up to 30 s.
    ///
    /// # Errors
    ///
    /// What the script itself refuses. Every other error says nothing about the earlier execution,
    /// so that the outcome stays [`Error::Indeterminate`]; those that do not pass by themselves, and
    /// a closed client, end the attempts at once.
    pub(super) async fn settle<R: Replay>(&self, mut replay: R) -> Result<R::Reply> {
        let mut retry = self.connection().retry().within(TIMEOUT);
        loop {
            let error = match replay.call(self).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let may_pass = error.may_pass();
            let lost = match error {
                CallError::Answered(error @ Error::Refused { .. }) => return Err(error),
                CallError::Unknown(error) => error,
                CallError::NotExecuted(error) | CallError::Answered(error) => {
                    Error::Indeterminate(error.into())
                }
            };
            if !may_pass || !retry.pause().await {
                return Err(lost);
            }
        }
    }
}

/// The earliest time, by the server's clock, that an event of a call made now can have.
pub(super) fn earliest_event(now: Timestamp) -> Timestamp {
    Timestamp::from_millis(now.as_millis().saturating_sub(CLOCK_ERROR))
}

/// Gives every job of a failed call its own copy of the error.
fn repeat_error<T>(error: Error, count: usize) -> Vec<Result<T>> {
    let shared = SharedError::new(error);
    (0..count).map(|_| Err(shared.copy())).collect()
}
