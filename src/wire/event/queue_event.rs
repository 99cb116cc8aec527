//! An entry as a typed event.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobState};
use crate::json;

use super::{EventFields, field};

/// Something that happened in a queue, caused by any client or worker.
///
/// Match with a `_` arm: newer versions know more events.
///
/// As JSON an event is what BullMQ's listeners get: an object with `jobId` and the like, whose `event`
/// is its name in the stream, such as `waiting-children`, or `gap` or `unknown`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum QueueEvent {
    /// A job was stored.
    #[non_exhaustive]
    Added {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Its name.
        name: String,
    },
    /// A job is ready to run, with or without a priority.
    #[non_exhaustive]
    Waiting {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Where it comes from; `None`: it is new.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// A job waits for a time.
    #[non_exhaustive]
    Delayed {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// When it is due.
        #[serde(rename = "delay")]
        until: Timestamp,
    },
    /// A job waits for its children.
    #[non_exhaustive]
    WaitingChildren {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Where it comes from; `None`: it is new.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// A worker started a job.
    #[non_exhaustive]
    Active {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Where it comes from; always reported as waiting.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// A job reported progress.
    #[non_exhaustive]
    Progress {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// What it reported.
        #[serde(rename = "data")]
        progress: RawJson,
    },
    /// A job completed.
    #[non_exhaustive]
    Completed {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Its result.
        #[serde(rename = "returnvalue")]
        return_value: RawJson,
        /// Where it comes from.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// A job failed for good: it is not retried unless someone asks for it.
    #[non_exhaustive]
    Failed {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Why.
        #[serde(rename = "failedReason")]
        reason: String,
        /// Where it comes from.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// A job failed with its last attempt; comes right after [`Failed`](Self::Failed).
    #[non_exhaustive]
    RetriesExhausted {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// How many attempts it has had.
        #[serde(rename = "attemptsMade")]
        attempts_made: u32,
    },
    /// A job of a worker that vanished was returned to the queue; comes after its
    /// [`Waiting`](Self::Waiting).
    #[non_exhaustive]
    Stalled {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
    },
    /// A job was removed by its id. Retention, drain, clean and the upsert of a scheduler, which
    /// replaces its pending iteration, are not reported.
    #[non_exhaustive]
    Removed {
        /// The job.
        #[serde(rename = "jobId")]
        job: JobId,
        /// Where it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        prev: Option<PrevState>,
    },
    /// An add named the id of a job that exists.
    #[non_exhaustive]
    Duplicated {
        /// The job that exists.
        #[serde(rename = "jobId")]
        job: JobId,
    },
    /// An add was dropped because of another job with the same deduplication id.
    #[non_exhaustive]
    Deduplicated {
        /// The job that stays.
        #[serde(rename = "jobId")]
        job: JobId,
        /// What both have in common.
        #[serde(rename = "deduplicationId")]
        deduplication_id: String,
        /// The job that was not added, or that was replaced.
        #[serde(rename = "deduplicatedJobId")]
        dropped: JobId,
    },
    /// What BullMQ 5 emits before [`Deduplicated`](Self::Deduplicated).
    #[non_exhaustive]
    Debounced {
        /// The job that stays.
        #[serde(rename = "jobId")]
        job: JobId,
        /// What both have in common.
        #[serde(rename = "debounceId")]
        debounce_id: String,
    },
    /// The last job that was ready or running has ended.
    Drained,
    /// Jobs were removed by a clean.
    #[non_exhaustive]
    Cleaned {
        /// How many.
        count: u64,
    },
    /// The queue was paused, also if it was already.
    Paused,
    /// The queue was resumed, also if it was not paused.
    Resumed,
    /// Not an event: entries were removed before this reader could read them, or the stream was
    /// deleted. State derived from events must be looked up again. Where `missed` is unknown, it may be
    /// none: all entries that were read have been removed, and perhaps more.
    #[non_exhaustive]
    Gap {
        /// How many entries are missing, where the server knows (Redis 7 and later).
        missed: Option<u64>,
    },
    /// Anything else: an application's own event, one of a newer version, or one whose fields
    /// are not what this version knows. Nothing of it is lost.
    #[non_exhaustive]
    Unknown {
        /// The event's name; empty where the entry has none.
        name: String,
        /// Its other fields.
        fields: EventFields,
    },
}

impl QueueEvent {
    /// Returns the event's name in the stream; empty for a [`Gap`](Self::Gap).
    pub fn name(&self) -> &str {
        match self {
            Self::Added { .. } => "added",
            Self::Waiting { .. } => "waiting",
            Self::Delayed { .. } => "delayed",
            Self::WaitingChildren { .. } => "waiting-children",
            Self::Active { .. } => "active",
            Self::Progress { .. } => "progress",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::RetriesExhausted { .. } => "retries-exhausted",
            Self::Stalled { .. } => "stalled",
            Self::Removed { .. } => "removed",
            Self::Duplicated { .. } => "duplicated",
            Self::Deduplicated { .. } => "deduplicated",
            Self::Debounced { .. } => "debounced",
            Self::Drained => "drained",
            Self::Cleaned { .. } => "cleaned",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Gap { .. } => "",
            Self::Unknown { name, .. } => name,
        }
    }

    /// Returns the job that the event is about.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Added { job, .. }
            | Self::Waiting { job, .. }
            | Self::Delayed { job, .. }
            | Self::WaitingChildren { job, .. }
            | Self::Active { job, .. }
            | Self::Progress { job, .. }
            | Self::Completed { job, .. }
            | Self::Failed { job, .. }
            | Self::RetriesExhausted { job, .. }
            | Self::Stalled { job }
            | Self::Removed { job, .. }
            | Self::Duplicated { job }
            | Self::Deduplicated { job, .. }
            | Self::Debounced { job, .. } => Some(job),
            Self::Drained
            | Self::Cleaned { .. }
            | Self::Paused
            | Self::Resumed
            | Self::Gap { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// Reads an entry; returns the fields that the event has no place for beside it.
    pub(crate) fn decode(fields: EventFields) -> (Self, EventFields) {
        let mut known = Known {
            fields: &fields,
            used: Vec::with_capacity(4),
        };
        let name = known.exact(field::EVENT).unwrap_or_default();
        let named = known.used.clone();
        if let Some(event) = Self::known(&name, &mut known) {
            let used = known.used;
            return (event, fields.without(&used));
        }
        let fields = fields.without(&named);
        (Self::Unknown { name, fields }, EventFields::default())
    }

    /// Builds an event that this version knows; `None` when it does not, or when a field is
    /// missing or of another kind.
    fn known(name: &str, fields: &mut Known<'_>) -> Option<Self> {
        Some(match name {
            "added" => Self::Added {
                job: fields.job()?,
                name: fields.text("name")?,
            },
            "waiting" => Self::Waiting {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "delayed" => Self::Delayed {
                job: fields.job()?,
                until: time(&fields.text("delay")?)?,
            },
            "waiting-children" => Self::WaitingChildren {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "active" => Self::Active {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "progress" => Self::Progress {
                job: fields.job()?,
                progress: fields.json("data")?,
            },
            "completed" => Self::Completed {
                job: fields.job()?,
                return_value: fields.json(field::RETURN_VALUE)?,
                prev: fields.prev(),
            },
            "failed" => Self::Failed {
                job: fields.job()?,
                reason: fields.text(field::FAILED_REASON)?,
                prev: fields.prev(),
            },
            "retries-exhausted" => Self::RetriesExhausted {
                job: fields.job()?,
                attempts_made: fields.text("attemptsMade")?.parse().ok()?,
            },
            "stalled" => Self::Stalled { job: fields.job()? },
            "removed" => Self::Removed {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "duplicated" => Self::Duplicated { job: fields.job()? },
            "deduplicated" => Self::Deduplicated {
                job: fields.job()?,
                deduplication_id: fields.text(field::DEDUPLICATION_ID)?,
                dropped: fields.id(field::DEDUPLICATED_JOB)?,
            },
            "debounced" => Self::Debounced {
                job: fields.job()?,
                debounce_id: fields.text("debounceId")?,
            },
            "drained" => Self::Drained,
            "cleaned" => Self::Cleaned {
                count: fields.text("count")?.parse().ok()?,
            },
            "paused" => Self::Paused,
            "resumed" => Self::Resumed,
            _ => return None,
        })
    }
}

/// The fields of an entry, and which of them its event has a place for.
struct Known<'a> {
    fields: &'a EventFields,
    used: Vec<usize>,
}

impl Known<'_> {
    fn exact(&mut self, name: &str) -> Option<String> {
        let (at, value) = self.fields.find(name)?;
        let text = std::str::from_utf8(value).ok()?;
        self.used.push(at);
        Some(text.to_owned())
    }

    /// Takes a field as text. Bytes that are not UTF-8 read as U+FFFD, and stay among the fields.
    fn text(&mut self, name: &str) -> Option<String> {
        self.exact(name).or_else(|| {
            let value = self.fields.bytes(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    fn json(&mut self, name: &str) -> Option<RawJson> {
        let text = self.exact(name).or_else(|| {
            let value = self.fields.bytes(name)?;
            Some(json::text(value.to_vec()))
        });
        text.map(RawJson)
    }

    fn id(&mut self, name: &str) -> Option<JobId> {
        let (at, id) = self.fields.find(name)?;
        self.used.push(at);
        Some(JobId::from_bytes(id))
    }

    fn job(&mut self) -> Option<JobId> {
        self.id(field::JOB)
    }

    fn prev(&mut self) -> Option<PrevState> {
        self.text("prev").map(PrevState)
    }
}

/// Reads a due time; a producer's fractional delay makes it fractional.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse() {
        return Some(Timestamp::from_millis(millis));
    }
    let millis: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    millis
        .is_finite()
        .then(|| Timestamp::from_millis(millis as i64))
}

/// The state that a job left, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct PrevState(String);

impl PrevState {
    /// Returns the stored name, such as `delayed`; `wait` and `waiting` mean the same.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the state; `None` when the job was in none, or in one this version does not know.
    pub fn state(&self) -> Option<JobState> {
        match self.as_str() {
            // What a BullMQ 5 client parked is waiting too.
            "wait" | "paused" => Some(JobState::Waiting),
            name => JobState::ALL
                .into_iter()
                .find(|state| state.as_str() == name),
        }
    }
}

/// A value as JSON text, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(String);

/// The value itself; text that is not JSON becomes a string.
impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json::stored(&self.0, serializer)
    }
}

impl RawJson {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the text is not JSON of type `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        json::read(&self.0).map_err(|source| Error::Decode {
            what: "an event's value".to_owned(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests;
