//! A mix of jobs, and what must have become of each.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{Backoff, JobId, JobOptions, JobState, NewJob, Parent, Retention};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order};

/// What a job must have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    /// `None`: removed.
    pub(crate) state: Option<JobState>,
    pub(crate) starts: u64,
    pub(crate) dones: u64,
}

const DONE: Fate = Fate {
    state: Some(JobState::Completed),
    starts: 1,
    dones: 1,
};

/// The kinds of jobs; the n-th job is of kind n modulo their number.
const KINDS: usize = 14;

/// One job in neutral terms, which both producers understand.
struct Plan {
    what: &'static str,
    fate: Fate,
    /// Options as BullMQ spells them.
    node: Value,
    /// The same options.
    rust: JobOptions,
}

fn plan(kind: usize, index: usize) -> Plan {
    let ms = Duration::from_millis;
    let options = JobOptions::new;
    let spread = index % 7 + 1;
    let retried = |starts| Fate { starts, ..DONE };
    let failed = |starts| Fate {
        state: Some(JobState::Failed),
        starts,
        dones: 0,
    };
    let removed = Fate {
        state: None,
        ..DONE
    };
    let (what, fate, node, rust) = match kind {
        0 | 1 => ("ok", DONE, json!({}), options()),
        2 => {
            let delay = 20 * spread as u64;
            (
                "ok",
                DONE,
                json!({ "delay": delay }),
                options().delay(ms(delay)),
            )
        }
        3 => {
            let priority = u32::try_from(spread).unwrap();
            (
                "ok",
                DONE,
                json!({ "priority": priority }),
                options().priority(priority),
            )
        }
        4 => (
            "failOnce",
            retried(2),
            json!({ "attempts": 3 }),
            options().attempts(3),
        ),
        5 => (
            "failTimes:2",
            retried(3),
            json!({ "attempts": 3, "backoff": { "type": "exponential", "delay": 10 } }),
            options().attempts(3).backoff(Backoff::exponential(ms(10))),
        ),
        6 => (
            "fail",
            failed(2),
            json!({ "attempts": 2, "backoff": { "type": "fixed", "delay": 15 } }),
            options().attempts(2).backoff(Backoff::fixed(ms(15))),
        ),
        7 => (
            "unrecoverable",
            failed(1),
            json!({ "attempts": 5 }),
            options().attempts(5),
        ),
        8 => ("ok", DONE, json!({ "lifo": true }), options().lifo()),
        9 => (
            "ok",
            removed,
            json!({ "removeOnComplete": true }),
            options().remove_on_complete(Retention::Remove),
        ),
        10 => (
            "progress:7;log:seen",
            DONE,
            json!({ "keepLogs": 5 }),
            options().keep_logs(5),
        ),
        11 => ("delayOnce:20", retried(2), json!({}), options()),
        12 => (
            "waitOnce",
            retried(2),
            json!({ "priority": 3 }),
            options().priority(3),
        ),
        _ => (
            "ok",
            DONE,
            json!({ "removeOnComplete": { "age": 3600, "count": 1_000_000 } }),
            options().remove_on_complete(Retention::Bounded {
                count: Some(1_000_000),
                age: Some(Duration::from_secs(3600)),
                limit: None,
            }),
        ),
    };
    Plan {
        what,
        fate,
        node,
        rust,
    }
}

/// The jobs of a load and their fates, by id.
pub(crate) type Fates = BTreeMap<String, Fate>;

/// Adds `count` jobs of all kinds from this library.
pub(crate) async fn add_from_rust(fleet: &Fleet, count: usize) -> TestResult<Fates> {
    let mut fates = Fates::new();
    let mut jobs = Vec::new();
    for index in 0..count {
        let plan = plan(index % KINDS, index);
        let id = format!("rust-{index}");
        let options = plan.rust.id(JobId::new(&id)?);
        jobs.push(NewJob::new("mixed", Order::new(plan.what)).options(options));
        fates.insert(id, plan.fate);
    }
    for added in fleet.queue.add_bulk(jobs).await? {
        added?;
    }
    Ok(fates)
}

/// Adds `count` jobs of all kinds from Node.
pub(crate) async fn add_from_node(fleet: &Fleet, count: usize) -> TestResult<Fates> {
    let mut fates = Fates::new();
    let mut jobs = Vec::new();
    for index in 0..count {
        let Plan {
            what,
            fate,
            node: mut opts,
            ..
        } = plan(index % KINDS, index);
        let id = format!("node-{index}");
        opts["jobId"] = json!(id);
        jobs.push(json!({ "name": "mixed", "data": { "do": what }, "opts": opts }));
        fates.insert(id, fate);
    }
    for batch in jobs.chunks(500) {
        fleet.ask("queue.addBulk", json!({ "jobs": batch })).await?;
    }
    Ok(fates)
}

/// Adds a parent from Node, in a queue of its own, that waits for one child, and gives it
/// `count` more children from this library. Returns the parent queue's name, the parent's id,
/// and the children's fates.
pub(crate) async fn add_children(fleet: &Fleet, count: usize) -> TestResult<(String, Fates)> {
    let parents = format!("{}-parents", fleet.name);
    let tree = json!({
        "name": "parent",
        "queueName": parents,
        "data": { "do": "ok" },
        "opts": { "jobId": "parent" },
        "children": [{
            "name": "child",
            "queueName": fleet.name,
            "data": { "do": "ok" },
            "opts": { "jobId": "child-node", "delay": 200 },
        }],
    });
    fleet.node.call("flow.add", json!({ "flow": tree })).await?;
    let mut fates = Fates::from([("child-node".to_owned(), DONE)]);
    let parent = Parent::new(format!("bull:{parents}"), JobId::new("parent")?);
    for index in 0..count {
        let id = format!("child-rust-{index}");
        let options = JobOptions::new()
            .id(JobId::new(&id)?)
            .parent(parent.clone());
        fleet
            .queue
            .add_with("child", &Order::new("ok"), options)
            .await?;
        fates.insert(id, DONE);
    }
    Ok((parents, fates))
}

/// Waits until nothing is left to do, then compares each job with its fate.
pub(crate) async fn check(fleet: &Fleet, fates: &Fates) -> TestResult {
    let unfinished = || async {
        let counts = fleet.queue.counts().await.map_err(|e| e.to_string())?;
        let kept = fates.values().filter(|fate| fate.state.is_some()).count();
        let ended = usize::try_from(counts.completed + counts.failed).unwrap_or(0);
        let open = counts.waiting + counts.active + counts.delayed + counts.prioritized;
        let started = fleet.effects("started").await.map_err(|e| e.to_string())?;
        if open == 0 && ended == kept && started.len() == fates.len() {
            Ok(())
        } else {
            Err(format!(
                "{ended} of {kept} ended, {} of {} started: {counts:?}",
                started.len(),
                fates.len()
            ))
        }
    };
    eventually(DEADLINE, unfinished).await?;
    let (starts, dones) = (
        fleet.effects("started").await?,
        fleet.effects("done").await?,
    );
    let mut wrong = Vec::new();
    let mut completed = sorted_set(fleet, "completed").await?;
    let mut failed = sorted_set(fleet, "failed").await?;
    for (id, fate) in fates {
        let state = match (completed.remove(id), failed.remove(id)) {
            (true, false) => Some(JobState::Completed),
            (false, true) => Some(JobState::Failed),
            (false, false) => None,
            (true, true) => {
                wrong.push(format!("{id} completed and failed"));
                continue;
            }
        };
        let seen = Fate {
            state,
            starts: starts.get(id).copied().unwrap_or(0),
            dones: dones.get(id).copied().unwrap_or(0),
        };
        if seen != *fate {
            wrong.push(format!("{id}: {seen:?} instead of {fate:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} jobs went wrong, such as {:?}",
        wrong.len(),
        fates.len(),
        wrong.iter().take(5).collect::<Vec<_>>()
    );
    assert!(
        completed.is_empty() && failed.is_empty(),
        "jobs nobody added"
    );
    Ok(())
}

async fn sorted_set(fleet: &Fleet, name: &str) -> TestResult<std::collections::BTreeSet<String>> {
    let key = format!("bull:{}:{name}", fleet.name);
    let ids = fleet.server.cli(&["ZRANGE", &key, "0", "-1"]).await?;
    Ok(ids.texts().into_iter().collect())
}
