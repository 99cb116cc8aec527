//! Steps on parents and children as this library takes them.

use std::collections::BTreeMap;

use oxbull::{DependencyKind, FlowLimits, FlowNode, JobId, Queue};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::{answer, done};
use crate::step::{FlowStep, refused, sorted};

pub(super) async fn flow(queue: &Queue, step: &FlowStep) -> TestResult<Value> {
    match step {
        FlowStep::Children { id } => children(queue, &JobId::existing(id)).await,
        FlowStep::Tree {
            id,
            depth,
            max_children,
        } => {
            let limits = FlowLimits::new().depth(*depth).max_children(*max_children);
            let flow = queue.flow(id.as_str(), limits).await?;
            Ok(flow.as_ref().map_or(Value::Null, tree_of))
        }
        FlowStep::RemoveUnprocessed { id } => {
            let removed = queue.remove_unprocessed_children(id.as_str()).await;
            done(removed.map(drop))
        }
        FlowStep::Unlink { id } => {
            let unlinked = queue.remove_child_dependency(id.as_str()).await;
            answer(unlinked, Value::from)
        }
    }
}

async fn children(queue: &Queue, id: &JobId) -> TestResult<Value> {
    if queue.job(id).await?.is_none() {
        return Ok(refused(-1));
    }
    let values = queue.children_values::<Value>(id).await?.into_map()?;
    let mut all = BTreeMap::new();
    for kind in DependencyKind::ALL {
        let mut found = Vec::new();
        let mut walk = queue.dependencies(id, kind)?;
        while let Some(dependency) = walk.next().await {
            found.push(dependency?);
        }
        let keys = found.iter().map(|found| json!(found.key));
        let keys = sorted(keys.collect());
        let all_of = match kind {
            DependencyKind::Processed => {
                let results = found.iter().map(|found| {
                    let result = found.result::<Value>()?.unwrap_or_default();
                    Ok((found.key.to_string(), result))
                });
                json!(results.collect::<oxbull::Result<BTreeMap<_, _>>>()?)
            }
            DependencyKind::Ignored => json!(queue.ignored_failures(id).await?),
            DependencyKind::Failed => {
                let failed = queue.failed_children(id).await?;
                assert_eq!(json!(failed.keys().collect::<Vec<_>>()), keys);
                keys
            }
            _ => keys,
        };
        all.insert(json!(kind).as_str().unwrap_or_default().to_owned(), all_of);
    }
    Ok(json!({
        "values": values, "ignored": queue.ignored_failures(id).await?,
        "counts": queue.dependency_counts(id).await?, "all": all,
    }))
}

fn tree_of(node: &FlowNode) -> Value {
    let Some(job) = &node.job else {
        return Value::Null;
    };
    json!({
        "id": job.id, "queue": node.key.queue_name(), "prefix": node.key.prefix(), "name": job.name,
        "returned": job.return_value::<Value>().ok().flatten(), "reason": job.failed_reason,
        "children": sorted(node.children.iter().map(tree_of).collect()),
    })
}
