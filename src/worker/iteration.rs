//! The first step of an attempt at a scheduler's iteration: the schedule is advanced before the
//! handler runs, so that it never depends on how the attempt ends.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::client::{Throttle, Waits};
use crate::error::{Chain, Error, Result};
use crate::job::{JobId, JobRecord};
use crate::policy::AttemptOutcome;
use crate::store::{ExtendLocks, LockToken, Store};
use crate::telemetry;
use crate::wire::scheduler_of;
use crate::worker::attempt::Attempt;
use crate::worker::cancel::{Canceller, Cause};
use crate::worker::events::{EventSender, WorkerEvent};
use crate::worker::schedules::{self, Advance};

/// Advances schedules for one worker.
#[derive(Clone)]
pub(super) struct Iterations {
    pub(super) store: Store,
    pub(super) events: EventSender,
    pub(super) queue: Arc<str>,
    pub(super) lock_duration: Duration,
    /// One line a second: every iteration of a broken schedule would have one.
    pub(super) trouble: Arc<Throttle>,
}

impl Iterations {
    /// Makes the next iteration of the schedule that made the job, if one did. Returns how the attempt
    /// ends when its handler must not run.
    ///
    /// # Errors
    ///
    /// The cause, when the attempt was cancelled meanwhile.
    pub(super) async fn begin(
        &self,
        attempt: &Attempt,
        cancellation: &Canceller,
    ) -> Result<Option<AttemptOutcome>, Cause> {
        let Attempt {
            record: job,
            token,
            span,
            ..
        } = attempt;
        let Some(scheduler) = scheduler_of(job) else {
            return Ok(None);
        };
        // Few jobs are iterations: the others' attempts need not have room for this.
        match Box::pin(self.advance(job, &scheduler, token, cancellation)).await? {
            Ok(Advance {
                problem,
                mismatch,
                running,
                made,
            }) => {
                if let Some(made) = made {
                    span.in_scope(|| iteration_made(&self.queue, &scheduler, &job.name, &made));
                }
                for problem in [problem, mismatch].into_iter().flatten() {
                    self.report(&problem);
                }
                Ok(running.map(|running| {
                    self.skip(job, &running);
                    AttemptOutcome::Skipped(skipped(&running))
                }))
            }
            // The job runs: it can do no better by waiting, and the lock renewer's check tries again.
            Err(error) => {
                self.report(&format!(
                    "scheduler {scheduler} was not advanced by job {}: {}",
                    job.id,
                    Chain(&error)
                ));
                Ok(None)
            }
        }
    }

    /// Takes the step until Redis answers it, or the attempt is cancelled.
    async fn advance(
        &self,
        job: &JobRecord,
        scheduler: &str,
        token: &LockToken,
        cancellation: &Canceller,
    ) -> Result<Result<Advance>, Cause> {
        let since = Instant::now();
        let mut waits = Waits::new();
        loop {
            let advanced = schedules::advance(&self.store, job, scheduler).await;
            if let Some(cause) = cancellation.cancelled() {
                return Err(cause);
            }
            match advanced {
                Err(error) if error.is_transient() => {}
                settled if since.elapsed() < self.lock_duration / 3 => return Ok(settled),
                // With the lock goes the right to start. After an outage it may have expired
                // without the lock renewer's knowing.
                settled => match self.holds(job, token).await {
                    Ok(false) => return Err(Cause::LockLost),
                    Err(error) if error.is_transient() => {}
                    Ok(true) | Err(_) => return Ok(settled),
                },
            }
            cancellation.wait(waits.next()).await?;
        }
    }

    /// Returns whether the job's lock is still this worker's, and renews it if so.
    async fn holds(&self, job: &JobRecord, token: &LockToken) -> Result<bool> {
        let renewal = ExtendLocks {
            duration: self.lock_duration,
            locks: &[(job.id.clone(), token.clone())],
        };
        Ok(self.store.run(&renewal).await?.is_empty())
    }

    fn skip(&self, job: &JobRecord, running: &JobId) {
        tracing::info!(queue = %self.queue, job = %job.id, %running, "iteration skipped: an earlier one still runs");
        self.events.send(|| WorkerEvent::Skipped {
            id: job.id.clone(),
            running: running.clone(),
        });
    }

    fn report(&self, problem: &str) {
        if let Some(suppressed) = self.trouble.admit() {
            tracing::warn!(queue = %self.queue, suppressed, "{problem}");
            self.events.send(|| WorkerEvent::Trouble {
                message: problem.into(),
            });
        }
    }
}

/// Marks the making of an iteration.
fn iteration_made(queue: &str, scheduler: &str, name: &str, id: &JobId) {
    telemetry::made(&telemetry::add_iteration(queue, scheduler, name), id);
}

/// The result of an iteration that was passed over because an earlier one runs.
pub(super) fn skipped(running: &JobId) -> String {
    json!({ "skipped": format!("{running} still runs") }).to_string()
}

/// Advances the schedule of a job fetched by hand. Returns the iteration in whose way it is.
pub(super) async fn advance_by_hand(
    store: &Store,
    queue: &str,
    job: &JobRecord,
    timeout: Duration,
) -> Result<Option<JobId>> {
    let Some(scheduler) = scheduler_of(job) else {
        return Ok(None);
    };
    let mut retry = store.connection().retry().within(timeout);
    loop {
        let error = match schedules::advance(store, job, &scheduler).await {
            Ok(Advance {
                problem,
                mismatch,
                running,
                made,
            }) => {
                if let Some(made) = made {
                    iteration_made(queue, &scheduler, &job.name, &made);
                }
                for problem in [problem, mismatch].into_iter().flatten() {
                    tracing::warn!(queue = store.keys().qualified(), "{problem}");
                }
                return Ok(running);
            }
            Err(error) => error,
        };
        if !error.is_transient() {
            let error = Chain(&error);
            tracing::warn!(queue = store.keys().qualified(), %scheduler, %error, "scheduler was not advanced");
            return Ok(None);
        }
        if !retry.pause().await {
            return Err(Error::Indeterminate(error.into()));
        }
    }
}
