//! Flows that are added.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::driver::Driver;
use crate::fixture::scenarios;
use crate::step::Step;

scenarios!(own:
    child_of_another_living_parent_stops_its_flow,
    missing_parent_stops_all_flows_of_a_call,
);

fn flow(id: &str, children: &[&str]) -> Value {
    let children: Vec<_> = children.iter().map(|child| flow(child, &[])).collect();
    json!({ "name": id, "queueName": "q", "data": {}, "opts": { "jobId": id }, "children": children })
}

/// BullMQ stores the parent all the same, and nothing ever releases it.
async fn child_of_another_living_parent_stops_its_flow(q: &mut Driver) -> TestResult {
    q.node("flow.add", json!({ "flow": flow("p1", &["s1"]) }))
        .await?;
    let before = q.snapshot().await?;
    let answer = q.add_flow(flow("p2", &["fresh", "s1"])).await?;
    assert_eq!(answer, json!({ "refused": -7 }));
    assert_eq!(q.snapshot().await?.difference(&before), None);
    q.work_off("s1").await?;
    q.node("flow.add", json!({ "flow": flow("p3", &["s1"]) }))
        .await?;
    q.expect("p3:dependencies", Value::Null).await
}

/// BullMQ stores the other flows and answers as if it had stored all.
async fn missing_parent_stops_all_flows_of_a_call(q: &mut Driver) -> TestResult {
    let before = q.snapshot().await?;
    let mut orphan = flow("orphan", &["k2"]);
    orphan["opts"]["parent"] = json!({ "id": "nobody", "queue": "$P:q" });
    let flows = vec![flow("p1", &["k1"]), orphan];
    let answer = q.act(Step::AddFlows(flows)).await?;
    assert_eq!(answer, json!({ "refused": -5 }));
    assert_eq!(q.snapshot().await?.difference(&before), None);
    Ok(())
}
