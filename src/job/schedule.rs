//! When a job scheduler makes its jobs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A repetition in time (`docs/protocol.md#scheduler-keys`).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use oxbull::Schedule;
///
/// let nightly = Schedule::cron("0 2 * * *").time_zone("Europe/Madrid");
/// let often = Schedule::every(Duration::from_secs(30)).limit(10);
/// # let _ = (nightly, often);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Schedule {
    /// What makes it repeat.
    pub recurrence: Recurrence,
    /// The time zone of its pattern; `None`: that of each process that computes a run.
    pub time_zone: Option<String>,
    /// No iteration is made before this time.
    pub start: Option<Timestamp>,
    /// When it ends.
    pub end: Option<Timestamp>,
    /// After how many iterations it ends.
    pub limit: Option<u64>,
    /// The shift of its interval from the multiples of it since the epoch.
    pub offset: Option<Duration>,
    /// Whether the first iteration is made at once.
    pub immediately: bool,
    /// What fixes the `H` of its pattern.
    pub hash_seed: Option<String>,
    /// Whether iterations may overlap.
    pub overlap: Overlap,
    /// What happens to missed runs.
    pub catch_up: CatchUp,
}

/// What makes a schedule repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recurrence {
    /// The time from one run to the next; whole milliseconds.
    Every(Duration),
    /// A cron pattern of 5 or 6 fields, the first of six being the second.
    Cron(String),
}

/// Whether an iteration may run while an earlier one of its scheduler still does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Overlap {
    /// It runs beside the earlier one, as with BullMQ.
    #[default]
    Allow,
    /// It completes without running its handler, with the result
    /// `{"skipped": "<id> still runs"}`; so does a retry of it that finds an earlier one running.
    /// An earlier one that is retried does not look at later ones. Workers of BullMQ ignore
    /// this setting and run it.
    Skip,
}

/// What happens to runs that were missed, as when no worker ran for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CatchUp {
    /// The iteration that was pending runs late, the others are passed over, as with BullMQ.
    #[default]
    Latest,
    /// Every missed run is executed, one after the other. A worker of BullMQ ignores
    /// this setting: after an iteration that it starts, missed runs are skipped.
    All,
}

impl Schedule {
    fn new(recurrence: Recurrence) -> Self {
        Self {
            recurrence,
            time_zone: None,
            start: None,
            end: None,
            limit: None,
            offset: None,
            immediately: false,
            hash_seed: None,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
        }
    }

    /// Repeats at a fixed interval: whole milliseconds, at least one and at most 2^52. Without a
    /// [start](Self::start) or an [offset](Self::offset) the first run is now.
    pub fn every(interval: Duration) -> Self {
        Self::new(Recurrence::Every(interval))
    }

    /// Repeats when a cron pattern matches: 5 fields, or 6 of which the first is the second, with
    /// names, ranges, lists, steps, `L`, `#`, `H`, and aliases such as `@daily`
    /// (`docs/protocol.md#cron-patterns`). Where clocks change, runs come when BullMQ's do.
    pub fn cron(pattern: impl Into<String>) -> Self {
        Self::new(Recurrence::Cron(pattern.into()))
    }

    /// Reads a pattern's fields in this time zone: an IANA name, or `UTC+5:30` and the like.
    /// Default: the zone of each process that computes a run, so name one wherever processes may
    /// differ. Does not change the runs of an interval.
    #[must_use]
    pub fn time_zone(mut self, zone: impl Into<String>) -> Self {
        self.time_zone = Some(zone.into());
        self
    }

    /// Makes no iteration before this time; a pattern, only after it. One that has passed is the
    /// same as none. Cannot be combined with [`immediately`](Self::immediately). Default: none.
    #[must_use]
    pub fn start(mut self, at: Timestamp) -> Self {
        self.start = Some(at);
        self
    }

    /// Ends at this time, which must be in the future. A pattern's last run is no later; of an interval,
    /// the run that follows one begun before the end still comes, as with BullMQ, so that the last
    /// may be up to one interval later. Default: none.
    #[must_use]
    pub fn end(mut self, at: Timestamp) -> Self {
        self.end = Some(at);
        self
    }

    /// Ends after this many iterations, at least 1, counted from the latest upsert. Default: none.
    #[must_use]
    pub fn limit(mut self, iterations: u64) -> Self {
        self.limit = Some(iterations);
        self
    }

    /// Shifts the runs of an interval from the multiples of it since the epoch, by whole
    /// milliseconds, at most 2^52; zero is the same as none. Where an upsert leaves the interval as
    /// it was, the pending run stays, and a new offset counts once runs were missed. Default: the
    /// first run is now, and the others keep their distance to it. Does not apply to patterns.
    #[must_use]
    pub fn offset(mut self, offset: Duration) -> Self {
        self.offset = Some(offset);
        self
    }

    /// Makes the first iteration now, whatever the pattern says. An interval without a start or an
    /// offset begins now anyway. Default: the first run that the pattern or offset gives.
    #[must_use]
    pub fn immediately(mut self) -> Self {
        self.immediately = true;
        self
    }

    /// Fixes what the pattern's `H` stands for. Default: drawn anew for every run.
    #[must_use]
    pub fn hash_seed(mut self, seed: impl Into<String>) -> Self {
        self.hash_seed = Some(seed.into());
        self
    }

    /// Returns whether iterations may overlap. Default: [`Overlap::Allow`].
    #[must_use]
    pub fn overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets what happens to missed runs. Default: [`CatchUp::Latest`].
    #[must_use]
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }
}
