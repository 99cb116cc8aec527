//! What must hold of a queue once a fault is over and the queue is drained.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use oxbull::JobId;
use oxbull_testkit::{RedisServer, TestResult};

use crate::fixture::Fixture;
use crate::logs;

/// Places of a job in the queue's keys: suffix, and whether it is a list.
const PLACES: [(&str, bool); 8] = [
    ("wait", true),
    ("paused", true),
    ("active", true),
    ("delayed", false),
    ("prioritized", false),
    ("waiting-children", false),
    ("completed", false),
    ("failed", false),
];

/// What a test allows beyond the rule.
#[derive(Debug, Default)]
pub(crate) struct Allow {
    /// Jobs that fail by design without their handler.
    pub(crate) failing: BTreeSet<String>,
    /// Jobs beyond those acknowledged: adds whose outcome was reported as unknown.
    pub(crate) unknown_adds: usize,
    /// Clients that log about this queue; each may say a thing once a second.
    pub(crate) clients: usize,
}

/// What a check found.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) completed: usize,
    pub(crate) failed: usize,
    /// Handler starts beyond one per job.
    pub(crate) repeated: usize,
    /// Recoveries that the jobs' hashes count.
    pub(crate) stalls: i64,
    pub(crate) log_lines: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "completed={} failed={} repeated={} stalls={} log_lines={}",
            self.completed, self.failed, self.repeated, self.stalls, self.log_lines
        )
    }
}

/// Checks a drained queue of which nothing is removed: no acknowledged job is lost, none is
/// stuck, none failed without a handler, each is in exactly one state, no lock is left.
pub(crate) async fn check_queue(
    fixture: &Fixture,
    acknowledged: &[JobId],
    allow: Allow,
) -> TestResult<Summary> {
    let mut broken = Vec::new();
    let mut place_of: BTreeMap<String, &str> = BTreeMap::new();
    for (place, is_list) in PLACES {
        for id in members(&fixture.server, &fixture.key(place), is_list).await? {
            if let Some(other) = place_of.insert(id.clone(), place) {
                broken.push(format!("{id} is in {other} and {place}"));
            }
            if matches!(
                place,
                "wait" | "paused" | "active" | "delayed" | "prioritized"
            ) {
                broken.push(format!("{id} is stuck in {place}"));
            }
        }
    }
    for id in acknowledged {
        if !place_of.contains_key(id.as_str()) {
            broken.push(format!("{id} was acknowledged and is lost"));
        }
    }
    let surplus = place_of.len().saturating_sub(acknowledged.len());
    if surplus > allow.unknown_adds {
        broken.push(format!("{surplus} jobs that no add returned"));
    }

    let (starts, ends) = (fixture.effects.counts(false), fixture.effects.counts(true));
    let mut stalls = 0;
    for (id, place) in &place_of {
        let key = fixture.key(id);
        let job = fixture.server.cli(&["HGETALL", &key]).await?.map();
        if job.is_empty() {
            broken.push(format!("{id} is in {place} without a hash"));
        }
        let number = |field: &str| job.get(field).and_then(|text| text.parse::<i64>().ok());
        stalls += number("stc").unwrap_or(0);
        let made = number("atm").unwrap_or(0);
        if made > number("ats").unwrap_or(0) {
            broken.push(format!("{id} made more attempts than it started"));
        }
        if *place == "completed" && !ends.contains_key(id) {
            broken.push(format!("{id} is completed, but no handler came to its end"));
        }
        if *place == "failed" && !starts.contains_key(id) && !allow.failing.contains(id) {
            let reason = job.get("failedReason");
            broken.push(format!("{id} failed without a handler: {reason:?}"));
        }
        if !job.contains_key("finishedOn") && matches!(*place, "completed" | "failed") {
            broken.push(format!("{id} is {place} at no time"));
        }
    }
    for id in fixture.effects.doubled() {
        broken.push(format!("{id} was started twice by one activation"));
    }
    for id in starts.keys() {
        if !place_of.contains_key(id) {
            broken.push(format!("{id} had a handler and is gone"));
        }
    }

    let pattern = fixture.key("*");
    for key in fixture.server.cli(&["KEYS", &pattern]).await?.texts() {
        let suffix = key.strip_prefix(&fixture.key("")).unwrap_or(&key);
        if suffix.ends_with(":lock") {
            broken.push(format!("{suffix} is left"));
        }
        let kind = fixture.server.text(&["TYPE", &key]).await?;
        let is_job = kind.as_deref() == Some("hash") && suffix != "meta" && !suffix.contains(':');
        if is_job && !place_of.contains_key(suffix) {
            broken.push(format!("{suffix} has a hash and no place"));
        }
    }
    let stalled = fixture
        .server
        .cli(&["SMEMBERS", &fixture.key("stalled")])
        .await?;
    if !stalled.texts().is_empty() {
        broken.push(format!("{:?} are remembered as active", stalled.texts()));
    }

    let mut subjects = vec![fixture.name.clone(), format!(":{}", fixture.server.port())];
    subjects.extend(
        fixture
            .proxy
            .as_ref()
            .map(|proxy| format!(":{}", proxy.port())),
    );
    let lines = logs::about(&subjects);
    broken.extend(logs::too_often(&lines, allow.clients.max(1)));

    if !broken.is_empty() {
        let count = broken.len();
        broken.truncate(20);
        return Err(format!("{count} rules broken:\n{}", broken.join("\n")).into());
    }
    let count = |wanted: &str| place_of.values().filter(|place| **place == wanted).count();
    Ok(Summary {
        completed: count("completed"),
        failed: count("failed"),
        repeated: starts.values().map(|times| times - 1).sum(),
        stalls,
        log_lines: lines.len(),
    })
}

/// The members of a list or sorted set.
pub(crate) async fn members(
    server: &RedisServer,
    key: &str,
    list: bool,
) -> TestResult<Vec<String>> {
    let command = if list { "LRANGE" } else { "ZRANGE" };
    Ok(server.cli(&[command, key, "0", "-1"]).await?.texts())
}

/// The check finds what it is there to find: otherwise every other test here proves nothing.
#[tokio::test]
async fn broken_queues_are_found() -> TestResult {
    let breakages: [(&str, &[&str]); 9] = [
        ("acknowledged and is lost", &["ZREM", "completed", "1"]),
        ("without a hash", &["DEL", "1"]),
        ("is in wait and completed", &["LPUSH", "wait", "1"]),
        ("is stuck in active", &["LPUSH", "active", "77"]),
        (
            "jobs that no add returned",
            &["ZADD", "completed", "1", "78"],
        ),
        ("is left", &["SET", "1:lock", "somebody"]),
        ("has a hash and no place", &["HSET", "79", "name", "work"]),
        ("remembered as active", &["SADD", "stalled", "1"]),
        ("more attempts than it started", &["HSET", "1", "atm", "9"]),
    ];
    for (complaint, command) in breakages {
        let fixture = Fixture::start().await?;
        let ids = fixture.add(3, 0).await?;
        let worker = fixture.worker().start(crate::fixture::work).await?;
        fixture.drained().await?;
        worker.close().await;
        check_queue(&fixture, &ids, Allow::default()).await?;
        let key = fixture.key(command[1]);
        let mut broken = command.to_vec();
        broken[1] = &key;
        fixture.server.cli(&broken).await?;
        let verdict = check_queue(&fixture, &ids, Allow::default()).await;
        let text = verdict.map_or_else(|error| error.to_string(), |found| found.to_string());
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
    let fixture = Fixture::start().await?;
    let ids = fixture.add(1, 0).await?;
    let worker = fixture.worker().start(crate::fixture::work).await?;
    fixture.drained().await?;
    worker.close().await;
    fixture.effects.note("1", 1, false);
    let verdict = check_queue(&fixture, &ids, Allow::default()).await;
    assert!(verdict.is_err(), "one activation, two starts: {verdict:?}");
    Ok(())
}
