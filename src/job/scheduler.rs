//! A job scheduler as it is stored.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{CatchUp, JobOptions, Overlap, Recurrence, Schedule};
use crate::json;

/// Everything stored about a job scheduler (`docs/protocol.md#scheduler-keys`), made by any client
/// of the queue.
///
/// What does not decode is named in [`problems`](Self::problems): such a scheduler is listed
/// all the same. Its iterations advance it as long as they can be read themselves, but if its
/// pending one is lost, it is not repaired until it is upserted.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SchedulerRecord {
    /// The scheduler's id.
    pub id: String,
    /// The name of its jobs.
    pub name: String,
    /// When its newest iteration is or was due.
    pub next: Timestamp,
    /// How many iterations it has made; `None` for a repeatable job of BullMQ 5.
    pub iterations: Option<u64>,
    /// What makes it repeat; `None` when that is not stored or does not decode.
    pub recurrence: Option<Recurrence>,
    /// The time zone of its pattern.
    pub time_zone: Option<String>,
    /// No iteration is made before this time.
    pub start: Option<Timestamp>,
    /// Where it ends; see [`Schedule::end`].
    pub end: Option<Timestamp>,
    /// How many iterations each upsert allows.
    pub limit: Option<u64>,
    /// The shift of its interval from the multiples of it since the epoch.
    pub offset: Option<Duration>,
    /// What fixes the `H` of its pattern, where this library wrote it.
    pub hash_seed: Option<String>,
    /// Whether iterations may overlap.
    pub overlap: Overlap,
    /// What happens to missed runs.
    pub catch_up: CatchUp,
    /// The data of its jobs, as JSON text.
    pub raw_data: Option<String>,
    /// The options of its jobs.
    pub options: JobOptions,
    /// Options this version does not know, as JSON text of one object.
    pub unknown_options: Option<String>,
    /// Fields this version does not know.
    pub unknown: BTreeMap<String, String>,
    /// What does not decode or is missing, each as `<field>: <reason>`.
    pub problems: Vec<String>,
}

impl SchedulerRecord {
    /// Makes a record that has nothing but an id and the time of its newest iteration; everything else
    /// can be set. For tests of code that is given records.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use oxbull::{Recurrence, Schedule, SchedulerRecord, Timestamp};
    ///
    /// let minute = Duration::from_secs(60);
    /// let mut record = SchedulerRecord::new("digest", Timestamp::from_millis(60_000));
    /// record.recurrence = Some(Recurrence::Every(minute));
    /// assert_eq!(record.schedule(), Some(Schedule::every(minute)));
    /// ```
    pub fn new(id: impl Into<String>, next: Timestamp) -> Self {
        Self {
            id: id.into(),
            name: String::new(),
            next,
            iterations: None,
            recurrence: None,
            time_zone: None,
            start: None,
            end: None,
            limit: None,
            offset: None,
            hash_seed: None,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            raw_data: None,
            options: JobOptions::new(),
            unknown_options: None,
            unknown: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    /// Decodes the data of the scheduler's jobs; without data that is an empty object.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the stored text is not JSON of type `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T> {
        let text = self.raw_data.as_deref().unwrap_or("{}");
        json::read(text).map_err(|source| Error::Decode {
            what: format!("data of scheduler {}", self.id),
            source: source.into(),
        })
    }

    /// Builds the schedule, as an upsert takes it; `None` when what makes it repeat is
    /// missing. Its next run is at [`next`](Self::next); a
    /// [preview](Schedule::preview) shows what an upsert would do instead.
    pub fn schedule(&self) -> Option<Schedule> {
        let mut schedule = match self.recurrence.clone()? {
            Recurrence::Every(interval) => Schedule::every(interval),
            Recurrence::Cron(pattern) => Schedule::cron(pattern),
        };
        schedule.time_zone.clone_from(&self.time_zone);
        schedule.start = self.start;
        schedule.end = self.end;
        schedule.limit = self.limit;
        if matches!(schedule.recurrence, Recurrence::Every(_)) {
            schedule.offset = self.offset;
        }
        schedule.hash_seed.clone_from(&self.hash_seed);
        schedule.overlap = self.overlap;
        schedule.catch_up = self.catch_up;
        Some(schedule)
    }
}
