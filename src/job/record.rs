//! A job as it is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{ChildPolicy, JobId, JobOptions};
use crate::json;

/// Everything stored in a job's hash (`docs/protocol.md#job-hash`), made by any client of the
/// queue.
///
/// JSON fields are kept as the text that is stored; [`data`](Self::data) and its siblings decode
/// them on demand. Fields this version does not know are in [`unknown`](Self::unknown). Options
/// and fields that cannot be read count as absent and are named in [`problems`](Self::problems);
/// a worker logs them and runs the job.
///
/// JavaScript can cut text inside a surrogate pair. The half that is left reads as U+FFFD, in
/// decoded values and in plain text; the JSON text has it as an escape (`\ud83d`). What Redis
/// holds is not changed, and [`stored`](Self::stored) returns it.
///
/// Its own JSON form is that of BullMQ's `Job`, for dashboards and APIs: `data`, `progress` and
/// `returnvalue` are values, `opts` has the options' names of BullMQ's API, what is absent is left out,
/// and `problems` are added where there are some.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct JobRecord {
    /// The job's id.
    pub id: JobId,
    /// The job's name; may be empty.
    pub name: String,
    /// The data, as JSON text.
    pub raw_data: String,
    /// The options the job was added with; later changes of priority or delay do not show here.
    pub options: JobOptions,
    /// Options this version does not know, as JSON text of one object.
    pub unknown_options: Option<String>,
    /// When the job was added, or the time its producer chose.
    pub timestamp: Timestamp,
    /// The delay of the job's last move to delayed.
    pub delay: Duration,
    /// The job's priority; 0: none.
    pub priority: u32,
    /// When the job was last started.
    pub processed_on: Option<Timestamp>,
    /// When the job ended.
    pub finished_on: Option<Timestamp>,
    /// How many attempts have ended.
    pub attempts_made: u32,
    /// How many attempts have started.
    pub attempts_started: u32,
    /// How many times the job was recovered from a worker that vanished.
    pub stalled: u32,
    /// The failure that awaits the job at its next start, without running its handler.
    pub deferred_failure: Option<String>,
    /// The progress, as JSON text.
    pub raw_progress: Option<String>,
    /// The result, as JSON text.
    pub raw_return_value: Option<String>,
    /// Why the last attempt failed.
    pub failed_reason: Option<String>,
    /// Stack traces of failed attempts, oldest first.
    pub stack_traces: Vec<String>,
    /// The name of the worker that started the job last.
    pub processed_by: Option<String>,
    /// The job scheduler that made the job.
    pub scheduler: Option<String>,
    /// The deduplication id the job was added with.
    pub deduplication_id: Option<String>,
    /// The job's parent.
    pub parent: Option<ParentLink>,
    /// Fields this version does not know.
    pub unknown: BTreeMap<String, String>,
    /// Options and fields that cannot be read, each as `<field>: <reason>: <value, clipped>`.
    pub problems: Vec<String>,
    /// The options as they are stored.
    pub(crate) raw_options: String,
    /// The stack traces as they are stored, each as JSON text.
    pub(crate) raw_stack_traces: Vec<String>,
    /// The bytes of the fields that are not UTF-8, by the field's name in the hash.
    pub(crate) inexact: BTreeMap<String, Vec<u8>>,
}

// Job data may be secret, so it is not shown.
impl fmt::Debug for JobRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRecord")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("timestamp", &self.timestamp)
            .field("delay", &self.delay)
            .field("priority", &self.priority)
            .field("attempts_made", &self.attempts_made)
            .field("attempts_started", &self.attempts_started)
            .field("stalled", &self.stalled)
            .field("finished_on", &self.finished_on)
            .field("failed_reason", &self.failed_reason)
            .field("problems", &self.problems)
            .finish_non_exhaustive()
    }
}

impl JobRecord {
    /// Makes a record that has nothing but an id, and an empty object as its data; everything else
    /// can be set. For tests of code that is given records.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::JobRecord;
    ///
    /// let mut record = JobRecord::new("42");
    /// record.name = "welcome".into();
    /// record.attempts_made = 2;
    /// assert_eq!(record.data::<serde_json::Value>()?, serde_json::json!({}));
    /// # Ok::<(), oxbull::Error>(())
    /// ```
    pub fn new(id: impl Into<JobId>) -> Self {
        Self {
            id: id.into(),
            name: String::new(),
            raw_data: "{}".to_owned(),
            options: JobOptions::new(),
            unknown_options: None,
            timestamp: Timestamp::default(),
            delay: Duration::ZERO,
            priority: 0,
            processed_on: None,
            finished_on: None,
            attempts_made: 0,
            attempts_started: 0,
            stalled: 0,
            deferred_failure: None,
            raw_progress: None,
            raw_return_value: None,
            failed_reason: None,
            stack_traces: Vec::new(),
            processed_by: None,
            scheduler: None,
            deduplication_id: None,
            parent: None,
            unknown: BTreeMap::new(),
            problems: Vec::new(),
            raw_options: String::new(),
            raw_stack_traces: Vec::new(),
            inexact: BTreeMap::new(),
        }
    }

    /// Returns what Redis holds in a field of the job's hash, such as `data` or `name`, where that
    /// is not UTF-8; `None` where the text of this record has all of it.
    pub fn stored(&self, field: &str) -> Option<&[u8]> {
        self.inexact.get(field).map(Vec::as_slice)
    }

    /// Decodes the data.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored text is not JSON of type `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        decode(&self.id, "data", &self.raw_data)
    }

    /// Decodes the result; `None` when the job has not completed.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored text is not JSON of type `T`.
    pub fn return_value<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.raw_return_value
            .as_deref()
            .map(|text| decode(&self.id, "returnvalue", text))
            .transpose()
    }

    /// Decodes the progress; `None` when the job has not reported any.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored text is not JSON of type `T`.
    pub fn progress<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.raw_progress
            .as_deref()
            .map(|text| decode(&self.id, "progress", text))
            .transpose()
    }
}

fn decode<T: DeserializeOwned>(id: &JobId, field: &str, text: &str) -> Result<T> {
    json::read(text).map_err(|source| Error::Decode {
        what: format!("{field} of job {id}"),
        source: source.into(),
    })
}

/// The parent of a stored job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentLink {
    /// The parent's qualified queue name (`bull:reports`).
    pub queue: String,
    /// The parent's id.
    pub id: JobId,
    /// What this job's final failure does to the parent.
    pub on_failure: ChildPolicy,
}
