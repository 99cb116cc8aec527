//! The event stream between the two kinds: what one writes, the other reads.

use std::collections::BTreeSet;
use std::time::Duration;

use oxbull::{
    EventEntry, Job, JobId, JobOptions, JobOutcome, ManualWorker, Outcome, QueueEvent, QueueEvents,
    RetryOptions,
};
use oxbull_testkit::{BullMq, DEADLINE, TestResult};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order, scripted};

async fn next(events: &mut QueueEvents) -> TestResult<EventEntry> {
    let entry = tokio::time::timeout(DEADLINE, events.next()).await?;
    Ok(entry.ok_or("the stream has ended")??)
}

/// Reads until a custom event named `end`, and returns the names of the events before it; each
/// must be one that this version knows, with nothing left over.
async fn names_until_end(events: &mut QueueEvents) -> TestResult<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    loop {
        let entry = next(events).await?;
        match &entry.event {
            QueueEvent::Unknown { name, .. } if name == "end" => return Ok(names),
            QueueEvent::Unknown { .. } | QueueEvent::Gap { .. } => {
                return Err(format!("not typed: {entry:?}").into());
            }
            event => {
                assert!(entry.extra.is_empty(), "{entry:?}");
                names.insert(event.name().to_owned());
            }
        }
    }
}

/// Makes BullMQ emit every kind of event.
async fn act_as_bullmq(fleet: &Fleet) -> TestResult {
    let add = async |id: &str, what: &str, mut opts: Value| {
        opts["jobId"] = json!(id);
        let job = json!({ "name": "n", "data": { "do": what }, "opts": opts });
        fleet.ask("queue.add", job).await
    };
    fleet.ask("queue.pause", json!({})).await?;
    fleet.ask("queue.resume", json!({})).await?;
    add("cleaned", "ok", json!({})).await?;
    fleet
        .ask("queue.clean", json!({ "type": "wait", "limit": 10 }))
        .await?;
    add("removed", "ok", json!({})).await?;
    fleet
        .ask("queue.remove", json!({ "id": "removed" }))
        .await?;
    add("late", "ok", json!({ "delay": 100_000 })).await?;
    fleet.ask("queue.promote", json!({ "id": "late" })).await?;
    add("late", "ok", json!({})).await?;
    let once = json!({ "deduplication": { "id": "d" } });
    add("owner", "ok", once.clone()).await?;
    add("other", "ok", once).await?;
    fleet
        .ask(
            "manual.open",
            json!({ "manual": "dead", "opts": { "lockDuration": 30 } }),
        )
        .await?;
    fleet
        .ask(
            "manual.getNextJob",
            json!({ "manual": "dead", "token": "t" }),
        )
        .await?;
    let check = json!({ "opts": { "stalledInterval": 1 } });
    oxbull_testkit::eventually(DEADLINE, async || {
        let checked = fleet.ask("manual.checkStalled", check.clone()).await;
        let checked = checked.map_err(|error| error.to_string())?;
        let stalled = checked["stalled"].as_array().map_or(0, Vec::len);
        (stalled > 0).then_some(()).ok_or(checked.to_string())
    })
    .await?;
    fleet
        .ask(
            "flow.add",
            json!({ "flow": {
                "name": "parent", "queueName": fleet.name, "data": { "do": "ok" },
                "children": [
                    { "name": "child", "queueName": fleet.name, "data": { "do": "progress:5" } },
                ],
            }}),
        )
        .await?;
    add("bad", "fail", json!({ "attempts": 2 })).await?;
    fleet.node_worker(json!({})).await?;
    Ok(())
}

/// Every event that either version of BullMQ writes is one of ours, field by field.
#[tokio::test]
async fn every_event_of_bullmq_is_typed() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        let mut events = QueueEvents::open(&fleet.client, &fleet.name).await?;
        act_as_bullmq(&fleet).await?;
        oxbull_testkit::eventually(DEADLINE, async || {
            fleet
                .queue
                .counts()
                .await
                .is_ok_and(|counts| counts.failed == 1 && counts.completed == 4)
        })
        .await?;
        fleet.queue.publish_event("end", &()).await?;
        let names = names_until_end(&mut events).await?;
        let mut expected: BTreeSet<String> = [
            "active",
            "added",
            "cleaned",
            "completed",
            "deduplicated",
            "delayed",
            "drained",
            "duplicated",
            "failed",
            "paused",
            "progress",
            "removed",
            "resumed",
            "retries-exhausted",
            "stalled",
            "waiting",
            "waiting-children",
        ]
        .map(str::to_owned)
        .into();
        if version == BullMq::V5 {
            expected.insert("debounced".to_owned());
        }
        assert_eq!(names, expected, "{version:?}");
    }
    Ok(())
}

/// So is every event that this library writes, and Node's listener reads them all.
#[tokio::test]
async fn every_event_of_ours_is_typed_and_read_by_bullmq() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    let mut events = QueueEvents::open(&fleet.client, &fleet.name).await?;
    let listen = json!({ "events": ["end"], "opts": { "lastEventId": "0" } });
    fleet.ask("events.open", listen).await?;
    let queue = &fleet.queue;
    let late = JobOptions::new().delay(Duration::from_secs(100));
    queue.pause().await?;
    queue.resume().await?;
    let id = JobId::new("twice")?;
    for _ in 0..2 {
        let twice = JobOptions::new().id(id.clone());
        queue
            .add_with("n", &Order::new("progress:3"), twice)
            .await?;
    }
    let removed = queue
        .add_with("n", &Order::new("ok"), late.clone())
        .await?
        .id;
    queue.remove(&removed).await?;
    let promoted = queue.add_with("n", &Order::new("ok"), late).await?.id;
    queue.promote(&promoted).await?;
    let manual =
        ManualWorker::new(&fleet.client, &fleet.name)?.lock_duration(Duration::from_millis(30));
    manual.fetch("t").await?;
    oxbull_testkit::eventually(DEADLINE, async || {
        let stalled = manual.check_stalled(Duration::from_millis(1), 1).await;
        stalled.is_ok_and(|stalled| !stalled.is_empty())
    })
    .await?;
    let bad = JobOptions::new().attempts(2);
    let bad = queue.add_with("n", &Order::new("fail"), bad).await?.id;
    let worker = fleet.rust_worker().start(scripted).await?;
    let end: JobOutcome<Value> = queue.wait_for(&bad, DEADLINE).await?;
    assert_eq!(
        end,
        JobOutcome::Failed {
            reason: "boom".to_owned()
        }
    );
    queue.retry(&bad, RetryOptions::new()).await?;
    queue.wait_for::<Value>(&bad, DEADLINE).await?;
    worker.close().await;
    queue.publish_event("end", &()).await?;
    let names = names_until_end(&mut events).await?;
    let expected: BTreeSet<String> = [
        "active",
        "added",
        "completed",
        "delayed",
        "drained",
        "duplicated",
        "failed",
        "paused",
        "progress",
        "removed",
        "resumed",
        "retries-exhausted",
        "stalled",
        "waiting",
    ]
    .map(str::to_owned)
    .into();
    assert!(names.is_superset(&expected), "{names:?}");
    fleet.node.wait_event_named(DEADLINE, "queue.end").await?;
    let heard: BTreeSet<String> = fleet
        .node
        .events()
        .iter()
        .filter_map(|event| {
            event["event"]
                .as_str()?
                .strip_prefix("queue.")
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(heard, names);
    Ok(())
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Deployed {
    version: String,
    build: u32,
    live: bool,
    notes: Vec<String>,
    by: Option<String>,
}

/// An application's own events go both ways, and keep their meaning.
#[tokio::test]
async fn custom_events_go_both_ways() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        let mut events = QueueEvents::open(&fleet.client, &fleet.name).await?;
        let listen = json!({ "events": ["deployed"], "opts": { "lastEventId": "0" } });
        fleet.ask("events.open", listen).await?;
        // Node writes every member as text; structure is the publisher's business.
        let fields = json!({
            "eventName": "deployed", "version": "1.0", "build": 7, "live": true,
            "notes": "[\"a\"]", "jobId": "12",
        });
        fleet
            .ask("events.publish", json!({ "fields": fields }))
            .await?;
        let entry = next(&mut events).await?;
        let QueueEvent::Unknown { name, fields, .. } = &entry.event else {
            return Err(format!("{entry:?}").into());
        };
        assert_eq!(
            (name.as_str(), fields.get("jobId")),
            ("deployed", Some("12"))
        );
        let mut deployed = Deployed {
            version: "1.0".to_owned(),
            build: 7,
            live: true,
            notes: vec!["a".to_owned()],
            by: None,
        };
        assert_eq!(fields.decode::<Deployed>()?, deployed);
        fleet
            .node
            .wait_event_named(DEADLINE, "queue.deployed")
            .await?;

        deployed.by = Some("ada".to_owned());
        let id = fleet.queue.publish_event("deployed", &deployed).await?;
        let heard = fleet
            .node
            .wait_event_named(DEADLINE, "queue.deployed")
            .await?;
        assert_eq!(heard["eventId"], json!(id.to_string()));
        let texts = json!({
            "version": "1.0", "build": "7", "live": "true", "notes": "[\"a\"]", "by": "ada",
        });
        assert_eq!(heard["fields"], texts);
        let entry = next(&mut events).await?;
        assert_eq!(entry.id, id);
        let QueueEvent::Unknown { fields, .. } = &entry.event else {
            return Err(format!("{entry:?}").into());
        };
        assert_eq!(fields.decode::<Deployed>()?, deployed);
    }
    Ok(())
}

/// A wait ends whichever library runs the job, and a clean by Node ends the wait.
#[tokio::test]
async fn ends_come_from_workers_of_either_kind() -> TestResult {
    for version in BullMq::ALL {
        let fleet = Fleet::start(version).await?;
        let queue = &fleet.queue;
        let waiting = queue.add("n", &Order::new("ok")).await?.id;
        let cleaned = {
            let (queue, id) = (queue.clone(), waiting.clone());
            tokio::spawn(async move { queue.wait_for::<Value>(&id, DEADLINE).await })
        };
        oxbull_testkit::eventually(DEADLINE, async || {
            let clients = fleet.server.text(&["CLIENT", "LIST"]).await;
            clients.is_ok_and(|list| list.is_some_and(|list| list.contains(":qe ")))
        })
        .await?;
        let clean = json!({ "type": "wait", "limit": 10 });
        fleet.ask("queue.clean", clean).await?;
        let cleaned = cleaned.await?;
        assert!(cleaned.is_err(), "{cleaned:?}");

        fleet.node_worker(json!({ "concurrency": 5 })).await?;
        let worker = fleet.rust_worker().concurrency(5).start(scripted).await?;
        let mut waits = tokio::task::JoinSet::new();
        for n in 0..60 {
            let what = ["ok", "failOnce", "fail"][n % 3];
            let queue = queue.clone();
            waits.spawn(async move {
                let options = JobOptions::new().attempts(2);
                let order = Order::new(what);
                let end = queue.add_and_wait::<Value>("n", &order, options, DEADLINE);
                (what, end.await)
            });
        }
        while let Some(done) = waits.join_next().await {
            let (what, end) = done?;
            let expected = match what {
                "fail" => JobOutcome::Failed {
                    reason: "boom".to_owned(),
                },
                _ => JobOutcome::Completed(json!({ "ok": true })),
            };
            assert_eq!(end?, expected, "{what}");
        }
        let ours = fleet.rust_starts().await?;
        assert!(ours > 0 && ours < 100, "{ours} of 100 starts were ours");
        worker.close().await;
    }
    Ok(())
}

/// A job may wait for another job of its own process, over the connections it has.
#[tokio::test]
async fn handler_may_wait_for_another_job() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    fleet.node_worker(json!({})).await?;
    let inner = fleet.queue.clone();
    let outer: oxbull::Queue<Value> = oxbull::Queue::open(&fleet.client, "outer").await?;
    let worker = oxbull::Worker::builder(&fleet.client, "outer")
        .start(move |_: Job<Value>, _: oxbull::Context| {
            let inner = inner.clone();
            async move {
                let order = Order::new("ok");
                let end = inner
                    .add_and_wait::<Value>("n", &order, JobOptions::new(), DEADLINE)
                    .await?;
                Ok::<_, oxbull::JobError>(Outcome::Done(format!("{end:?}")))
            }
        })
        .await?;
    let end = outer
        .add_and_wait::<String>("x", &json!({}), JobOptions::new(), DEADLINE)
        .await?;
    assert!(matches!(end, JobOutcome::Completed(text) if text.contains("ok")));
    worker.close().await;
    Ok(())
}
