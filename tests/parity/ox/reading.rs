//! What this library reads, in the form of BullMQ's getters.

use std::collections::BTreeMap;

use oxbull::inspect::{Exporter, JobOrder, MetricKind};
use oxbull::{JobState, Queue, Timestamp};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::job_id;
use crate::step::{Read, shown_job};

pub(super) async fn read(queue: &Queue, read: &Read) -> TestResult<Value> {
    match read {
        Read::Jobs(types, range, asc) => {
            let page = queue
                .jobs(states(types)?, between(*range), order(*asc))
                .await?;
            let jobs = serde_json::to_value(&page.jobs)?;
            Ok(jobs
                .as_array()
                .into_iter()
                .flatten()
                .map(shown_job)
                .collect())
        }
        Read::Ids(types, range, asc) => {
            let ids = queue
                .job_ids(states(types)?, between(*range), order(*asc))
                .await?;
            Ok(serde_json::to_value(ids)?)
        }
        Read::Counts => Ok(serde_json::to_value(queue.counts().await?)?),
        Read::Pending => Ok(queue.counts().await?.pending().into()),
        Read::CountsByPriority(priorities) => {
            let counts = queue.counts_by_priority(priorities.iter().copied()).await?;
            let counts = counts
                .into_iter()
                .map(|(priority, count)| (priority.to_string(), count));
            Ok(serde_json::to_value(counts.collect::<BTreeMap<_, _>>())?)
        }
        Read::DelayedBefore(time) => {
            let time = Timestamp::from_millis(*time);
            Ok(queue.delayed_before(time).await?.into())
        }
        Read::Logs(id, (start, end), asc) => {
            let logs = if *asc {
                queue.logs(&job_id(id), *start, *end).await?
            } else {
                queue.newest_logs(&job_id(id), *start, *end).await?
            };
            Ok(serde_json::to_value(logs)?)
        }
        Read::Settings => Ok(serde_json::to_value(queue.settings().await?)?),
        Read::Metrics(kind, range) => {
            let kind = match *kind {
                "completed" => MetricKind::Completed,
                _ => MetricKind::Failed,
            };
            let metrics = queue.metrics(kind, between(*range)).await?;
            let last = metrics.last_minute.map_or(0, Timestamp::as_millis);
            let meta = json!({
                "count": metrics.count, "prevTS": last, "prevCount": metrics.last_count,
            });
            Ok(json!({ "meta": meta, "data": metrics.data, "count": metrics.points }))
        }
        Read::Export(labels) => {
            let mut exporter = Exporter::new().queue(queue);
            for (name, value) in labels.as_object().into_iter().flatten() {
                exporter = exporter.label(name, value.as_str().unwrap_or_default());
            }
            let text = exporter.render().await?;
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.contains("bullmq_"))
                .collect();
            Ok(lines.join("\n").into())
        }
    }
}

fn states(types: &[&str]) -> TestResult<Vec<JobState>> {
    Ok(types
        .iter()
        .map(|name| name.parse())
        .collect::<Result<_, _>>()?)
}

fn between((start, end): (i64, i64)) -> std::ops::RangeInclusive<i64> {
    start..=end
}

fn order(asc: bool) -> JobOrder {
    if asc {
        JobOrder::Ascending
    } else {
        JobOrder::Descending
    }
}
