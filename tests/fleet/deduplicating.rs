//! Both sides add under the same deduplication ids.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use oxbull::{AddOutcome, Deduplication, JobOptions};
use oxbull_testkit::{BullMq, DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order, scripted};

/// Entries of the event stream, each as its fields.
async fn events(fleet: &Fleet) -> TestResult<Vec<BTreeMap<String, String>>> {
    let key = format!("bull:{}:events", fleet.name);
    let entries = fleet.server.cli(&["XRANGE", &key, "-", "+"]).await?;
    let fields = |fields: Vec<String>| {
        let pairs = fields.chunks_exact(2);
        pairs
            .map(|pair| (pair[0].clone(), pair[1].clone()))
            .collect()
    };
    Ok(entries
        .items()
        .iter()
        .filter_map(|entry| entry.items().get(1))
        .map(|entry| fields(entry.texts()))
        .collect())
}

/// Two hundred adds of one id at once, half from each side, leave one job that all of them name.
async fn one_job_of_two_hundred(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let order = Order::new("ok");
    let options = || JobOptions::new().deduplication(Deduplication::new("k"));
    let ours = join_all((0..100).map(|_| fleet.queue.add_with("ours", &order, options())));
    let theirs = join_all((0..100).map(|_| {
        let params = json!({ "name": "theirs", "data": { "do": "ok" },
            "opts": { "deduplication": { "id": "k" } } });
        fleet.ask("queue.add", params)
    }));
    let (ours, theirs) = tokio::join!(ours, theirs);
    let counts = fleet.queue.counts().await?;
    assert_eq!(counts.waiting, 1);
    let owner = fleet.queue.deduplication_owner("k").await?.expect("owned");
    let mut stored = 0;
    for added in ours {
        let added = added?;
        assert_eq!(added.id, owner.job);
        stored += usize::from(added.outcome == AddOutcome::Added);
    }
    for added in theirs {
        assert_eq!(added?["id"], owner.job.as_str());
    }
    assert!(
        stored <= 1,
        "{stored} adds returned that they stored the job"
    );
    let hits = |event: &str, all: &[BTreeMap<String, String>]| {
        all.iter().filter(|entry| entry["event"] == event).count()
    };
    let all = events(&fleet).await?;
    assert_eq!(hits("added", &all), 1);
    assert_eq!(hits("deduplicated", &all), 199);
    // The older version says it twice, in its old word too.
    let debounced = if version == BullMq::V5 {
        99..=100
    } else {
        0..=0
    };
    assert!(debounced.contains(&hits("debounced", &all)));

    let worker = fleet.rust_worker().start(scripted).await?;
    eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await;
        counts.is_ok_and(|counts| counts.completed == 1)
    })
    .await?;
    assert_eq!(fleet.queue.deduplication_owner("k").await?, None);
    worker.close().await;
    Ok(())
}

#[tokio::test]
async fn two_hundred_adds_of_us_and_bullmq_6_leave_one_job() -> TestResult {
    one_job_of_two_hundred(BullMq::V6).await
}

#[tokio::test]
async fn two_hundred_adds_of_us_and_bullmq_5_leave_one_job() -> TestResult {
    one_job_of_two_hundred(BullMq::V5).await
}

/// How many ids the storm has, and how many adds of each come from each side.
const IDS: usize = 30;
const ADDS: usize = 20;

/// The n-th id and its mode, as we say it and as BullMQ does.
fn mode(n: usize) -> (Deduplication, Value) {
    let id = format!("k{n}");
    let ours = Deduplication::new(id.as_str());
    match n % 3 {
        0 => (ours, json!({ "id": id })),
        1 => (
            ours.keep_last_if_active(),
            json!({ "id": id, "keepLastIfActive": true }),
        ),
        _ => (ours.replace(), json!({ "id": id, "replace": true })),
    }
}

/// Workers of both kinds run while both sides add: an id has at most one job at a time and one
/// kept add, so that all that was stored runs once and nothing is left behind.
async fn storm(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    fleet.node_worker(json!({ "concurrency": 10 })).await?;
    let worker = fleet.rust_worker().concurrency(10).start(scripted).await?;
    let order = Order::new("sleep:3");
    for round in 0..ADDS {
        let delay = |n: usize| 10 * (n as u64 % 2) * (round as u64 % 3);
        let ours = (0..IDS).map(|n| {
            let options = JobOptions::new()
                .delay(Duration::from_millis(delay(n)))
                .deduplication(mode(n).0);
            fleet.queue.add_with("ours", &order, options)
        });
        let theirs = (0..IDS).map(|n| {
            let opts = json!({ "delay": delay(n), "deduplication": mode(n).1 });
            let data = json!({ "do": "sleep:3" });
            fleet.ask(
                "queue.add",
                json!({ "name": "theirs", "data": data, "opts": opts }),
            )
        });
        let (ours, theirs) = tokio::join!(try_join_all(ours), try_join_all(theirs));
        ours?;
        theirs?;
    }
    eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await;
        counts.is_ok_and(|c| c.waiting + c.active + c.delayed == 0)
    })
    .await?;
    worker.close().await;

    let (mut stored, mut removed, mut running) = (0, 0, BTreeMap::new());
    for entry in events(&fleet).await? {
        match entry["event"].as_str() {
            "added" => stored += 1,
            "removed" => removed += 1,
            "active" => {
                let job = oxbull::JobId::existing(&entry["jobId"]);
                let job = fleet.queue.job(&job).await?.expect("the job is kept");
                let id = job.deduplication_id.expect("every job has one");
                let other = running.insert(id.clone(), entry["jobId"].clone());
                assert_eq!(other, None, "two jobs of {id} ran at once");
            }
            "completed" => running.retain(|_, job| job != &entry["jobId"]),
            _ => {}
        }
    }
    let done = fleet.effects("done").await?;
    assert!(
        stored - removed >= IDS,
        "{stored} stored, {removed} replaced"
    );
    assert_eq!(done.len(), stored - removed);
    assert!(done.values().all(|&runs| runs == 1));
    let pattern = format!("bull:{}:d[en]:*", fleet.name);
    let left = fleet.server.cli(&["KEYS", &pattern]).await?.texts();
    assert_eq!(left, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn deduplicating_storm_with_bullmq_6_leaves_nothing_behind() -> TestResult {
    storm(BullMq::V6).await
}

#[tokio::test]
async fn deduplicating_storm_with_bullmq_5_leaves_nothing_behind() -> TestResult {
    storm(BullMq::V5).await
}
