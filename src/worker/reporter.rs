//! Reporting attempts, once it is known what Redis has stored: log lines, local events, metrics.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Throttle;
use crate::error::Refusal;
use crate::job::{JobId, JobRecord};
use crate::metrics;
use crate::policy::Conclusion;
use crate::store::AttemptResult;
use crate::telemetry::{self, End, JobEnd, Meter};
use crate::worker::attempt::{Attempt, Concluded};
use crate::worker::events::{EventSender, WorkerEvent};

/// Longest reason in a log line, in characters.
const REASON_MAX: usize = 512;

/// Reports attempts to the log, to metrics, and to subscribers of the local events.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) queue: Arc<str>,
    pub(super) events: EventSender,
    meter: Meter,
    unknowns: Throttle,
    refusals: Throttle,
    postponed: Throttle,
}

impl Reporter {
    pub(super) fn new(queue: Arc<str>, events: EventSender) -> Self {
        Self {
            meter: Meter::new(Arc::clone(&queue)),
            queue,
            events,
            unknowns: Throttle::default(),
            refusals: Throttle::default(),
            postponed: Throttle::default(),
        }
    }

    /// Reports that an attempt has begun.
    pub(super) fn started(&self, attempt: &Attempt) {
        metrics::started(&self.queue, waited(&attempt.record));
        self.events.send(|| WorkerEvent::Active {
            id: attempt.record.id.clone(),
            name: attempt.record.name.as_str().into(),
            attempt: attempt.record.attempts_started,
        });
    }

    /// Reports a result that Redis has stored.
    pub(super) fn stored(&self, concluded: Concluded) {
        metrics::ended(
            &self.queue,
            outcome(&concluded.result.conclusion),
            concluded.took,
        );
        metered(&self.meter, &concluded);
        traced(&concluded);
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
            fatal = concluded.failure.as_ref().is_some_and(|failure| failure.is_fatal),
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
        telemetry::failed(&concluded.attempt.span, &refusal);
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

/// Counts a stored result, unless it is that of an attempt that was not made.
pub(super) fn metered(meter: &Meter, concluded: &Concluded) {
    let end = match &concluded.result.conclusion {
        Conclusion::Complete { .. } | Conclusion::Skip { .. } => JobEnd::Completed,
        Conclusion::Fail { .. } => JobEnd::Failed,
        Conclusion::Retry { .. } => JobEnd::Retried,
        Conclusion::Backoff { .. } | Conclusion::Park { .. } => JobEnd::Delayed,
        Conclusion::Release => JobEnd::Waiting,
        Conclusion::WaitForChildren => JobEnd::WaitingChildren,
        Conclusion::Return | Conclusion::Postpone { .. } => return,
    };
    meter.ended(&concluded.attempt.record, end, concluded.took);
}

/// Notes a stored result with the span around its attempt.
fn traced(concluded: &Concluded) {
    let Attempt { span, record, .. } = &concluded.attempt;
    let end = match &concluded.result.conclusion {
        Conclusion::Complete { .. } | Conclusion::Skip { .. } => End::Completed,
        Conclusion::Fail { reason, .. }
        | Conclusion::Retry { reason, .. }
        | Conclusion::Backoff { reason, .. } => {
            let failure = concluded.failure.as_ref();
            let causes = failure.and_then(|failure| failure.causes.as_deref());
            End::Failed { reason, causes }
        }
        // No attempt is counted.
        Conclusion::Postpone { reason, .. } => return telemetry::failed(span, reason),
        Conclusion::Park { .. }
        | Conclusion::Release
        | Conclusion::Return
        | Conclusion::WaitForChildren => return,
    };
    telemetry::processed(span, record, end, concluded.took);
}

/// How long a job waited for its first start, if this is it.
fn waited(job: &JobRecord) -> Option<Duration> {
    let started = job.processed_on.filter(|_| job.attempts_started <= 1)?;
    Some(started.since(job.timestamp + job.options.delay.unwrap_or_default()))
}

/// The name of a stored result among the metrics.
fn outcome(conclusion: &Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Complete { .. } => "completed",
        Conclusion::Skip { .. } => "skipped",
        Conclusion::Fail { .. } => "failed",
        Conclusion::Retry { .. } | Conclusion::Backoff { .. } => "retried",
        Conclusion::Postpone { .. } => "postponed",
        Conclusion::Return => "released",
        Conclusion::Park { .. } | Conclusion::Release | Conclusion::WaitForChildren => "deferred",
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
    let causes = concluded.failure.as_ref();
    let causes = causes.and_then(|failure| failure.causes.as_ref());
    let mut text = match causes {
        Some(causes) => format!("{reason}: {causes}"),
        None => reason.to_owned(),
    };
    if let Some((end, _)) = text.char_indices().nth(REASON_MAX) {
        text.truncate(end);
    }
    text
}
