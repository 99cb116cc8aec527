//! An attempt at a job, from the moment the job is active to what is reported of it:
//!
//! 1. *run* (`execute.rs`): the handler runs behind its layers and yields an `AttemptOutcome`;
//! 2. *conclude*: the job's options and the worker's rules turn it into a `Conclusion`, which is what
//!    Redis stores;
//! 3. *settle* (`call.rs`): Redis stores it or refuses it, a `Settlement`; a refusal may conclude the
//!    attempt again;
//! 4. *report*: log line, `WorkerEvent` and metrics, once the settlement is known.
//!
//! Workers and [`ManualWorker`](super::ManualWorker) share these steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Throttle, is_outage};
use crate::clock::Clock;
use crate::error::{Chain, Error, Refusal};
use crate::job::{JobError, JobId, JobRecord, Outcome};
use crate::metrics;
use crate::policy::{self, AfterRefusal, AttemptOutcome, Conclusion, WorkerRules};
use crate::store::{AttemptResult, LockToken};
use crate::worker::backoff::Strategies;
use crate::worker::events::{EventSender, WorkerEvent};

/// Names one activation of a job: the lock token of each call is new, and a call starts a job once.
pub(super) type Activation = (JobId, LockToken);

/// One activation of a job by this worker.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) record: Arc<JobRecord>,
    pub(super) token: LockToken,
    pub(super) since: Instant,
}

impl Attempt {
    pub(super) fn new(record: JobRecord, token: &LockToken) -> Self {
        Self {
            record: Arc::new(record),
            token: token.clone(),
            since: Instant::now(),
        }
    }

    pub(super) fn activation(&self) -> Activation {
        (self.record.id.clone(), self.token.clone())
    }
}

/// An attempt that is over, with what is to be stored for it.
#[derive(Debug)]
pub(super) struct Concluded {
    pub(super) attempt: Attempt,
    pub(super) result: AttemptResult,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// How long the handler wants no job to be started.
    pub(super) limit: Option<Duration>,
    /// What the handler failed with, or what failed instead of it.
    pub(super) error: Option<Arc<JobError>>,
}

/// What became of a result.
#[derive(Debug)]
pub(super) enum Settlement {
    /// Redis has it.
    Stored,
    /// Redis declined it and said why; nothing of it is stored.
    Refused(Refusal),
    /// The reply was lost and the job has moved on: whether Redis stored it is unknown.
    Unknown,
    /// Redis left it for another call, because very many jobs are active.
    TryAgain,
    /// Redis answered with an error for so long that the job's lock has expired.
    Abandoned(Error),
}

/// Turns outcomes of attempts into conclusions.
#[derive(Debug, Clone)]
pub(super) struct Concluder {
    pub(super) rules: WorkerRules,
    pub(super) strategies: Strategies,
    pub(super) clock: Clock,
}

impl Concluder {
    /// Decides what is to be stored for an attempt, with the job's own backoff strategy where it
    /// names one.
    pub(super) async fn conclude(&self, attempt: Attempt, outcome: AttemptOutcome) -> Concluded {
        let custom_wait = match &outcome {
            AttemptOutcome::Failed(error) => self.strategies.wait(&attempt.record, error).await,
            AttemptOutcome::Returned(_) | AttemptOutcome::NotRun | AttemptOutcome::Skipped(_) => {
                None
            }
        };
        let job = policy::Attempt {
            job: &attempt.record,
            rules: &self.rules,
        };
        let now = self.clock.now();
        let conclusion = policy::conclude(job, &outcome, now, fastrand::f64(), custom_wait);
        let limit = match outcome {
            AttemptOutcome::Returned(Outcome::RateLimited(wait)) => Some(wait),
            _ => None,
        };
        let error = match &outcome {
            AttemptOutcome::Failed(error) => Some(Arc::clone(error)),
            AttemptOutcome::Returned(_) | AttemptOutcome::NotRun | AttemptOutcome::Skipped(_) => {
                None
            }
        };
        Concluded {
            limit,
            error,
            ..Concluded::new(attempt, conclusion)
        }
    }
}

impl Concluded {
    pub(super) fn new(attempt: Attempt, conclusion: Conclusion) -> Self {
        Self {
            result: AttemptResult {
                job: attempt.record.id.clone(),
                token: attempt.token.clone(),
                starts: attempt.record.attempts_started,
                stalls: attempt.record.stalled,
                conclusion,
            },
            took: attempt.since.elapsed(),
            limit: None,
            error: None,
            attempt,
        }
    }

    /// Concludes an activation whose handler has not run: it is undone.
    pub(super) fn not_run(attempt: Attempt) -> Self {
        Self::new(attempt, Conclusion::Return)
    }

    /// Returns the error by which Redis could not serve the handler, if that is what happened.
    pub(super) fn outage(&self) -> Option<&JobError> {
        let error = self.error.as_deref()?;
        (error.is_postponed() && is_outage(error.error())).then_some(error)
    }

    /// Returns the outcome that replaces the refused one, if the job is still this worker's.
    pub(super) fn after_refusal(&self, refusal: Refusal) -> Option<AttemptOutcome> {
        match policy::after_refusal(&self.result.job, &self.result.conclusion, refusal) {
            AfterRefusal::Failed(error) => Some(AttemptOutcome::failed(error)),
            AfterRefusal::Lost => None,
        }
    }
}

/// Longest reason in a log line, in characters.
const REASON_MAX: usize = 512;

/// Reports attempts: to the log, and to whoever listens in this process.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) queue: Arc<str>,
    pub(super) events: EventSender,
    unknowns: Throttle,
    refusals: Throttle,
    postponed: Throttle,
}

impl Reporter {
    pub(super) fn new(queue: Arc<str>, events: EventSender) -> Self {
        Self {
            queue,
            events,
            unknowns: Throttle::default(),
            refusals: Throttle::default(),
            postponed: Throttle::default(),
        }
    }

    /// Reports that an attempt has begun.
    pub(super) fn started(&self, attempt: &Attempt) {
        metrics::started(&self.queue, &attempt.record);
        self.events.send(|| WorkerEvent::Active {
            id: attempt.record.id.clone(),
            name: attempt.record.name.as_str().into(),
            attempt: attempt.record.attempts_started,
        });
    }

    /// Reports a result that Redis has stored.
    pub(super) fn stored(&self, concluded: Concluded) {
        metrics::ended(&self.queue, &concluded.result.conclusion, concluded.took);
        match &concluded.result.conclusion {
            Conclusion::Fail { reason, .. } => self.failed(&concluded, reason),
            Conclusion::Retry { reason, .. } => self.retried(&concluded, reason, Duration::ZERO),
            Conclusion::Backoff { reason, delay, .. } => self.retried(&concluded, reason, *delay),
            Conclusion::Postpone { reason, delay } => self.postponed(&concluded, reason, *delay),
            Conclusion::Complete { .. }
            | Conclusion::Skip { .. }
            | Conclusion::Park { .. }
            | Conclusion::Release
            | Conclusion::Return
            | Conclusion::WaitForChildren => {}
        }
        let Concluded {
            attempt,
            result,
            took,
            ..
        } = concluded;
        self.events.send(|| event_of(&attempt, result, took));
    }

    fn failed(&self, concluded: &Concluded, reason: &str) {
        let job = &concluded.attempt.record;
        tracing::warn!(
            queue = %self.queue,
            job = %job.id,
            name = %job.name,
            attempt = job.attempts_made.saturating_add(1),
            of = job.options.attempts.unwrap_or(1).max(1),
            fatal = concluded.error.as_ref().is_some_and(|error| error.is_fatal()),
            reason = with_causes(reason, concluded),
            took = ?concluded.took,
            "job failed"
        );
    }

    fn retried(&self, concluded: &Concluded, reason: &str, wait: Duration) {
        let job = &concluded.attempt.record;
        tracing::info!(
            queue = %self.queue,
            job = %job.id,
            name = %job.name,
            attempt = job.attempts_made.saturating_add(1),
            of = job.options.attempts.unwrap_or(1),
            reason = with_causes(reason, concluded),
            took = ?concluded.took,
            next_attempt_in = ?wait,
            "attempt failed; the job is retried"
        );
    }

    fn postponed(&self, concluded: &Concluded, reason: &str, delay: Duration) {
        if let Some(suppressed) = self.postponed.admit() {
            let job = &concluded.attempt.record;
            tracing::warn!(
                queue = %self.queue,
                job = %job.id,
                name = %job.name,
                reason = with_causes(reason, concluded),
                next_attempt_in = ?delay,
                suppressed,
                "handler could not do its work; the job is postponed and no attempt is counted"
            );
        }
    }

    /// Reports a result that Redis refused because the job is no longer this worker's.
    pub(super) fn lost(&self, concluded: &Concluded, refusal: Refusal) {
        let id = &concluded.result.job;
        if let Some(suppressed) = self.refusals.admit() {
            tracing::warn!(
                queue = %self.queue,
                job = %id,
                name = %concluded.attempt.record.name,
                reason = %refusal,
                suppressed,
                "result refused; nothing of it is stored"
            );
        }
        self.refused(id, refusal);
    }

    /// Emits that the result of an attempt was refused.
    pub(super) fn refused(&self, id: &JobId, reason: Refusal) {
        self.events.send(|| WorkerEvent::Refused {
            id: id.clone(),
            reason,
        });
    }

    /// Reports a result of which it is unknown whether Redis has stored it.
    pub(super) fn unknown(&self, concluded: &Concluded) {
        // Nothing was to be stored about a handler that did not run.
        if matches!(concluded.result.conclusion, Conclusion::Return) {
            return;
        }
        if let Some(suppressed) = self.unknowns.admit() {
            tracing::warn!(
                queue = %self.queue,
                job = %concluded.result.job,
                name = %concluded.attempt.record.name,
                suppressed,
                "answer was lost and the job has moved on; its result may not be stored"
            );
        }
    }
}

/// The local event of a stored result.
fn event_of(attempt: &Attempt, result: AttemptResult, took: Duration) -> WorkerEvent {
    let id = result.job;
    let failed = |id, reason: String, retries| WorkerEvent::Failed {
        id,
        reason: reason.into(),
        retries,
        record: Arc::clone(&attempt.record),
        took,
    };
    match result.conclusion {
        Conclusion::Complete { value, .. } | Conclusion::Skip { value, .. } => {
            WorkerEvent::Completed {
                id,
                result: value.into(),
                took,
            }
        }
        Conclusion::Fail { reason, .. } => failed(id, reason, false),
        Conclusion::Retry { reason, .. } | Conclusion::Backoff { reason, .. } => {
            failed(id, reason, true)
        }
        Conclusion::Park { .. }
        | Conclusion::Release
        | Conclusion::WaitForChildren
        | Conclusion::Return
        | Conclusion::Postpone { .. } => WorkerEvent::Deferred { id },
    }
}

/// Adds the causes of an error to its reason, and cuts both to what a log line should hold.
fn with_causes(reason: &str, concluded: &Concluded) -> String {
    let causes = concluded.error.as_ref().and_then(|error| {
        let cause = error.error().source()?;
        Some(format!("{reason}: {}", Chain(cause)))
    });
    let mut text = causes.unwrap_or_else(|| reason.to_owned());
    if let Some((end, _)) = text.char_indices().nth(REASON_MAX) {
        text.truncate(end);
    }
    text
}
