//! What BullMQ's getters answer.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::Node;
use crate::step::{Place, Read, shown_job};

impl Node {
    pub(super) async fn read(&self, place: &Place, read: &Read) -> TestResult<Value> {
        let get = async |method: &str, args: Value| {
            let params = json!({ "method": method, "args": args });
            self.call(place, "queue.call", params).await
        };
        match read {
            Read::Jobs(types, (start, end), asc) => {
                let params = json!({ "types": types, "start": start, "end": end, "asc": asc });
                let jobs = self.call(place, "queue.getJobs", params).await?;
                Ok(jobs
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(shown_job)
                    .collect())
            }
            Read::Ids(types, (start, end), asc) => {
                get("getRanges", json!([types, start, end, asc])).await
            }
            Read::Counts => get("getJobCounts", json!([])).await,
            Read::Pending => get("count", json!([])).await,
            Read::CountsByPriority(priorities) => {
                get("getCountsPerPriority", json!([priorities])).await
            }
            Read::DelayedBefore(time) => get("getDelayedCount", json!([time])).await,
            Read::Logs(id, (start, end), asc) => {
                get("getJobLogs", json!([id, start, end, asc])).await
            }
            Read::Settings => get("getMeta", json!([])).await,
            Read::Metrics(kind, (start, end)) => get("getMetrics", json!([kind, start, end])).await,
            Read::Export(labels) => get("exportPrometheusMetrics", json!([labels])).await,
        }
    }
}
