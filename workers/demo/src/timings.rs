//! How fast a queue's jobs were done.

use std::time::Duration;

use crate::queues::QueueSnapshot;

/// Measured over the jobs that have ended.
#[derive(Debug, Default)]
pub(crate) struct Timings {
    /// Jobs a second, between the first start and the last end.
    pub(crate) throughput: f64,
    /// Time from when a job was due to its end: half the jobs took no longer.
    pub(crate) p50: Duration,
    /// The same for 99 of 100 jobs.
    pub(crate) p99: Duration,
}

impl Timings {
    pub(crate) fn of(queue: &QueueSnapshot) -> Self {
        let mut times = Vec::new();
        let mut starts = Vec::new();
        let mut ends = Vec::new();
        for job in &queue.jobs {
            let (Some(start), Some(end)) = (job.record.processed_on, job.record.finished_on) else {
                continue;
            };
            times.push(end.since(job.record.timestamp + job.delay));
            starts.push(start);
            ends.push(end);
        }
        times.sort_unstable();
        let (Some(first), Some(last)) = (starts.iter().min(), ends.iter().max()) else {
            return Self::default();
        };
        let span = last.since(*first).max(Duration::from_millis(1));
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let throughput = times.len() as f64 / span.as_secs_f64();
        Self {
            throughput,
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        }
    }
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nearest rank: the smallest value that at least so many percent do not exceed.
    #[test]
    fn percentiles_are_values_that_occurred() {
        let times: Vec<_> = (1..=10).map(Duration::from_secs).collect();
        assert_eq!(percentile(&times, 50), Duration::from_secs(5));
        assert_eq!(percentile(&times, 99), Duration::from_secs(10));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
