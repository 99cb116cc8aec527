//! How many jobs ended, minute by minute.

use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use super::range::Indexes;
use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::JobState;
use crate::queue::Queue;
use crate::store::StoredMetrics;

/// Which ends are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MetricKind {
    /// Jobs that completed.
    Completed,
    /// Jobs that failed.
    Failed,
}

/// How many jobs ended (`docs/protocol.md#metrics`). Only [workers that are told
/// to](crate::WorkerBuilder::metrics) count; all is zero where none is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct JobMetrics {
    /// How many have ended since recording began, those that are removed by now included.
    pub count: u64,
    /// When the last minute was completed, by the first end in the next.
    #[serde(rename = "prevTS")]
    pub last_minute: Option<Timestamp>,
    /// The count at the end of that minute.
    #[serde(rename = "prevCount")]
    pub last_count: u64,
    /// How many ended in each minute of the range, the newest first. The minute that is running is not
    /// there, nor any before the first end in a later minute.
    pub data: Vec<u64>,
    /// How many minutes are kept.
    pub points: u64,
    /// Numbers that cannot be read, and count as 0: `<field>: is not a number`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

impl<D> Queue<D> {
    /// Reads how many jobs ended in each minute. In the range, 0 is the newest minute: `0..60` is the
    /// last hour, `..` all that is kept.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a range that ends before it begins; connection
    /// errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::inspect::MetricKind;
    ///
    /// let failed = queue.metrics(MetricKind::Failed, 0..60).await?;
    /// println!("{} in the last hour, {} in all", failed.data.iter().sum::<u64>(), failed.count);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getMetrics")]
    pub async fn metrics(
        &self,
        kind: MetricKind,
        range: impl RangeBounds<i64>,
    ) -> Result<JobMetrics> {
        let state = match kind {
            MetricKind::Completed => JobState::Completed,
            MetricKind::Failed => JobState::Failed,
        };
        // A range from 1 to 0 has no rows.
        let bounds = Indexes::of(&range)?.bounds().unwrap_or((1, 0));
        Ok(decode(self.store().metrics(state, bounds).await?))
    }
}

fn decode(stored: StoredMetrics) -> JobMetrics {
    let mut problems = Vec::new();
    let mut number = |name: &str, text: &str| {
        text.trim().parse::<u64>().unwrap_or_else(|_| {
            problems.push(format!("{name}: is not a number"));
            0
        })
    };
    let mut field = |name: &str, text: Option<String>| text.map(|text| number(name, &text));
    let count = field("count", stored.count).unwrap_or(0);
    let last_minute = field("prevTS", stored.last_minute);
    let last_count = field("prevCount", stored.last_count).unwrap_or(0);
    let data = stored.points.iter().map(|text| number("data", text));
    JobMetrics {
        count,
        last_minute: last_minute
            .and_then(|millis| i64::try_from(millis).ok())
            .map(Timestamp::from_millis),
        last_count,
        data: data.collect(),
        points: stored.total_points,
        problems,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broken point must not hide the others.
    #[test]
    fn odd_numbers_are_named_and_count_as_zero() {
        let metrics = decode(StoredMetrics {
            count: Some("7".to_owned()),
            last_minute: Some("x".to_owned()),
            last_count: None,
            points: ["3", "-1", " 4 "].map(str::to_owned).to_vec(),
            total_points: 9,
        });
        assert_eq!(
            (metrics.count, metrics.last_count, metrics.points),
            (7, 0, 9)
        );
        assert_eq!(metrics.data, [3, 0, 4]);
        assert_eq!(metrics.last_minute, Some(Timestamp::from_millis(0)));
        assert_eq!(
            metrics.problems,
            ["prevTS: is not a number", "data: is not a number"]
        );
    }
}
