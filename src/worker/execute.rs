//! Running one attempt: through the layers to the handler, within its timeout, until it is
//! cancelled.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::client::Throttle;
use crate::error::{Chain, Result};
use crate::job::{Action, Actions, AttemptError, JobError, JobId, JobRecord, Outcome};
use crate::policy::AttemptOutcome;
use crate::store::{AddLog, LimitRate, LockToken, Store, UpdateData, UpdateProgress};
use crate::worker::attempt::{Attempt, Concluded, Concluder};
use crate::worker::events::{EventSender, WorkerEvent};
use crate::worker::handler::{Cancellation, JobCall, JobReply, JobService, answer};
use crate::worker::iteration::Iterations;

/// Why an attempt is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The lock is gone: another worker may run the job.
    LockLost,
    /// The worker shuts down; the handler may clean up for this long.
    Shutdown(Duration),
    /// The application asked for it; the handler may clean up for this long.
    Requested(Duration),
}

/// Cancels an attempt, once, for a cause.
#[derive(Debug, Clone, Default)]
pub(super) struct Canceller {
    token: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Canceller {
    /// Cancels the attempt; the first cause counts.
    pub(super) fn cancel(&self, cause: Cause) {
        // A second cause changes nothing: the attempt is ending already.
        self.cause.set(cause).ok();
        self.token.cancel();
    }

    /// Says whether the attempt is cancelled, and why.
    pub(super) fn cancelled(&self) -> Option<Cause> {
        self.token.is_cancelled().then(|| self.cause())
    }

    /// Waits this long.
    ///
    /// # Errors
    ///
    /// The cause, as soon as the attempt is cancelled.
    pub(super) async fn wait(&self, wait: Duration) -> Result<(), Cause> {
        match tokio::time::timeout(wait, self.token.cancelled()).await {
            Ok(()) => Err(self.cause()),
            Err(_) => Ok(()),
        }
    }

    fn cause(&self) -> Cause {
        self.cause.get().copied().unwrap_or(Cause::LockLost)
    }
}

/// How an attempt left its task.
#[derive(Debug)]
pub(super) enum Exit {
    /// The attempt ended, and this is to be written.
    Concluded(Concluded),
    /// The job belongs to somebody else: nothing may be written.
    LockLost,
}

/// Everything an attempt needs beside its job.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) store: Store,
    pub(super) service: JobService,
    pub(super) timeout: Option<Duration>,
    pub(super) max_started: Option<u32>,
    /// The number of jobs in the worker's own rate limit.
    pub(super) limit: Option<u32>,
    pub(super) queue: Arc<str>,
    pub(super) iterations: Iterations,
    pub(super) conclude: Arc<Concluder>,
    pub(super) events: EventSender,
    /// One line a second: a producer's mistake is in all of its jobs.
    pub(super) unreadable: Arc<Throttle>,
}

impl Runner {
    /// Runs one attempt to its conclusion.
    pub(super) async fn run(self, attempt: Attempt, cancellation: Canceller) -> Exit {
        match self.end_of(&attempt, &cancellation).await {
            Some(end) => self.conclude(attempt, end).await,
            None => Exit::LockLost,
        }
    }

    /// Concludes an attempt that has ended.
    pub(super) async fn conclude(self, attempt: Attempt, end: AttemptOutcome) -> Exit {
        Exit::Concluded(self.conclude.conclude(attempt, end).await)
    }

    /// Runs the handler and returns how the attempt ended; `None` when the lock was lost.
    async fn end_of(&self, attempt: &Attempt, cancellation: &Canceller) -> Option<AttemptOutcome> {
        let Attempt { record, token, .. } = attempt;
        match self.iterations.begin(record, token, cancellation).await {
            Ok(None) => {}
            Ok(Some(end)) => return Some(end),
            Err(Cause::LockLost) => return None,
            Err(Cause::Shutdown(_) | Cause::Requested(_)) => return Some(AttemptOutcome::NotRun),
        }
        if let Some(error) = self.preflight_check(record) {
            return Some(AttemptOutcome::failed(error.at(None)));
        }
        let span = tracing::info_span!(
            "job",
            queue = %self.queue,
            id = %record.id,
            name = %record.name,
            attempt = record.attempts_started,
        );
        let call = JobCall {
            actions: Arc::new(StoreActions {
                store: self.store.clone(),
                limit: self.limit,
                token: token.clone(),
                events: self.events.clone(),
            }),
            cancellation: Cancellation(cancellation.token.child_token()),
            record: Arc::clone(record),
        };
        // Dropped with the attempt, so that work the handler spawned ends too.
        let _stop_spawned = call.cancellation.0.clone().drop_guard();
        let service = self.service.clone();
        let handling = answer(service, call).instrument(span);
        tokio::pin!(handling);
        let timeout = async {
            match self.timeout {
                Some(timeout) => {
                    tokio::time::sleep(timeout).await;
                    timeout
                }
                None => std::future::pending().await,
            }
        };
        let reply = tokio::select! {
            biased;
            () = cancellation.token.cancelled() => {
                let (grace, dropped) = match cancellation.cause() {
                    Cause::LockLost => return None,
                    Cause::Shutdown(grace) => (grace, AttemptOutcome::Returned(Outcome::Release)),
                    Cause::Requested(grace) => {
                        let error = JobError::retry(AttemptError::Cancelled);
                        (grace, AttemptOutcome::failed(error.at(None)))
                    }
                };
                match tokio::time::timeout(grace, &mut handling).await {
                    Ok(reply) => reply,
                    Err(_) => return Some(dropped),
                }
            }
            reply = &mut handling => reply,
            timeout = timeout => {
                let error = JobError::retry(AttemptError::TimedOut(timeout));
                return Some(AttemptOutcome::failed(error.at(None)));
            }
        };
        Some(self.end_by_reply(reply).await)
    }

    /// Reads what came back through the layers.
    async fn end_by_reply(&self, reply: Result<JobReply, JobError>) -> AttemptOutcome {
        match reply {
            Ok(reply) => {
                // Before the job goes back: nobody must take it in between.
                if let Outcome::RateLimited(wait) = reply.0
                    && let Err(error) = self.store.run(&LimitRate::new(wait, self.limit)).await
                {
                    let error = Chain(&error);
                    tracing::warn!(queue = %self.queue, %error, "rate limit was not stored");
                }
                AttemptOutcome::Returned(reply.0)
            }
            Err(error) => AttemptOutcome::failed(error),
        }
    }

    /// Says why the handler must not run, if so (`docs/protocol.md#ends-of-attempts`).
    fn preflight_check(&self, record: &JobRecord) -> Option<JobError> {
        if let Some(reason) = &record.deferred_failure {
            return Some(JobError::fatal(reason.clone()));
        }
        self.warn_of_unreadable(record);
        if self
            .max_started
            .is_some_and(|max| max > 0 && max < record.attempts_started)
        {
            return Some(JobError::fatal("job started more than allowable limit"));
        }
        None
    }

    /// Tells of options and fields that count as absent because they cannot be read.
    fn warn_of_unreadable(&self, record: &JobRecord) {
        if !record.problems.is_empty()
            && let Some(suppressed) = self.unreadable.admit()
        {
            tracing::warn!(
                queue = %self.queue,
                job = %record.id,
                suppressed,
                problems = %record.problems.join("; "),
                "job has options or fields that cannot be read; it runs, by what can be made of them",
            );
        }
    }
}

/// A job's actions, carried out by the store.
struct StoreActions {
    store: Store,
    limit: Option<u32>,
    token: LockToken,
    events: EventSender,
}

impl Actions for StoreActions {
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
                Action::Limit(wait) => {
                    let limit = LimitRate::checked(wait, self.limit)?;
                    let left = self.store.run(&limit).await?;
                    Ok(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
                }
            }
        })
    }
}
