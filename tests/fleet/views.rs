//! What each kind shows of the other: events, workers.

use oxbull::{JobId, JobRecord, NewJob, Schedule};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order, scripted};

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
                let job = json!({ "name": "seen", "data": { "do": what }, "opts": opts });
                fleet.ask("queue.add", job).await
            };
            add("good", "progress:3", json!({})).await?;
            add("again", "failOnce", json!({ "attempts": 2 })).await?;
            add("bad", "fail", json!({ "attempts": 2, "backoff": 5 })).await?;
            add("late", "ok", json!({ "delay": 5 })).await?;
            let worker = if rust_works {
                Some(fleet.rust_worker().start(scripted).await?)
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
            let jobs = ["good", "again", "bad", "late"].map(|id| history(&fleet, id));
            histories.push(jobs);
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
        let worker = fleet.rust_worker().name("rosa").start(scripted).await?;
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
            // Both kinds see the same workers, under the same names.
            let ours = fleet
                .queue
                .workers()
                .await
                .map_err(|error| error.to_string())?;
            let mut ours: Vec<&str> = ours.iter().map(|one| one.client_name.as_str()).collect();
            let mut theirs = names.clone();
            ours.sort_unstable();
            theirs.sort_unstable();
            if named(":w:rosa") == 1 && named(":w:nora") == 1 && ours == theirs {
                Ok(())
            } else {
                Err(format!("{theirs:?} {ours:?}"))
            }
        })
        .await?;
        worker.close().await;
    }
    Ok(())
}

/// Who does what is seen whatever runs it: jobs of both kinds of workers, and listeners of both.
#[tokio::test]
async fn activity_shows_workers_of_both_kinds() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        fleet.ask("events.open", json!({})).await?;
        let _events = fleet.queue.events().open().await?;
        fleet
            .node_worker(json!({ "name": "nora", "concurrency": 1 }))
            .await?;
        let worker = fleet
            .rust_worker()
            .name("rosa")
            .concurrency(1)
            .start(scripted)
            .await?;
        fleet.queue.add("one", &Order::new("sleep:600000")).await?;
        fleet.queue.add("two", &Order::new("sleep:600000")).await?;
        eventually(DEADLINE, || async {
            let activity = fleet
                .queue
                .activity()
                .await
                .map_err(|error| error.to_string())?;
            let listeners = fleet
                .queue
                .listeners()
                .await
                .map_err(|error| error.to_string())?;
            let busy = |name: &str| {
                let group = activity
                    .by_name
                    .iter()
                    .find(|one| one.name.as_deref() == Some(name));
                group.is_some_and(|group| group.workers.len() == 1 && group.jobs.len() == 1)
            };
            if busy("nora") && busy("rosa") && listeners.len() == 2 && activity.active == 2 {
                Ok(())
            } else {
                Err(format!("{activity:?} {listeners:?}"))
            }
        })
        .await?;
        worker.close_now().await;
    }
    Ok(())
}

/// What is there of a JSON object: BullMQ's peer shows what is absent as null.
fn present(mut object: Value, but: &[&str]) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|name, value| !value.is_null() && !but.contains(&name.as_str()));
    }
    object
}

/// A dashboard that knows BullMQ's jobs and schedulers reads ours: in every state the JSON is the same.
#[tokio::test]
async fn records_have_the_json_form_of_bullmq() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        let add = async |id: &str, what: &str, mut opts: Value| {
            opts["jobId"] = json!(id);
            let job = json!({ "name": "shown", "data": { "do": what }, "opts": opts });
            fleet.ask("queue.add", job).await
        };
        add("plain", "ok", json!({})).await?;
        add(
            "progress",
            "progress:3",
            json!({ "keepLogs": 5, "removeOnComplete": false }),
        )
        .await?;
        let backoff = json!({ "type": "exponential", "delay": 5, "jitter": 0.5 });
        add(
            "bad",
            "fail",
            json!({ "attempts": 2, "backoff": backoff, "stackTraceLimit": 1 }),
        )
        .await?;
        let worker = fleet.rust_worker().name("rosa").start(scripted).await?;
        eventually(DEADLINE, || async {
            let counts = fleet
                .queue
                .counts()
                .await
                .map_err(|error| error.to_string())?;
            match (counts.completed, counts.failed) {
                (2, 1) => Ok(()),
                _ => Err(format!("{counts:?}")),
            }
        })
        .await?;
        worker.close().await;
        add("parent", "ok", json!({ "delay": 3_600_000 })).await?;
        let parent = json!({ "id": "parent", "queue": format!("bull:{}", fleet.name) });
        let telemetry = json!({ "metadata": "m", "omitContext": true });
        let opts = json!({
            "parent": parent, "failParentOnFailure": true, "telemetry": telemetry,
            "priority": 3, "sizeLimit": 500, "lifo": true,
        });
        add("child", "ok", opts).await?;
        let retention = json!({ "age": 60, "count": 5, "limit": 7 });
        let deduplication = json!({ "id": "d", "ttl": 60_000, "extend": true, "replace": true });
        let opts = json!({
            "deduplication": deduplication, "delay": 60_000,
            "removeOnComplete": 3, "removeOnFail": retention,
        });
        add("deduplicated", "ok", opts).await?;
        let every = Schedule::every(std::time::Duration::from_secs(3600));
        let upserted = fleet
            .queue
            .upsert_scheduler("hourly", &every, NewJob::new("tick", Order::new("ok")))
            .await?;
        let iteration = upserted.ok_or("no iteration")?.id;
        for id in [
            "plain",
            "progress",
            "bad",
            "parent",
            "child",
            "deduplicated",
            iteration.as_str(),
        ] {
            let theirs = fleet.ask("queue.getJob", json!({ "id": id })).await?;
            let theirs = present(theirs, &["token", "queueName", "prefix"]);
            let ours: Option<JobRecord> = fleet.queue.job(JobId::existing(id)).await?;
            let ours = serde_json::to_value(ours.ok_or(format!("{id} is gone"))?)?;
            assert_eq!(present(ours, &[]), theirs, "{id} {version:?}");
        }
        let theirs = fleet.ask("queue.getJobSchedulers", json!({})).await?;
        let ours = fleet.queue.scheduler("hourly").await?;
        let ours = serde_json::to_value(ours.ok_or("the scheduler is gone")?)?;
        assert_eq!(ours, present(theirs[0].clone(), &[]), "{version:?}");
        let theirs = fleet.ask("queue.getCounts", json!({})).await?;
        let ours = serde_json::to_value(fleet.queue.counts().await?)?;
        assert_eq!(ours, present(theirs, &["paused", "wait"]), "{version:?}");
    }
    Ok(())
}
