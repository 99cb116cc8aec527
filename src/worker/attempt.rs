//! An attempt at a job, from the moment the job is active to what is reported of it:
//!
//! 1. *run*: the handler runs behind its layers and yields an [`AttemptOutcome`];
//! 2. *conclude*: the job's options and the worker's rules make of it a [`Conclusion`], which is what
//!    Redis is to store (`policy/conclusion.rs`);
//! 3. *settle*: the [`Outbox`](Outbox) collects concluded attempts and a [`Caller`](super::call::Caller)
//!    sends them, until it is known whether Redis has stored each: a [`Settlement`];
//! 4. *report*: log line, `WorkerEvent` and metrics (`reporter.rs`). A refusal may conclude the attempt
//!    again.
//!
//! Workers and [`ManualWorker`](super::ManualWorker) share these steps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::client::{Throttle, is_outage};
use crate::clock::Clock;
use crate::error::{Chain, Error, Refusal};
use crate::job::{AttemptError, JobError, JobId, JobRecord, Outcome};
use crate::policy::{self, AfterRefusal, AttemptOutcome, Conclusion, WorkerRules};
use crate::store::{AttemptResult, LimitRate, LockToken, Store};
use crate::telemetry::{self, Processor};
use crate::worker::actions::StoreActions;
use crate::worker::backoff::Strategies;
use crate::worker::cancel::{Canceller, Cause};
use crate::worker::events::EventSender;
use crate::worker::handler::{JobCall, JobService, answer};
use crate::worker::iteration::Iterations;
use crate::worker::reporter::Reporter;

/// Names one activation of a job: the lock token of each call is new, and a call starts a job once.
pub(super) type Activation = (JobId, LockToken);

/// One activation of a job by this worker.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) record: Arc<JobRecord>,
    pub(super) token: LockToken,
    pub(super) since: Instant,
    /// The span around the attempt, once it runs.
    pub(super) span: Span,
}

impl Attempt {
    pub(super) fn new(record: JobRecord, token: &LockToken) -> Self {
        Self {
            record: Arc::new(record),
            token: token.clone(),
            since: Instant::now(),
            span: Span::none(),
        }
    }

    pub(super) fn activation(&self) -> Activation {
        (self.record.id.clone(), self.token.clone())
    }
}

/// How an attempt's task ended.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost all are concluded: a box would be an allocation a job"
)]
pub(super) enum Exit {
    /// The attempt is over, and this is to be stored.
    Concluded(Concluded),
    /// The job belongs to another worker: nothing may be stored.
    LockLost,
}

/// Runs attempts. It has everything that an attempt needs beside its job.
pub(super) struct Runner {
    pub(super) store: Store,
    pub(super) service: JobService,
    pub(super) timeout: Option<Duration>,
    /// The number of jobs in the worker's own rate limit.
    pub(super) limit: Option<u32>,
    pub(super) processor: Processor,
    pub(super) iterations: Iterations,
    pub(super) concluder: Concluder,
    pub(super) events: EventSender,
    /// One line a second: a producer's mistake is in all of its jobs.
    pub(super) unreadable: Throttle,
}

impl Runner {
    /// Runs an attempt and concludes it.
    pub(super) async fn run(self: Arc<Self>, mut attempt: Attempt, canceller: Canceller) -> Exit {
        attempt.span = telemetry::process(&self.processor, &attempt.record);
        let Some(outcome) = self.outcome(&attempt, &canceller).await else {
            telemetry::failed(&attempt.span, &"the job's lock was lost");
            return Exit::LockLost;
        };
        self.conclude(attempt, outcome).await
    }

    /// Concludes an attempt whose outcome is known.
    pub(super) async fn conclude(
        self: Arc<Self>,
        attempt: Attempt,
        outcome: AttemptOutcome,
    ) -> Exit {
        Exit::Concluded(self.concluder.conclude(attempt, outcome).await)
    }

    /// Runs the handler, unless it must not run; `None` when the lock was lost.
    async fn outcome(&self, attempt: &Attempt, canceller: &Canceller) -> Option<AttemptOutcome> {
        let Attempt { record, token, .. } = attempt;
        match self.iterations.begin(attempt, canceller).await {
            Ok(None) => {}
            Ok(Some(outcome)) => return Some(outcome),
            Err(Cause::LockLost) => return None,
            Err(Cause::Shutdown(_) | Cause::Requested(_)) => return Some(AttemptOutcome::NotRun),
        }
        if let Some(error) = policy::preflight(record, &self.concluder.rules) {
            return Some(AttemptOutcome::failed(error));
        }
        self.warn_of_unreadable(record);
        let call = JobCall {
            actions: Arc::new(StoreActions {
                store: self.store.clone(),
                limit: self.limit,
                token: token.clone(),
                events: self.events.clone(),
            }),
            cancellation: canceller.for_handler(),
            record: Arc::clone(record),
        };
        // Dropped with the attempt, so that work the handler spawned ends too.
        let _stop_spawned = call.cancellation.0.clone().drop_guard();
        // Cloned here, since layers are the user's code, and their panics an attempt's.
        let handling = answer(self.service.clone(), call).instrument(attempt.span.clone());
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
            cause = canceller.requested() => {
                let (grace, unfinished) = match cause {
                    Cause::LockLost => return None,
                    Cause::Shutdown(grace) => (grace, AttemptOutcome::Returned(Outcome::Release)),
                    Cause::Requested(grace) => (grace, failed(AttemptError::Cancelled)),
                };
                match tokio::time::timeout(grace, &mut handling).await {
                    Ok(reply) => reply,
                    Err(_) => return Some(unfinished),
                }
            }
            reply = &mut handling => reply,
            timeout = timeout => return Some(failed(AttemptError::TimedOut(timeout))),
        };
        Some(match reply {
            Ok(reply) => {
                self.limit_rate(&reply.0).await;
                AttemptOutcome::Returned(reply.0)
            }
            Err(error) => AttemptOutcome::failed(error),
        })
    }

    /// Stores a rate limit that the handler asks for, before its job goes back: no worker must take it
    /// in between.
    async fn limit_rate(&self, outcome: &Outcome<String>) {
        if let Outcome::RateLimited(wait) = outcome
            && let Err(error) = self.store.run(&LimitRate::new(*wait, self.limit)).await
        {
            let error = Chain(&error);
            tracing::warn!(queue = %self.processor.queue, %error, "rate limit was not stored");
        }
    }

    /// Logs options and fields that count as absent because they cannot be read.
    fn warn_of_unreadable(&self, record: &JobRecord) {
        if !record.problems.is_empty()
            && let Some(suppressed) = self.unreadable.admit()
        {
            tracing::warn!(
                queue = %self.processor.queue,
                job = %record.id,
                suppressed,
                problems = %record.problems.join("; "),
                "job has options or fields that cannot be read; it runs without them",
            );
        }
    }
}

fn failed(error: AttemptError) -> AttemptOutcome {
    AttemptOutcome::failed(JobError::retry(error).at(None))
}

/// Turns outcomes of attempts into conclusions.
#[derive(Debug, Clone)]
pub(crate) struct Concluder {
    pub(crate) rules: WorkerRules,
    pub(crate) strategies: Strategies,
    pub(crate) clock: Clock,
}

impl Concluder {
    /// Decides what is to be stored for an attempt, with the job's own backoff strategy where it
    /// names one. `random` is from 0 to 1.
    pub(crate) async fn decide(
        &self,
        job: &Arc<JobRecord>,
        outcome: &AttemptOutcome,
        random: f64,
    ) -> Conclusion {
        let custom_wait = match outcome {
            AttemptOutcome::Failed(error) => self.strategies.wait(job, error).await,
            AttemptOutcome::Returned(_) | AttemptOutcome::NotRun | AttemptOutcome::Skipped(_) => {
                None
            }
        };
        let rules = &self.rules;
        let attempt = policy::Attempt { job, rules };
        policy::conclude(attempt, outcome, self.clock.now(), random, custom_wait)
    }

    /// Concludes an attempt.
    pub(super) async fn conclude(&self, attempt: Attempt, outcome: AttemptOutcome) -> Concluded {
        let random = fastrand::f64();
        let conclusion = self.decide(&attempt.record, &outcome, random).await;
        // Everything that the handler's error can say is read here, and the error is dropped here: its code
        // may panic, which must cost this attempt's task alone.
        let (limit, failure) = match outcome {
            AttemptOutcome::Returned(Outcome::RateLimited(wait)) => (Some(wait), None),
            AttemptOutcome::Failed(error) => (None, Some(Box::new(Failure::of(&error)))),
            AttemptOutcome::Returned(_) | AttemptOutcome::NotRun | AttemptOutcome::Skipped(_) => {
                (None, None)
            }
        };
        Concluded {
            limit,
            failure,
            ..Concluded::new(attempt, conclusion)
        }
    }
}

/// What is known of a handler's error once the attempt is concluded.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) is_fatal: bool,
    /// The causes of the error, for a log line.
    pub(super) causes: Option<String>,
    /// The error by which Redis could not serve the handler, if that is what happened.
    pub(super) outage: Option<String>,
}

impl Failure {
    fn of(error: &JobError) -> Self {
        let outage = error.is_postponed() && is_outage(error.error());
        Self {
            is_fatal: error.is_fatal(),
            causes: error.error().source().map(|cause| Chain(cause).to_string()),
            outage: outage.then(|| Chain(error.error()).to_string()),
        }
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
    pub(super) failure: Option<Box<Failure>>,
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

/// What is to be done about a result once its settlement is known.
#[derive(Debug)]
pub(super) enum Settled {
    /// Nothing: the attempt is over and reported.
    Stored(Activation, Stored),
    /// Nothing: the job is no longer this worker's.
    Lost(Activation),
    /// The job is still this worker's but cannot end this way: conclude it again, with this outcome.
    ConcludeAgain(Attempt, AttemptOutcome),
    /// The result is to be sent again.
    SendAgain(Concluded),
    /// The job is left to stalled recovery.
    Abandoned(Activation, Error),
}

/// What a stored result says about the work of its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    /// It worked, whatever came of it.
    Worked,
    /// It worked, and its job goes back to be the next to run.
    Released,
    /// It did not run, and its job goes back.
    NotRun,
    /// It could not work.
    Postponed,
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
            failure: None,
            attempt,
        }
    }

    /// Concludes an activation whose handler has not run: it is undone.
    pub(super) fn not_run(attempt: Attempt) -> Self {
        Self::new(attempt, Conclusion::Return)
    }

    /// Takes in the settlement of the result and reports it; says what is left to do.
    pub(super) fn settled(self, settlement: Settlement, reporter: &Reporter) -> Settled {
        let activation = self.attempt.activation();
        match settlement {
            Settlement::Stored => {
                let stored = match self.result.conclusion {
                    Conclusion::Release => Stored::Released,
                    Conclusion::Return => Stored::NotRun,
                    Conclusion::Postpone { .. } => Stored::Postponed,
                    _ => Stored::Worked,
                };
                reporter.stored(self);
                Settled::Stored(activation, stored)
            }
            Settlement::Refused(refusal) => {
                match policy::after_refusal(&self.result.job, &self.result.conclusion, refusal) {
                    AfterRefusal::Failed(error) => {
                        reporter.refused(&self.result.job, refusal);
                        Settled::ConcludeAgain(self.attempt, AttemptOutcome::failed(error))
                    }
                    AfterRefusal::Lost => {
                        reporter.lost(&self, refusal);
                        Settled::Lost(activation)
                    }
                }
            }
            Settlement::Unknown => {
                reporter.unknown(&self);
                Settled::Lost(activation)
            }
            Settlement::TryAgain => Settled::SendAgain(self),
            Settlement::Abandoned(error) => Settled::Abandoned(activation, error),
        }
    }
}
