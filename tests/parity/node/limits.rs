//! Steps on limits as BullMQ takes them.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::Node;
use crate::step::{Limit, Place};

impl Node {
    pub(super) async fn limit(&self, place: &Place, limit: Limit) -> TestResult<Value> {
        let ask = |method, args| {
            let params = json!({ "method": method, "args": args });
            self.call(place, "queue.call", params)
        };
        let there = |removed: &Value| json!(removed.as_u64().is_some_and(|count| count > 0));
        Ok(match limit {
            Limit::SetConcurrency(jobs) => {
                ask("setGlobalConcurrency", json!([jobs])).await?;
                Value::Null
            }
            Limit::RemoveConcurrency => there(&ask("removeGlobalConcurrency", json!([])).await?),
            Limit::Concurrency => ask("getGlobalConcurrency", json!([])).await?,
            Limit::IsMaxed => ask("isMaxed", json!([])).await?,
            Limit::SetRate(max, window) => {
                ask("setGlobalRateLimit", json!([max, window])).await?;
                Value::Null
            }
            Limit::RemoveRate => there(&ask("removeGlobalRateLimit", json!([])).await?),
            Limit::Rate => ask("getGlobalRateLimit", json!([])).await?,
            Limit::Impose(wait) => {
                ask("rateLimit", json!([wait])).await?;
                Value::Null
            }
            Limit::Lift => there(&ask("removeRateLimitKey", json!([])).await?),
            Limit::State(max) => {
                let args = max.map_or(json!([]), |max| json!([max]));
                match ask("getRateLimitTtl", args).await?.as_i64() {
                    Some(0 | -2) => "free".into(),
                    Some(-1) => "endless".into(),
                    _ => "held".into(),
                }
            }
        })
    }
}
