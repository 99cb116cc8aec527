//! Steps on parents and children as BullMQ takes them.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::Node;
use crate::step::{FlowStep, Place, sorted};

impl Node {
    pub(super) async fn flow(&self, place: &Place, step: &FlowStep) -> TestResult<Value> {
        match step {
            FlowStep::Children { id } => {
                let mut answers = Vec::new();
                for method in [
                    "getChildrenValues",
                    "getIgnoredChildrenFailures",
                    "getDependencies",
                    "getDependenciesCount",
                ] {
                    let params = json!({ "id": id, "method": method, "args": [] });
                    let answer = self.call(place, "job.call", params).await?;
                    if answer.get("refused").is_some() {
                        return Ok(answer);
                    }
                    answers.push(answer);
                }
                let all = answers[2].clone();
                Ok(json!({
                    "values": answers[0], "ignored": answers[1], "counts": answers[3],
                    "all": {
                        "processed": all["processed"], "ignored": all["ignored"],
                        "unprocessed": sorted(all["unprocessed"].clone()),
                        "failed": sorted(all["failed"].clone()),
                    },
                }))
            }
            FlowStep::Tree {
                id,
                depth,
                max_children,
            } => {
                let opts = json!({ "id": id, "queueName": place.queue, "depth": depth,
                    "maxChildren": max_children });
                let tree = self
                    .call(place, "flow.get", json!({ "opts": opts }))
                    .await?;
                Ok(tree_of(&tree))
            }
            FlowStep::RemoveUnprocessed { id } => {
                let params = json!({ "id": id, "method": "removeUnprocessedChildren" });
                self.done(place, "job.call", params).await
            }
            FlowStep::Unlink { id } => {
                let params = json!({ "id": id, "method": "removeChildDependency" });
                self.call(place, "job.call", params).await
            }
        }
    }
}

fn tree_of(node: &Value) -> Value {
    if node.is_null() {
        return Value::Null;
    }
    let job = &node["job"];
    let children = node["children"].as_array().into_iter().flatten();
    json!({
        "id": job["id"], "queue": job["queueName"], "prefix": job["prefix"], "name": job["name"],
        "returned": job["returnvalue"], "reason": job["failedReason"],
        "children": sorted(children.map(tree_of).collect()),
    })
}
