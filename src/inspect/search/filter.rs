//! The criteria of a search.

use serde_json::Value;

use super::condition::{DataCondition, has};
use crate::clock::Timestamp;
use crate::job::{JobId, JobRecord};
use crate::json;

/// What must hold of a job; nothing by default. Ranges are the first and the last number.
#[derive(Clone, Default)]
pub(in crate::inspect) struct Filter {
    pub(super) id: Option<JobId>,
    pub(super) name: Option<String>,
    pub(super) name_prefix: Option<String>,
    pub(super) failed_reason: Option<String>,
    pub(super) data: Vec<DataCondition>,
    pub(super) added: Option<(i64, i64)>,
    pub(super) processed: Option<(i64, i64)>,
    pub(super) finished: Option<(i64, i64)>,
    pub(super) attempts_made: Option<(i64, i64)>,
    /// Whether `contains` ignores the case of letters.
    pub(super) fold: bool,
}

impl Filter {
    /// The only job that can match, if it is known.
    pub(in crate::inspect) fn id(&self) -> Option<&JobId> {
        self.id.as_ref()
    }

    /// The fields of a job's hash that decide; none when every job matches.
    pub(in crate::inspect) fn fields(&self) -> Vec<&'static str> {
        let mut fields = Vec::new();
        for (needed, names) in [
            (
                self.name.is_some() || self.name_prefix.is_some(),
                ["name"].as_slice(),
            ),
            (self.failed_reason.is_some(), &["failedReason"]),
            (!self.data.is_empty(), &["data"]),
            (self.processed.is_some(), &["processedOn"]),
            (self.finished.is_some(), &["finishedOn"]),
            (self.attempts_made.is_some(), &["atm", "attemptsMade"]),
            (self.added.is_some(), &[]),
        ] {
            if needed {
                fields.extend(names);
            }
            // Every job has this one, which tells a job without the others from none.
            if needed && !fields.contains(&"timestamp") {
                fields.push("timestamp");
            }
        }
        fields
    }

    /// Whether a job matches; `None` where its data cannot be read.
    pub(in crate::inspect) fn matches(&self, job: &JobRecord) -> Option<bool> {
        let within = |range: Option<(i64, i64)>, number: Option<i64>| {
            range.is_none_or(|(first, last)| {
                number.is_some_and(|number| first <= number && number <= last)
            })
        };
        let cheap = self.name.as_ref().is_none_or(|name| *name == job.name)
            && self
                .name_prefix
                .as_ref()
                .is_none_or(|prefix| job.name.starts_with(prefix.as_str()))
            && self.failed_reason.as_ref().is_none_or(|part| {
                let reason = job.failed_reason.as_ref();
                reason.is_some_and(|reason| has(reason, part, self.fold))
            })
            && within(self.added, Some(job.timestamp.as_millis()))
            && within(self.processed, job.processed_on.map(Timestamp::as_millis))
            && within(self.finished, job.finished_on.map(Timestamp::as_millis))
            && within(self.attempts_made, Some(i64::from(job.attempts_made)));
        if !cheap || self.data.is_empty() {
            return Some(cheap);
        }
        let data: Value = json::read(&job.raw_data).ok()?;
        let holds = |condition: &DataCondition| condition.holds_for(&data, self.fold);
        Some(self.data.iter().all(holds))
    }
}
