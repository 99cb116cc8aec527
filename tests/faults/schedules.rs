//! F6: a schedule continues whatever happens to the workers that run it, and makes each of its
//! iterations once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxbull::{
    DrainScope, Error, JobId, JobOptions, NewJob, Overlap, Queue, Retention, Schedule, WorkerEvent,
};
use oxbull_testkit::{Command, DEADLINE, Proxy, RedisServer, Rule, TestResult, eventually};

use crate::check::{Allow, Summary, check_queue};
use crate::fixture::{Fixture, Work, builder, event, work};
use crate::processes::Process;
use crate::scripts::{runs, script_of};

/// How many iterations the tests' schedules have.
const ITERATIONS: u64 = 4;

async fn upsert(fixture: &Fixture, schedule: &Schedule, ms: u64) -> TestResult {
    let template = NewJob::new("tick", Work { ms });
    let made = fixture
        .queue
        .upsert_scheduler("s", schedule, template)
        .await?;
    made.map(drop)
        .ok_or_else(|| "there is no run to come".into())
}

fn schedule() -> Schedule {
    Schedule::every(Duration::from_millis(200)).limit(ITERATIONS)
}

/// How often each iteration was made, by the queue's events.
async fn made(fixture: &Fixture) -> TestResult<BTreeMap<String, usize>> {
    let events = fixture
        .server
        .cli(&["XRANGE", &fixture.key("events"), "-", "+"])
        .await?;
    let mut made = BTreeMap::new();
    for entry in events.items() {
        let fields = entry.items()[1].map();
        if fields.get("event").is_some_and(|event| event == "added") {
            *made.entry(fields["jobId"].clone()).or_insert(0) += 1;
        }
    }
    Ok(made)
}

/// Waits until the schedule has had all its iterations, then checks each of them: it was made once
/// and has completed.
async fn complete(fixture: &Fixture, iterations: u64, clients: usize) -> TestResult<Summary> {
    eventually(DEADLINE, async || {
        let counts = fixture
            .queue
            .counts()
            .await
            .map_err(|error| error.to_string())?;
        (counts.completed == iterations)
            .then_some(())
            .ok_or(format!("{counts:?}"))
    })
    .await?;
    let made = made(fixture).await?;
    assert_eq!(made.len() as u64, iterations, "{made:?}");
    assert!(made.values().all(|&times| times == 1), "{made:?}");
    let ids: Vec<JobId> = made.keys().map(JobId::existing).collect();
    let allow = Allow {
        clients,
        ..Allow::default()
    };
    check_queue(fixture, &ids, allow).await
}

/// The call that stores the result of an attempt.
fn finishes(command: &Command) -> bool {
    script_of(command).as_deref() == Some("advance") && command.has("complete")
}

/// Kills a process that is stopped at a command, before or after Redis runs it; then lets another
/// worker go on. Returns how many iterations were run again.
async fn killed_at(stop: Rule) -> TestResult<usize> {
    let fixture = Fixture::start().await?;
    let proxy = Proxy::start(fixture.server.port()).await?;
    let stopped = proxy.add(stop.nth(1));
    upsert(&fixture, &schedule(), 5).await?;
    let mut process = Process::start_at(&fixture, &proxy.url())?;
    stopped.wait_fired(1, DEADLINE).await?;
    process.signal("-KILL")?;
    process.ended().await?;
    proxy.kill_all();
    process.take_notes(&fixture)?;
    let worker = fixture.worker().start(work).await?;
    let summary = complete(&fixture, ITERATIONS, 1).await?;
    worker.close().await;
    Ok(summary.repeated)
}

fn before(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Rule {
    Rule::delay(DEADLINE * 10, matcher)
}

fn after(matcher: impl Fn(&Command) -> bool + Send + Sync + 'static) -> Rule {
    Rule::swallow_reply(matcher)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_before_the_fetch() -> TestResult {
    assert_eq!(killed_at(before(runs("advance"))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_after_the_fetch() -> TestResult {
    assert_eq!(killed_at(after(runs("advance"))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_before_the_next_iteration_is_made() -> TestResult {
    assert_eq!(killed_at(before(runs("next_iteration"))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_after_the_next_iteration_is_made() -> TestResult {
    assert_eq!(killed_at(after(runs("next_iteration"))).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_before_the_end_is_stored() -> TestResult {
    // The handler had come to its end, and comes there again.
    assert_eq!(killed_at(before(finishes)).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_after_the_end_is_stored() -> TestResult {
    assert_eq!(killed_at(after(finishes)).await?, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_survives_a_kill_during_the_handler() -> TestResult {
    let fixture = Fixture::start().await?;
    upsert(&fixture, &schedule(), 1000).await?;
    let mut process = Process::start_at(&fixture, &fixture.server.url())?;
    process.started(&fixture, 1).await?;
    process.signal("-KILL")?;
    process.ended().await?;
    process.take_notes(&fixture)?;
    let worker = fixture.worker().start(work).await?;
    let summary = complete(&fixture, ITERATIONS, 1).await?;
    worker.close().await;
    assert!(summary.repeated >= 1, "{summary}");
    Ok(())
}

/// Lost answers, connections that die, and workers that race for the same schedule.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_workers_with_lost_answers_make_each_iteration_once() -> TestResult {
    const MANY: u64 = 40;
    let fixture = Fixture::proxied().await?;
    let often = Schedule::every(Duration::from_millis(25)).limit(MANY);
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(runs("next_iteration")).every(3));
    let reset = fixture
        .proxy()
        .add(Rule::reset_before(runs("next_iteration")).every(4));
    let other = fixture.other_client().await?;
    let workers = [
        fixture.worker().start(work).await?,
        fixture.worker().start(work).await?,
        fixture.worker_of(&other).start(work).await?,
    ];
    upsert(&fixture, &often, 1).await?;
    // Two workers that believe they hold the same iteration.
    fixture.started(3).await?;
    let summary = complete(&fixture, MANY, 3).await?;
    println!(
        "F6 lost={} reset={}: {summary}",
        lost.fired(),
        reset.fired()
    );
    assert_eq!(summary.repeated, 0);
    assert!(lost.fired() > 0 && reset.fired() > 0);
    for worker in workers {
        worker.close().await;
    }
    Ok(())
}

/// Redis away for a while, with an iteration between its start and its successor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schedule_outlives_a_restart_of_redis() -> TestResult {
    let durable = builder().server(RedisServer::builder().durable());
    let fixture = Fixture::of(durable.proxied()).await?;
    let held = fixture
        .proxy()
        .add(Rule::reset_before(runs("next_iteration")).times(3));
    let worker = fixture.worker().start(work).await?;
    upsert(&fixture, &schedule(), 5).await?;
    held.wait_fired(1, DEADLINE).await?;
    assert_eq!(fixture.effects.starts(), 0);
    fixture.server.kill_hard();
    fixture.server.restart().await?;
    complete(&fixture, ITERATIONS, 1).await?;
    worker.close().await;
    Ok(())
}

/// A lock that is lost while the next iteration cannot be made: its handler must not start here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn iteration_whose_lock_is_lost_before_its_handler_is_not_run() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let cut = fixture
        .proxy()
        .add(Rule::reset_before(runs("next_iteration")));
    let blind = fixture
        .proxy()
        .add(Rule::reset_before(runs("extend_locks")));
    let lock = Duration::from_millis(300);
    let worker = fixture.worker().lock_duration(lock).skip_stalled_check();
    let worker = worker.start(work).await?;
    upsert(&fixture, &schedule(), 5).await?;
    // Each loss is followed by a longer wait: by now a third of the lock has passed.
    cut.wait_fired(5, DEADLINE).await?;
    let repeat = fixture.key("repeat");
    let current = fixture
        .server
        .cli(&["ZRANGE", &repeat, "0", "0", "WITHSCORES"])
        .await?;
    let id = format!("repeat:s:{}", current.texts()[1]);
    let key = fixture.key(&format!("{id}:lock"));
    fixture.server.cli(&["SET", &key, "somebody"]).await?;
    cut.remove();
    eventually(DEADLINE, async || {
        let made = made(&fixture).await.map_err(|error| error.to_string())?;
        (made.len() > 1).then_some(()).ok_or(format!("{made:?}"))
    })
    .await?;
    blind.remove();
    worker.pause().await?;
    assert!(!fixture.effects.counts(false).contains_key(&id));
    worker.close().await;
    Ok(())
}

/// The answers to the rarer calls are lost as well: each can be asked for again.
#[tokio::test]
async fn lost_answers_of_scheduler_calls_are_settled() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let hourly = Schedule::every(Duration::from_secs(3600)).offset(Duration::from_millis(1));
    let first = |script: &'static str| {
        move |command: &Command| command.is("EVAL") && script_of(command).as_deref() == Some(script)
    };
    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(first("upsert_scheduler")).nth(1));
    upsert(&fixture, &hourly, 5).await?;
    assert_eq!(lost.fired(), 1);
    let record = fixture.queue.scheduler("s").await?.ok_or("it is gone")?;
    assert_eq!(record.iterations, Some(1));
    assert_eq!(fixture.queue.counts().await?.delayed, 1);

    // A check and a new iteration whose answers are lost.
    let id = JobId::existing(format!("repeat:s:{}", record.next));
    fixture
        .server
        .cli(&["DEL", &fixture.key(id.as_str())])
        .await?;
    fixture
        .server
        .cli(&["ZREM", &fixture.key("delayed"), id.as_str()])
        .await?;
    let check = fixture
        .proxy()
        .add(Rule::drop_reply(first("check_schedulers")).nth(1));
    let repair = fixture
        .proxy()
        .add(Rule::drop_reply(first("repair_scheduler")).nth(1));
    let worker = fixture.worker().start(work).await?;
    eventually(DEADLINE, async || {
        let counts = fixture
            .queue
            .counts()
            .await
            .map_err(|error| error.to_string())?;
        (counts.delayed == 1)
            .then_some(())
            .ok_or(format!("{counts:?}"))
    })
    .await?;
    worker.close().await;
    assert_eq!((check.fired(), repair.fired()), (1, 1));
    assert_eq!(made(&fixture).await?.len(), 1);

    let lost = fixture
        .proxy()
        .add(Rule::drop_reply(first("remove_scheduler")).nth(1));
    let removed = fixture.queue.remove_scheduler("s").await;
    assert!(
        matches!(removed, Err(Error::Indeterminate(_))),
        "{removed:?}"
    );
    assert_eq!(lost.fired(), 1);
    assert!(!fixture.queue.remove_scheduler("s").await?);
    assert_eq!(fixture.queue.counts().await?.delayed, 0);
    Ok(())
}

/// An upsert whose answer is lost until its only run is over and removed does not run again, and
/// names the iteration that it made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answer_of_an_upsert_makes_no_second_run() -> TestResult {
    let fixture = Fixture::proxied().await?;
    let other = fixture.other_client().await?;
    let counts = Queue::<Work>::open(&other, &fixture.name).await?;
    let every = Schedule::every(Duration::from_secs(3600));
    let at_once = Schedule::cron("0 0 1 1 *").immediately();
    // From here on the script is known to the server, and its hash to the rules.
    let learn = Rule::delay(Duration::ZERO, runs("upsert_scheduler"));
    let learn = fixture.proxy().add(learn);
    upsert(&fixture, &every, 1).await?;
    learn.remove();
    for (schedule, limit) in [(&every, 1), (&at_once, 1), (&every, 2)] {
        fixture.queue.remove_scheduler("s").await?;
        counts.drain(DrainScope::ReadyAndDelayed).run().await?;
        fixture.server.cli(&["DEL", &fixture.key("events")]).await?;
        let upserts = runs("upsert_scheduler");
        let lost = fixture.proxy().add(Rule::drop_reply(upserts).nth(1));
        // The repetition is kept away until the run is over.
        let (upserts, seen) = (runs("upsert_scheduler"), AtomicBool::new(false));
        let away = fixture.proxy().add(Rule::reset_before(move |command| {
            upserts(command) && seen.swap(true, Ordering::SeqCst)
        }));
        let queue = fixture.queue.clone();
        let schedule = schedule.clone().limit(limit);
        let upserted = tokio::spawn(async move {
            let options = JobOptions::new().remove_on_complete(Retention::Remove);
            let template = NewJob::new("tick", Work { ms: 1 }).options(options);
            queue.upsert_scheduler("s", &schedule, template).await
        });
        lost.wait_fired(1, DEADLINE).await?;
        let first = made(&fixture).await?;
        let worker = fixture.worker_of(&other).start(work).await?;
        eventually(DEADLINE, async || {
            let counts = counts.counts().await.map_err(|error| error.to_string())?;
            (counts.waiting + counts.active == 0)
                .then_some(())
                .ok_or(format!("{counts:?}"))
        })
        .await?;
        away.remove();
        let upserted = upserted.await??.ok_or("there is no run to come")?;
        worker.close().await;
        let all = made(&fixture).await?;
        assert!(
            first.contains_key(upserted.id.as_str()),
            "{upserted:?} {all:?}"
        );
        assert_eq!(all.len() as u64, limit, "{all:?}");
        assert!(all.values().all(|&times| times == 1), "{all:?}");
    }
    Ok(())
}

/// A broken schedule says so, at most once a second, and its worker does not spin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_schedule_is_reported_and_does_not_spin() -> TestResult {
    let fixture = Fixture::start().await?;
    upsert(&fixture, &Schedule::cron("* * * * * *").time_zone("UTC"), 1).await?;
    let record = fixture.queue.scheduler("s").await?.ok_or("it is gone")?;
    let id = fixture.key(&format!("repeat:s:{}", record.next));
    let opts = r#"{"repeat":{"pattern":"every day","count":1}}"#;
    fixture.server.cli(&["HSET", &id, "opts", opts]).await?;
    fixture
        .server
        .cli(&["HSET", &fixture.key("repeat:s"), "pattern", "every day"])
        .await?;
    let worker = fixture.worker().start(work).await?;
    let mut events = worker.events();
    for _ in 0..2 {
        // By the iteration, then by the check of schedulers.
        let warned = event(
            &mut events,
            |event| matches!(event, WorkerEvent::Trouble { message, .. } if message.contains("scheduler s")),
        );
        warned.await?;
    }
    let ids = [JobId::existing(format!("repeat:s:{}", record.next))];
    fixture.drained().await?;
    worker.close().await;
    let summary = check_queue(&fixture, &ids, Allow::default()).await?;
    assert_eq!((summary.completed, summary.repeated), (1, 0));
    // Mended, it goes on.
    let mended = Schedule::every(Duration::from_millis(50))
        .overlap(Overlap::Allow)
        .limit(2);
    upsert(&fixture, &mended, 1).await?;
    let worker = fixture.worker().start(work).await?;
    complete(&fixture, 3, 1).await?;
    worker.close().await;
    Ok(())
}
