//! Flows in the form in which BullMQ's users write them.

use oxbull::{ChildPolicy, Client, FlowAdded, FlowJob, FlowProducer, JobOptions};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::answer;
use super::options::{options, options_and_policy, text};
use crate::step::Place;

pub(super) async fn add(
    client: &Client,
    place: &Place,
    flow: &Value,
    defaults: &Value,
) -> TestResult<Value> {
    let mut producer = FlowProducer::new(client).prefix(&place.prefix);
    for (queue, opts) in defaults.as_object().into_iter().flatten() {
        producer = producer.default_options(queue, options(opts)?);
    }
    let (root, _) = job(flow)?;
    answer(producer.add(&root).await, |added| tree(&added))
}

pub(super) async fn add_many(client: &Client, place: &Place, flows: &[Value]) -> TestResult<Value> {
    let roots: Vec<_> = flows.iter().map(job).collect::<TestResult<_>>()?;
    let producer = FlowProducer::new(client).prefix(&place.prefix);
    let added = producer.add_many(roots.iter().map(|(root, _)| root)).await;
    answer(added, |added| added.iter().map(tree).collect())
}

/// Reads a job with its children, and what its own failure does to its parent.
fn job(node: &Value) -> TestResult<(FlowJob, ChildPolicy)> {
    let data = match node.get("data") {
        Some(data) => data.clone(),
        None => json!({}),
    };
    let mut job = FlowJob::new(text(&node["queueName"])?, text(&node["name"])?, &data);
    if let Some(prefix) = node["prefix"].as_str() {
        job = job.prefix(prefix);
    }
    for child in node["children"].as_array().into_iter().flatten() {
        let (child, policy) = self::job(child)?;
        job = job.child(policy, child);
    }
    let (options, policy): (JobOptions, _) = options_and_policy(&node["opts"])?;
    Ok((job.options(options), policy))
}

fn tree(added: &FlowAdded) -> Value {
    let children: Vec<_> = added.children.iter().map(tree).collect();
    let queue = added.queue.rsplit_once(':').map(|(_, queue)| queue);
    json!({ "id": added.id.as_str(), "queue": queue, "children": children })
}
