//! What attempts leave behind.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::job::{JobError, JobRecord, Outcome};
use crate::json;
use crate::policy::{AttemptOutcome, Conclusion};
use crate::worker::Concluder;

/// An attempt that has been made, and what a worker would store of it.
#[derive(Debug)]
pub struct TestRun {
    outcome: Result<Outcome<String>, Arc<JobError>>,
    stored: Stored,
}

/// What a worker stores of an attempt, by the job's options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stored {
    /// The job is complete, with this result as JSON text; [`TestRun::result`] decodes it.
    Completed(String),
    /// The job has failed for good, for this reason.
    Failed(String),
    /// The attempt has failed, and the job runs again.
    Retried {
        /// Why it has failed.
        reason: String,
        /// How long the job waits, without jitter.
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
    /// Concludes an attempt as a worker does.
    pub(super) async fn new(
        job: &Arc<JobRecord>,
        outcome: Result<Outcome<String>, JobError>,
        concluder: &Concluder,
    ) -> Self {
        let outcome = outcome.map_err(Arc::new);
        let end = match &outcome {
            Ok(outcome) => AttemptOutcome::Returned(outcome.clone()),
            Err(error) => AttemptOutcome::Failed(Arc::clone(error)),
        };
        // A jitter's upper end is the wait without it.
        let stored = match concluder.decide(job, &end, 1.0).await {
            Conclusion::Complete { value, .. } | Conclusion::Skip { value, .. } => {
                Stored::Completed(value)
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
    /// [`Error::Decode`] when the result is not JSON of type `R`.
    pub fn result<R: DeserializeOwned>(&self) -> Result<Option<R>> {
        let Ok(Outcome::Done(text)) = &self.outcome else {
            return Ok(None);
        };
        json::read(text).map(Some).map_err(|source| Error::Decode {
            what: "result".to_owned(),
            source: source.into(),
        })
    }

    /// Returns the error that the attempt has failed with, if it has.
    pub fn error(&self) -> Option<&JobError> {
        self.outcome.as_ref().err().map(|error| &**error)
    }
}
