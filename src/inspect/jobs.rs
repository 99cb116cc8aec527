//! Looking at a queue's jobs.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::{JobId, JobRecord, JobState};
use crate::queue::{Queue, named};
use crate::store::Counts;

/// How many jobs are in each state, at one moment. In JSON they have the names of the states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobCounts {
    /// Ready to run, those parked by a BullMQ 5 client during a pause included.
    pub waiting: u64,
    /// Ready to run after those, by priority.
    pub prioritized: u64,
    /// Waiting for a time.
    pub delayed: u64,
    /// Being run.
    pub active: u64,
    /// Waiting for children.
    pub waiting_children: u64,
    /// Completed and kept.
    pub completed: u64,
    /// Failed and kept.
    pub failed: u64,
}

impl JobCounts {
    /// Returns the count of one state.
    pub fn of(&self, state: JobState) -> u64 {
        match state {
            JobState::Waiting => self.waiting,
            JobState::Prioritized => self.prioritized,
            JobState::Delayed => self.delayed,
            JobState::Active => self.active,
            JobState::WaitingChildren => self.waiting_children,
            JobState::Completed => self.completed,
            JobState::Failed => self.failed,
        }
    }
}

impl From<Counts> for JobCounts {
    fn from(counts: Counts) -> Self {
        Self {
            waiting: counts.waiting + counts.parked,
            prioritized: counts.prioritized,
            delayed: counts.delayed,
            active: counts.active,
            waiting_children: counts.waiting_children,
            completed: counts.completed,
            failed: counts.failed,
        }
    }
}

/// Rows of a job's log. In JSON these are `logs` and `count`, as with BullMQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Logs {
    /// The rows asked for, oldest first.
    #[serde(rename = "logs")]
    pub rows: Vec<String>,
    /// How many rows there are in all.
    #[serde(rename = "count")]
    pub total: u64,
}

impl Logs {
    /// Makes a log of these rows and no others, for tests of code that is given logs.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::Logs;
    ///
    /// let logs = Logs::new(["sent", "done"]);
    /// assert_eq!(logs.total, 2);
    /// ```
    pub fn new<T: Into<String>>(rows: impl IntoIterator<Item = T>) -> Self {
        let rows: Vec<String> = rows.into_iter().map(Into::into).collect();
        let total = rows.len() as u64;
        Self { rows, total }
    }
}

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

    /// Counts the jobs of each state at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn counts(&self) -> Result<JobCounts> {
        self.store().counts().await.map(JobCounts::from)
    }

    /// Reads a job's log from row `start` to row `end`, both included; negative numbers count
    /// from the newest row (`0, -1` is all of it).
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn logs(&self, id: impl Into<JobId>, start: i64, end: i64) -> Result<Logs> {
        let page = self.store().logs(&named(id)?, start, end).await?;
        Ok(Logs {
            rows: page.rows,
            total: page.total,
        })
    }
}
