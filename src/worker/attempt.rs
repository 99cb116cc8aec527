//! An attempt at a job, from the moment the job is active to what is reported of it:
//!
//! 1. *run* (`execute.rs`): the handler, behind its layers, ends the attempt somehow;
//! 2. *conclude*: by the job's options and the worker's rules, that end becomes what is to be written;
//! 3. *settle* (`call.rs`): Redis stores it, or declines; a refusal may conclude the attempt anew;
//! 4. *report*: log line, local event and metrics, once its outcome is known.
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
use crate::policy::{self, AfterRefusal, AttemptEnd, Ending, WorkerRules};
use crate::store::{Ended, LockToken};
use crate::worker::backoff::Strategies;
use crate::worker::events::{Announcer, WorkerEvent};

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

/// An attempt that has ended, with what is to be written about it.
#[derive(Debug)]
pub(super) struct Concluded {
    pub(super) attempt: Attempt,
    pub(super) ended: Ended,
    /// How long the attempt took.
    pub(super) took: Duration,
    /// How long the handler wants no job to be started.
    pub(super) limit: Option<Duration>,
    /// What the handler failed with, or what failed instead of it.
    pub(super) error: Option<Arc<JobError>>,
}

/// What became of what was to be written.
#[derive(Debug)]
pub(super) enum Settled {
    /// Redis has it.
    Stored,
    /// Redis declined it and said why; nothing of it is stored.
    Refused(Refusal),
    /// The answer was lost and the job has moved on: whether Redis had it cannot be told.
    Unknown,
    /// Redis has left it for another call, because very many jobs are active.
    NotLookedAt,
    /// Redis answered with an error for so long that the job's lock has expired.
    Abandoned(Error),
}

/// Decides what the end of an attempt writes.
#[derive(Debug, Clone)]
pub(super) struct Conclude {
    pub(super) rules: WorkerRules,
    pub(super) strategies: Strategies,
    pub(super) clock: Clock,
}

impl Conclude {
    /// Turns the end of an attempt into what is to be written, by the job's own backoff strategy
    /// where it names one.
    pub(super) async fn conclude(&self, attempt: Attempt, end: AttemptEnd) -> Concluded {
        let custom_wait = match &end {
            AttemptEnd::Failed(error) => self.strategies.wait(&attempt.record, error).await,
            AttemptEnd::Returned(_) | AttemptEnd::NotRun | AttemptEnd::Skipped(_) => None,
        };
        let job = policy::Attempt {
            job: &attempt.record,
            rules: &self.rules,
        };
        let now = self.clock.now();
        let ending = policy::settle(job, &end, now, fastrand::f64(), custom_wait);
        let limit = match end {
            AttemptEnd::Returned(Outcome::RateLimited(wait)) => Some(wait),
            _ => None,
        };
        let error = match &end {
            AttemptEnd::Failed(error) => Some(Arc::clone(error)),
            AttemptEnd::Returned(_) | AttemptEnd::NotRun | AttemptEnd::Skipped(_) => None,
        };
        Concluded {
            limit,
            error,
            ..Concluded::new(attempt, ending)
        }
    }
}

impl Concluded {
    pub(super) fn new(attempt: Attempt, ending: Ending) -> Self {
        Self {
            ended: Ended {
                job: attempt.record.id.clone(),
                token: attempt.token.clone(),
                starts: attempt.record.attempts_started,
                stalls: attempt.record.stalled,
                ending,
            },
            took: attempt.since.elapsed(),
            limit: None,
            error: None,
            attempt,
        }
    }

    /// An activation that is taken back: its handler has not run.
    pub(super) fn not_run(attempt: Attempt) -> Self {
        Self::new(attempt, Ending::Return)
    }

    /// Returns the error by which Redis could not serve the handler, if that is what happened.
    pub(super) fn outage(&self) -> Option<&JobError> {
        let error = self.error.as_deref()?;
        (error.is_postponed() && is_outage(error.error())).then_some(error)
    }

    /// Returns the end that the attempt has instead of the refused one, if it still has any.
    pub(super) fn after_refusal(&self, refusal: Refusal) -> Option<AttemptEnd> {
        match policy::after_refusal(&self.ended.job, &self.ended.ending, refusal) {
            AfterRefusal::Failed(error) => Some(AttemptEnd::failed(error)),
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
    pub(super) events: Announcer,
    unknowns: Throttle,
    refusals: Throttle,
    postponed: Throttle,
}

impl Reporter {
    pub(super) fn new(queue: Arc<str>, events: Announcer) -> Self {
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
        self.events.tell(|| WorkerEvent::Active {
            id: attempt.record.id.clone(),
            name: attempt.record.name.as_str().into(),
            attempt: attempt.record.attempts_started,
        });
    }

    /// Reports an end that Redis has stored.
    pub(super) fn stored(&self, concluded: Concluded) {
        metrics::ended(&self.queue, &concluded.ended.ending, concluded.took);
        match &concluded.ended.ending {
            Ending::Fail { reason, .. } => self.failed(&concluded, reason),
            Ending::Retry { reason, .. } => self.retried(&concluded, reason, Duration::ZERO),
            Ending::Backoff { reason, delay, .. } => self.retried(&concluded, reason, *delay),
            Ending::Postpone { reason, delay } => self.postponed(&concluded, reason, *delay),
            Ending::Complete { .. }
            | Ending::Skip { .. }
            | Ending::Park { .. }
            | Ending::Release
            | Ending::Return
            | Ending::WaitForChildren => {}
        }
        let Concluded {
            attempt,
            ended,
            took,
            ..
        } = concluded;
        self.events.tell(|| event_of(&attempt, ended, took));
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
        if let Some(skipped) = self.postponed.admit() {
            let job = &concluded.attempt.record;
            tracing::warn!(
                queue = %self.queue,
                job = %job.id,
                name = %job.name,
                reason = with_causes(reason, concluded),
                next_attempt_in = ?delay,
                skipped,
                "handler could not do its work; the job is postponed and no attempt is counted"
            );
        }
    }

    /// Reports an end that Redis refused, where the job is no longer this worker's.
    pub(super) fn lost(&self, concluded: &Concluded, refusal: Refusal) {
        let id = &concluded.ended.job;
        if let Some(skipped) = self.refusals.admit() {
            tracing::warn!(
                queue = %self.queue,
                job = %id,
                name = %concluded.attempt.record.name,
                reason = %refusal,
                skipped,
                "result refused; nothing of it is stored"
            );
        }
        self.refused(id, refusal);
    }

    /// Tells whoever listens that the end of an attempt was refused.
    pub(super) fn refused(&self, id: &JobId, reason: Refusal) {
        self.events.tell(|| WorkerEvent::Refused {
            id: id.clone(),
            reason,
        });
    }

    /// Reports an end of which nobody can say whether Redis has it.
    pub(super) fn unknown(&self, concluded: &Concluded) {
        // Nothing was to be stored about a handler that did not run.
        if matches!(concluded.ended.ending, Ending::Return) {
            return;
        }
        if let Some(skipped) = self.unknowns.admit() {
            tracing::warn!(
                queue = %self.queue,
                job = %concluded.ended.job,
                name = %concluded.attempt.record.name,
                skipped,
                "answer was lost and the job has moved on; its result may not be stored"
            );
        }
    }
}

/// What listeners are told of a stored end.
fn event_of(attempt: &Attempt, ended: Ended, took: Duration) -> WorkerEvent {
    let id = ended.job;
    let failed = |id, reason: String, retries| WorkerEvent::Failed {
        id,
        reason: reason.into(),
        retries,
        record: Arc::clone(&attempt.record),
        took,
    };
    match ended.ending {
        Ending::Complete { value, .. } | Ending::Skip { value, .. } => WorkerEvent::Completed {
            id,
            result: value.into(),
            took,
        },
        Ending::Fail { reason, .. } => failed(id, reason, false),
        Ending::Retry { reason, .. } | Ending::Backoff { reason, .. } => failed(id, reason, true),
        Ending::Park { .. }
        | Ending::Release
        | Ending::WaitForChildren
        | Ending::Return
        | Ending::Postpone { .. } => WorkerEvent::Deferred { id },
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
