//! What attempts leave behind.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobError, JobRecord, Outcome};
use crate::policy::{self, AttemptOutcome, Conclusion, CustomWait, WorkerRules};

/// An attempt that has been made, and what a worker would store of it.
#[derive(Debug)]
pub struct TestRun {
    outcome: Result<Outcome<String>, Arc<JobError>>,
    stored: Stored,
}

/// What a worker stores of an attempt, by the job's options.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Stored {
    /// The job is complete, with this result.
    Completed(Value),
    /// The job has failed for good, for this reason.
    Failed(String),
    /// The attempt has failed, and the job runs again.
    Retried {
        /// Why it has failed.
        reason: String,
        /// How long the job waits, without jitter. It is zero where the job has a
        /// [custom](crate::Backoff::custom) backoff, since the strategy is the worker's.
        wait: Duration,
    },
    /// The job runs again some seconds later, and no attempt is counted; for this reason.
    Postponed(String),
    /// The job runs again after this time, because its handler asked for it.
    Delayed(Duration),
    /// The job goes back to be the next to run.
    Released,
    /// The job runs again once its pending children have ended; with none pending it goes back to be
    /// the next to run.
    WaitingForChildren,
}

impl TestRun {
    pub(super) fn new(
        job: &JobRecord,
        outcome: Result<Outcome<String>, JobError>,
        now: Timestamp,
    ) -> Self {
        let outcome = outcome.map_err(Arc::new);
        let end = match &outcome {
            Ok(outcome) => AttemptOutcome::Returned(outcome.clone()),
            Err(error) => AttemptOutcome::Failed(Arc::clone(error)),
        };
        let rules = WorkerRules::default();
        let attempt = policy::Attempt { job, rules: &rules };
        let at_once = Some(CustomWait::Retry(Duration::ZERO));
        // A jitter's upper end is the wait without it.
        let stored = match policy::conclude(attempt, &end, now, 1.0, at_once) {
            Conclusion::Complete { value, .. } | Conclusion::Skip { value, .. } => {
                Stored::Completed(serde_json::from_str(&value).unwrap_or(Value::String(value)))
            }
            Conclusion::Fail { reason, .. } => Stored::Failed(reason),
            Conclusion::Retry { reason, .. } => Stored::Retried {
                reason,
                wait: Duration::ZERO,
            },
            Conclusion::Backoff { reason, delay, .. } => Stored::Retried {
                reason,
                wait: delay,
            },
            Conclusion::Postpone { reason, .. } => Stored::Postponed(reason),
            Conclusion::Park { delay } => Stored::Delayed(delay),
            Conclusion::Release | Conclusion::Return => Stored::Released,
            Conclusion::WaitForChildren => Stored::WaitingForChildren,
        };
        Self { outcome, stored }
    }

    /// Returns what came back through the layers: the outcome with the result as JSON text, or the
    /// error that the attempt has failed with.
    ///
    /// # Errors
    ///
    /// Exactly that error.
    pub fn outcome(&self) -> Result<&Outcome<String>, &JobError> {
        self.outcome.as_ref().map_err(|error| &**error)
    }

    /// Returns what a worker would store.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// Decodes the job's result; `None` when the job is not complete.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the result is no JSON of type `R`.
    pub fn result<R: DeserializeOwned>(&self) -> Result<Option<R>> {
        let Ok(Outcome::Done(text)) = &self.outcome else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|source| Error::Decode {
                what: "result".to_owned(),
                source: source.into(),
            })
    }

    /// Returns the error that the attempt has failed with, if it has.
    pub fn error(&self) -> Option<&JobError> {
        self.outcome.as_ref().err().map(|error| &**error)
    }
}
