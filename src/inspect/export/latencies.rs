//! How long jobs of a queue wait and run, measured from its event stream.
//!
//! The stream is the one record that has every start and end, whichever process worked and however soon the job
//! was removed, and its ids are times of one clock, the server's. Each entry is read once, so that each start and end
//! is counted once.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::error::Result;
use crate::store::{RawEvent, Store};
use crate::wire::EventId;

/// The upper bounds of the buckets, in milliseconds, as text of seconds.
pub(super) const BUCKETS: [(u64, &str); 16] = [
    (5, "0.005"),
    (10, "0.01"),
    (25, "0.025"),
    (50, "0.05"),
    (100, "0.1"),
    (250, "0.25"),
    (500, "0.5"),
    (1_000, "1"),
    (2_500, "2.5"),
    (5_000, "5"),
    (10_000, "10"),
    (30_000, "30"),
    (60_000, "60"),
    (300_000, "300"),
    (900_000, "900"),
    (3_600_000, "3600"),
];

/// How a run can end.
pub(super) const ENDS: [&str; 3] = ["completed", "failed", "returned"];
const COMPLETED: usize = 0;
const FAILED: usize = 1;
const RETURNED: usize = 2;

/// How many entries one look at a stream reads, in reads of how many, and about how many bytes.
const ENTRIES_MAX: usize = 10_000;
const READ_MAX: usize = 256;
const READ_FIRST: usize = 32;
const BYTES_MAX: usize = 16 << 20;
const READ_BYTES: usize = 1 << 20;

/// How many jobs each half of a [`Recent`] remembers.
const HALF: usize = 100_000;

/// What has been measured of a queue.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// The last entry that was read; `None` before the first look.
    position: Option<EventId>,
    /// Since when jobs could run.
    ready: Recent,
    /// Since when jobs run.
    running: Recent,
    pub(super) wait: Histogram,
    pub(super) run: [Histogram; ENDS.len()],
    /// Starts and ends of which it is not known how long the job had waited or run.
    pub(super) unmeasured_waits: u64,
    pub(super) unmeasured_runs: u64,
    /// How often entries were removed before they were read.
    pub(super) gaps: u64,
}

/// Durations, counted by size.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    /// By bucket, each without those before it.
    counts: [u64; BUCKETS.len()],
    /// Those that are in no bucket.
    longer: u64,
    millis: u64,
}

impl Histogram {
    fn record(&mut self, millis: u64) {
        let bucket = BUCKETS.iter().position(|(bound, _)| millis <= *bound);
        let count = bucket.and_then(|bucket| self.counts.get_mut(bucket));
        *count.unwrap_or(&mut self.longer) += 1;
        self.millis = self.millis.saturating_add(millis);
    }

    /// For each bucket, how many are in it or a smaller one.
    pub(super) fn cumulated(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut sum = 0;
        BUCKETS
            .iter()
            .zip(self.counts)
            .map(move |((_, seconds), count)| {
                sum += count;
                (*seconds, sum)
            })
    }

    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum::<u64>() + self.longer
    }

    /// The sum of all, in seconds.
    pub(super) fn sum(&self) -> String {
        format!("{}.{:03}", self.millis / 1000, self.millis % 1000)
    }
}

/// Times of jobs, by their hashed ids. Of very many jobs those that were noted first are forgotten, and so are
/// those that no event mentions any more.
#[derive(Debug, Default)]
struct Recent {
    newer: HashMap<u64, i64>,
    older: HashMap<u64, i64>,
}

impl Recent {
    fn note(&mut self, job: u64, time: i64) {
        self.older.remove(&job);
        if self.newer.len() >= HALF {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(job, time);
    }

    fn take(&mut self, job: u64) -> Option<i64> {
        // It may be in both.
        let older = self.older.remove(&job);
        self.newer.remove(&job).or(older)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Latencies {
    /// Reads what is new in the stream, up to a bound; the next look goes on from there. The first look only
    /// notes where the stream ends.
    pub(super) async fn read(&mut self, store: &Store) -> Result<()> {
        let Some(mut position) = self.position else {
            self.position = Some(store.newest_event().await?);
            return Ok(());
        };
        let (mut entries, mut bytes, mut count) = (0, 0, READ_FIRST);
        while entries < ENTRIES_MAX && bytes < BYTES_MAX {
            // Streams are trimmed from their old end: while the last entry that was read is there, so are all after it.
            let page = store.events_from(position, count + 1).await?;
            let is_whole = position == EventId::START
                || page.first().is_some_and(|first| first.id == position);
            if !is_whole {
                self.gaps += 1;
                self.ready.clear();
                self.running.clear();
            }
            let Some(last) = page.last() else {
                if !is_whole {
                    // The stream was deleted, or another has taken its place; nothing is read twice.
                    self.position = Some(store.newest_event().await?);
                }
                return Ok(());
            };
            let fresh = page.iter().filter(|entry| entry.id > position);
            let (mut read, mut size) = (0, 0);
            for entry in fresh {
                self.take(entry);
                read += 1;
                size += entry.fields.size();
            }
            position = last.id;
            self.position = Some(position);
            if read < count {
                return Ok(());
            }
            entries += read;
            bytes += size;
            count = (READ_BYTES / (size / read).max(1)).clamp(1, READ_MAX);
        }
        Ok(())
    }

    /// Takes in one entry; what it should have and has not is another writer's mistake.
    fn take(&mut self, entry: &RawEvent) {
        let fields = &entry.fields;
        let (Some(event), Some(job)) = (fields.get("event"), fields.bytes("jobId")) else {
            return;
        };
        let at = entry.id.timestamp().as_millis();
        let from = fields.get("prev").unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        job.hash(&mut hasher);
        let job = hasher.finish();
        match event {
            "waiting" => {
                if from == "active" {
                    self.ended(job, at, RETURNED, true);
                }
                // A delayed job could run when it was due, not when somebody looked.
                let due = self.ready.take(job).filter(|_| from == "delayed");
                self.ready.note(job, due.map_or(at, |due| due.min(at)));
            }
            "delayed" => {
                self.ended(job, at, RETURNED, false);
                if let Some(due) = fields.get("delay").and_then(|due| due.parse().ok()) {
                    self.ready.note(job, due);
                }
            }
            "waiting-children" => self.ended(job, at, RETURNED, from == "active"),
            "active" => {
                match self.ready.take(job) {
                    Some(since) => self.wait.record(between(since, at)),
                    None => self.unmeasured_waits += 1,
                }
                self.running.note(job, at);
            }
            "completed" => self.ended(job, at, COMPLETED, true),
            // A job may fail without having run, by a child of its.
            "failed" => self.ended(job, at, FAILED, from == "active"),
            "removed" => {
                self.ready.take(job);
                self.running.take(job);
            }
            _ => {}
        }
    }

    /// Measures a run that ends; `ran` when it is sure that there was one.
    fn ended(&mut self, job: u64, at: i64, end: usize, ran: bool) {
        match (self.running.take(job), self.run.get_mut(end)) {
            (Some(since), Some(run)) => run.record(between(since, at)),
            _ if ran => self.unmeasured_runs += 1,
            _ => {}
        }
    }
}

/// The milliseconds from one time to another; none where a clock was set back.
fn between(since: i64, until: i64) -> u64 {
    u64::try_from(until.saturating_sub(since)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs that left without an event must not fill the memory for ever.
    #[test]
    fn jobs_that_were_noted_first_are_forgotten() {
        let mut recent = Recent::default();
        for job in 0..=2 * HALF as u64 {
            recent.note(job, 7);
        }
        assert_eq!(recent.newer.len() + recent.older.len(), HALF + 1);
        assert_eq!(recent.take(0), None);
        assert_eq!(recent.take(2 * HALF as u64), Some(7));
        assert_eq!(recent.take(2 * HALF as u64), None);
        recent.note(HALF as u64, 8);
        assert_eq!(recent.take(HALF as u64), Some(8));
        assert_eq!(recent.take(HALF as u64), None);
    }

    #[test]
    fn buckets_are_cumulative_and_bounds_belong_to_them() {
        let mut histogram = Histogram::default();
        for millis in [0, 5, 6, 3_600_000, 3_600_001] {
            histogram.record(millis);
        }
        let buckets: Vec<_> = histogram.cumulated().collect();
        assert_eq!(buckets[..2], [("0.005", 2), ("0.01", 3)]);
        assert_eq!(buckets.last(), Some(&("3600", 4)));
        assert_eq!(
            (histogram.count(), histogram.sum().as_str()),
            (5, "7200.012")
        );
    }
}
