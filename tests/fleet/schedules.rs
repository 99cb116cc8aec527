//! Schedules that workers of every kind continue for each other.

use std::collections::BTreeMap;
use std::time::Duration;

use oxbull::{
    CatchUp, JobId, JobOptions, ManualWorker, NewJob, Overlap, RepairedScheduler, Schedule,
};
use oxbull_testkit::{BullMq, DEADLINE, NodePeer, TestResult, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, Order, scripted};

/// How many iterations each schedule has.
const INTERVALS: u64 = 60;
const SECONDS: u64 = 4;

/// The iterations that were started, by scheduler.
async fn started(fleet: &Fleet) -> TestResult<BTreeMap<String, Vec<u64>>> {
    let mut by_scheduler = BTreeMap::<_, Vec<u64>>::new();
    for (id, starts) in fleet.effects("started").await? {
        let (scheduler, _) = id.rsplit_once(':').ok_or("a job without a schedule")?;
        by_scheduler
            .entry(scheduler.to_owned())
            .or_default()
            .push(starts);
    }
    Ok(by_scheduler)
}

/// Looks for lost schedules as often as it can. Returns what it finds: nothing, while every
/// iteration is held by a worker.
async fn doubts(fleet: &Fleet) -> TestResult<Vec<RepairedScheduler>> {
    let checker = ManualWorker::new(&fleet.client, &fleet.name)?;
    let throttle = format!("bull:{}:stalled-check:schedulers", fleet.name);
    loop {
        let found = checker.check_schedulers(DEADLINE).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        fleet.server.cli(&["DEL", &throttle]).await?;
    }
}

/// Four schedules, set up from both sides, in the hands of workers of three kinds: each has as many
/// iterations as its limit says, and each of them runs once.
#[tokio::test]
async fn three_kinds_of_workers_share_every_schedule() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    let old = NodePeer::bullmq(BullMq::V5, fleet.server.port()).await?;
    let params =
        json!({ "queue": fleet.name, "effectsKey": "effects", "opts": { "concurrency": 2 } });
    old.call("worker.start", params).await?;
    fleet.node_worker(json!({ "concurrency": 2 })).await?;
    let worker = fleet.rust_worker().concurrency(2).start(scripted).await?;

    let often = Schedule::every(Duration::from_millis(60)).limit(INTERVALS);
    let options = JobOptions::new().attempts(2);
    let template = NewJob::new("often", Order::new("failOnce;sleep:5")).options(options);
    fleet
        .queue
        .upsert_scheduler("rust-often", &often, template)
        .await?;
    let second = Schedule::cron("* * * * * *")
        .time_zone("UTC")
        .limit(SECONDS);
    let template = NewJob::new("second", Order::new("ok"));
    fleet
        .queue
        .upsert_scheduler("rust-second", &second, template)
        .await?;
    let template = json!({ "data": { "do": "ok" }, "opts": { "attempts": 2, "backoff": 1 } });
    for (id, repeat) in [
        ("node-often", json!({ "every": 60, "limit": INTERVALS })),
        (
            "node-second",
            json!({ "pattern": "* * * * * *", "tz": "UTC", "limit": SECONDS }),
        ),
    ] {
        let upsert = json!({ "id": id, "repeat": repeat, "template": template });
        fleet.ask("queue.upsertJobScheduler", upsert).await?;
    }

    let all = 2 * (INTERVALS + SECONDS);
    let completed = eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await;
        counts.is_ok_and(|counts| counts.completed == all)
    });
    tokio::select! {
        completed = completed => completed.map(drop)?,
        found = doubts(&fleet) => return Err(format!("{:?} was not lost", found?).into()),
    }
    worker.close().await;
    let started = started(&fleet).await?;
    assert_eq!(started.len(), 4);
    for (scheduler, starts) in started {
        let often = scheduler.ends_with("often");
        let iterations = if often { INTERVALS } else { SECONDS };
        assert_eq!(starts.len() as u64, iterations, "{scheduler}");
        // An iteration that fails once is started twice.
        let times = if scheduler.ends_with("rust-often") {
            2
        } else {
            1
        };
        assert!(
            starts.iter().all(|&n| n == times),
            "{scheduler}: {starts:?}"
        );
    }
    let ours = fleet.rust_starts().await?;
    assert!(
        ours > 0 && ours < all + INTERVALS,
        "{ours} starts were Rust's"
    );
    for record in fleet
        .queue
        .schedulers(0, -1, oxbull::SchedulerOrder::SoonestFirst)
        .await?
    {
        assert_eq!(record.iterations, record.limit, "{}", record.id);
    }
    assert_eq!(fleet.queue.counts().await?.delayed, 0);
    Ok(())
}

/// Either library may set a scheduler up again and again while workers of both advance it: it never
/// has more than one iteration to come, and no iteration runs twice.
#[tokio::test]
async fn upserts_from_both_sides_keep_one_iteration() -> TestResult {
    let fleet = Fleet::start(BullMq::V6).await?;
    fleet.node_worker(json!({ "concurrency": 2 })).await?;
    let worker = fleet.rust_worker().concurrency(2).start(scripted).await?;
    let schedule = Schedule::every(Duration::from_millis(30));
    let upsert =
        json!({ "id": "s", "repeat": { "every": 30 }, "template": { "data": { "do": "ok" } } });
    for _ in 0..40 {
        let template = NewJob::new("s", Order::new("ok"));
        let (ours, theirs) = tokio::join!(
            fleet.queue.upsert_scheduler("s", &schedule, template),
            fleet.ask("queue.upsertJobScheduler", upsert.clone()),
        );
        ours?;
        theirs?;
        let counts = fleet.queue.counts().await?;
        assert!(counts.waiting + counts.delayed <= 1, "{counts:?}");
    }
    let before = fleet.effects("started").await?.len();
    eventually(DEADLINE, || async {
        let started = fleet.effects("started").await;
        started.is_ok_and(|started| started.len() > before + 5)
    })
    .await?;
    fleet.queue.remove_scheduler("s").await?;
    worker.close().await;
    assert!(
        fleet
            .effects("started")
            .await?
            .values()
            .all(|&starts| starts == 1)
    );
    Ok(())
}

async fn policies_survive(version: BullMq) -> TestResult {
    let fleet = Fleet::start(version).await?;
    let schedule = Schedule::every(Duration::from_millis(20))
        .hash_seed("seed")
        .overlap(Overlap::Skip)
        .catch_up(CatchUp::All)
        .limit(4);
    let template = NewJob::new("n", Order::new("ok"));
    fleet
        .queue
        .upsert_scheduler("s", &schedule, template)
        .await?;
    fleet.node_worker(json!({})).await?;
    eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await;
        counts.is_ok_and(|counts| counts.completed == 4)
    })
    .await?;
    let record = fleet.queue.scheduler("s").await?.ok_or("it is gone")?;
    assert_eq!(record.iterations, Some(4));
    let read = record.schedule().ok_or("it has no schedule")?;
    // Its offset is that of the first run.
    assert_eq!(read, schedule.offset(record.offset.unwrap_or_default()));
    let last = JobId::existing(format!("repeat:s:{}", record.next));
    let key = format!("bull:{}:{last}", fleet.name);
    let opts = fleet.server.text(&["HGET", &key, "opts"]).await?;
    let opts: Value = serde_json::from_str(&opts.ok_or("it has no options")?)?;
    assert_eq!(opts["repeat"]["hashSeed"], json!("seed"));
    assert_eq!(opts["repeat"]["count"], json!(4));
    Ok(())
}

/// What a schedule declares beyond BullMQ's own options is still there after its iterations.
#[tokio::test]
async fn declared_policies_survive_bullmq_6() -> TestResult {
    policies_survive(BullMq::V6).await
}

/// The same for the older major version.
#[tokio::test]
async fn declared_policies_survive_bullmq_5() -> TestResult {
    policies_survive(BullMq::V5).await
}

/// A repeatable job of BullMQ 4, run by BullMQ 5 and by this library: each of its jobs is
/// made once, by either library, and runs once.
#[tokio::test]
async fn repeatable_of_bullmq_4_is_shared_with_bullmq_5() -> TestResult {
    let fleet = Fleet::start(BullMq::V5).await?;
    let key = |name: &str| format!("bull:{}:{name}", fleet.name);
    // The second one has a job id of its own, which version 4 puts into its hash.
    for (member, hash, repeat) in [
        (
            "rep::::60",
            "0a6c2ef8f5a1a3c1c0f7d6f0f3b3a8d1",
            json!({ "every": 60, "count": 1, "limit": INTERVALS }),
        ),
        (
            "rep:own:::* * * * * *",
            "316733ddb105dac7eef18b0fb73b5053",
            json!({ "pattern": "* * * * * *", "jobId": "own", "count": 1, "limit": SECONDS }),
        ),
    ] {
        let slot = "1699999980000";
        let id = format!("repeat:{hash}:{slot}");
        let opts = json!({ "repeat": repeat, "jobId": id, "delay": 0, "prevMillis": 1_699_999_980_000_i64 });
        let (opts, data) = (opts.to_string(), json!({ "do": "sleep:5" }).to_string());
        let command = ["ZADD", &key("repeat"), slot, member];
        fleet.server.cli(&command).await?;
        let fields = [
            "HSET",
            &key(&id),
            "name",
            "rep",
            "data",
            &data,
            "opts",
            &opts,
            "rjk",
            member,
            "timestamp",
            slot,
            "delay",
            "0",
            "priority",
            "0",
        ];
        fleet.server.cli(&fields).await?;
        fleet.server.cli(&["LPUSH", &key("wait"), &id]).await?;
    }
    fleet.node_worker(json!({ "concurrency": 2 })).await?;
    let worker = fleet.rust_worker().concurrency(2).start(scripted).await?;
    let all = INTERVALS + SECONDS;
    eventually(DEADLINE, || async {
        let counts = fleet.queue.counts().await;
        counts.is_ok_and(|counts| counts.completed == all)
    })
    .await?;
    worker.close().await;
    let slots = fleet.effects("started").await?;
    assert_eq!(slots.len() as u64, all);
    assert!(slots.values().all(|&starts| starts == 1), "{slots:?}");
    let ours = fleet.rust_starts().await?;
    assert!(ours > 0 && ours < all, "{ours} starts were Rust's");
    assert_eq!(fleet.queue.counts().await?.delayed, 0);
    Ok(())
}
