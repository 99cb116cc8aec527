//! One job: its record, its state, its end.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::job::{JobId, JobOutcome, JobRecord, JobState};
use crate::json;
use crate::queue::{Queue, named};

impl<D> Queue<D> {
    /// Reads a job; `None` when there is no such job.
    ///
    /// # Errors
    ///
    /// Connection errors. A job whose fields do not decode is returned with the fields named in
    /// its [`problems`](JobRecord::problems).
    pub async fn job(&self, id: impl Into<JobId>) -> Result<Option<JobRecord>> {
        self.store().job(&named(id)?).await
    }

    /// Finds the state of a job; `None` when no state has it.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn state(&self, id: impl Into<JobId>) -> Result<Option<JobState>> {
        self.store().state(&named(id)?).await
    }

    /// Reads how a job ended: its result, decoded, or why it failed. `None` when it has not ended.
    /// [`wait_for`](Self::wait_for) waits until it has.
    ///
    /// # Errors
    ///
    /// [`Error::JobMissing`]; [`Error::Decode`] for a result that is not JSON of type `R`; connection
    /// errors.
    #[doc(alias = "isFinished")]
    pub async fn ended<R: DeserializeOwned>(
        &self,
        id: impl Into<JobId>,
    ) -> Result<Option<JobOutcome<R>>> {
        let id = named(id)?;
        let (exists, end) = self.store().end(&id).await?;
        if !exists {
            return Err(Error::JobMissing(id));
        }
        let Some((state, value)) = end else {
            return Ok(None);
        };
        let text = json::text(value);
        if state == JobState::Failed {
            return Ok(Some(JobOutcome::Failed { reason: text }));
        }
        // Every client reads nothing as null.
        let text = if text.is_empty() { "null" } else { &text };
        match json::read(text) {
            Ok(result) => Ok(Some(JobOutcome::Completed(result))),
            Err(source) => Err(Error::Decode {
                what: format!("returnvalue of job {id}"),
                source: source.into(),
            }),
        }
    }
}
