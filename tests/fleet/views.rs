//! What each kind shows of the other: events, workers.

use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order, obey};

/// The events that a Node listener saw about a job, in order.
fn history(fleet: &Fleet, id: &str) -> Vec<String> {
    let mine = |event: &&Value| event["fields"]["jobId"] == json!(id);
    let events = fleet.node.events();
    let named = events
        .iter()
        .filter(mine)
        .filter_map(|event| event["event"].as_str());
    named.map(ToOwned::to_owned).collect()
}

async fn wait_for(fleet: &Fleet, id: &str, last: &str) -> TestResult {
    eventually(DEADLINE, || async {
        history(fleet, id).last().is_some_and(|event| event == last)
    })
    .await?;
    Ok(())
}

/// A Node listener follows a job through a Rust worker as it would through Node's.
#[tokio::test]
async fn bullmq_listeners_see_whole_histories_of_jobs_that_rust_ran() -> TestResult {
    for version in BullMq::ALL {
        let mut histories = Vec::new();
        for rust_works in [true, false] {
            let fleet = Fleet::start(version).await?;
            fleet.ask("events.open", json!({})).await?;
            let add = async |id: &str, what: &str, mut opts: Value| {
                opts["jobId"] = json!(id);
                let job = json!({ "name": "told", "data": { "do": what }, "opts": opts });
                fleet.ask("queue.add", job).await
            };
            add("good", "progress:3", json!({})).await?;
            add("again", "failOnce", json!({ "attempts": 2 })).await?;
            add("bad", "fail", json!({ "attempts": 2, "backoff": 5 })).await?;
            add("late", "ok", json!({ "delay": 5 })).await?;
            let worker = if rust_works {
                Some(fleet.rust_worker().start(obey).await?)
            } else {
                fleet.node_worker(json!({})).await?;
                None
            };
            wait_for(&fleet, "good", "queue.completed").await?;
            wait_for(&fleet, "again", "queue.completed").await?;
            wait_for(&fleet, "late", "queue.completed").await?;
            eventually(DEADLINE, || async {
                let seen = history(&fleet, "bad");
                seen.iter().any(|event| event == "queue.failed")
                    && seen.iter().any(|event| event == "queue.retries-exhausted")
            })
            .await?;
            let told = ["good", "again", "bad", "late"].map(|id| history(&fleet, id));
            histories.push(told);
            if let Some(worker) = worker {
                worker.close().await;
            }
        }
        assert_eq!(histories[0], histories[1], "{version:?}");
        assert!(histories[0][0].contains(&"queue.active".to_owned()));
    }
    Ok(())
}

/// Dashboards find the workers of a queue, and their names, by their connections.
#[tokio::test]
async fn rust_workers_show_up_among_bullmq_workers() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        fleet.node_worker(json!({ "name": "nora" })).await?;
        let worker = fleet.rust_worker().name("rosa").start(obey).await?;
        fleet.queue.add("one", &Order::new("ok")).await?;
        eventually(DEADLINE, || async {
            let listed = fleet
                .ask("queue.call", json!({ "method": "getWorkers" }))
                .await
                .map_err(|error| error.to_string())?;
            let names: Vec<&str> = listed
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|worker| worker["rawname"].as_str())
                .collect();
            let named = |name: &str| names.iter().filter(|raw| raw.ends_with(name)).count();
            if named(":w:rosa") == 1 && named(":w:nora") == 1 {
                Ok(())
            } else {
                Err(format!("{names:?}"))
            }
        })
        .await?;
        worker.close().await;
    }
    Ok(())
}
