//! The logs of jobs.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::job::JobId;
use crate::queue::{Queue, named};

/// Rows of a job's log. In JSON these are `logs` and `count`, as with BullMQ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Logs {
    /// The rows asked for, in the order asked for.
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
    /// Reads a job's log from row `start` to row `end`, both included; negative numbers count
    /// from the newest row (`0, -1` is all of it). More than 1,000 rows are read in steps.
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getJobLogs")]
    pub async fn logs(&self, id: impl Into<JobId>, start: i64, end: i64) -> Result<Logs> {
        let (rows, total) = self.store().logs(&named(id)?, (start, end)).await?;
        Ok(Logs { rows, total })
    }

    /// As [`logs`](Self::logs), counted from the newest row and with the newest first: `0, 9` are the
    /// last ten rows.
    ///
    /// # Errors
    ///
    /// Connection errors.
    pub async fn newest_logs(&self, id: impl Into<JobId>, start: i64, end: i64) -> Result<Logs> {
        // `!n` is -1 - n: the same row, counted from the other end.
        let (mut rows, total) = self.store().logs(&named(id)?, (!end, !start)).await?;
        rows.reverse();
        Ok(Logs { rows, total })
    }
}
