//! Job schedulers beyond what parity compares: what is refused, and what is read.

mod repairs;
mod repeatables;
mod running;
mod zones;

use std::time::Duration;

use oxbull::{
    CatchUp, Deduplication, Error, JobId, JobOptions, JobRecord, JobState, ManualWorker, NewJob,
    Outcome, Overlap, Parent, Queue, Recurrence, Refusal, RepairedScheduler, Result, Schedule,
    SchedulerOrder, Timestamp, Worker, WorkerEvent,
};
use oxbull_fixture::{Fixture, scripted};
use oxbull_testkit::{DEADLINE, TestResult};
use serde_json::{Value, json};

/// When the tests' clock stops first; 40 s before a full minute.
const START: i64 = 1_700_000_000_000;
const MINUTE: i64 = START + 40_000;
const TOKEN: &str = "token";

/// A queue, a worker that is moved by hand, and a clock that stands still.
struct Setup {
    fixture: Fixture,
    worker: ManualWorker,
}

impl Setup {
    async fn start() -> TestResult<Self> {
        let fixture = Fixture::start().await?;
        let worker = ManualWorker::new(&fixture.client, "q")?;
        let setup = Self { fixture, worker };
        setup.at(START);
        Ok(setup)
    }

    fn at(&self, millis: i64) {
        let at = Timestamp::from_millis(millis);
        self.fixture.client.clock().set(at);
    }

    fn queue(&self) -> &Queue<Value> {
        &self.fixture.queue
    }

    async fn upsert(&self, id: &str, schedule: &Schedule) -> TestResult<JobId> {
        let template = NewJob::new("tick", json!({ "do": "tick" }));
        let made = self
            .queue()
            .upsert_scheduler(id, schedule, template)
            .await?;
        Ok(made.ok_or("there is no run to come")?.id)
    }

    async fn fetch(&self) -> TestResult<JobRecord> {
        Ok(self.worker.fetch(TOKEN).await?.ok_or("nothing is ready")?)
    }

    async fn complete(&self, job: &JobRecord) -> TestResult {
        let done = Ok(Outcome::Done("done"));
        self.worker.finish(job, TOKEN, done).await?;
        Ok(())
    }

    /// Runs the next job, which must be the iteration of this slot.
    async fn run(&self, id: &str, slot: i64) -> TestResult {
        let job = self.fetch().await?;
        assert_eq!(job.id, iteration(id, slot));
        self.complete(&job).await
    }

    async fn redis(&self, command: &[&str]) -> TestResult<oxbull_testkit::Value> {
        let mut command: Vec<String> = command.iter().map(|&part| part.to_owned()).collect();
        if let Some(key) = command.get_mut(1) {
            *key = format!("bull:q:{key}");
        }
        let reply = self.fixture.server.cli(&command).await?;
        if let oxbull_testkit::Value::Error(error) = reply {
            return Err(format!("{command:?}: {error}").into());
        }
        Ok(reply)
    }

    /// Checks all schedulers, whenever the last check was.
    async fn check(&self) -> TestResult<Vec<RepairedScheduler>> {
        self.redis(&["DEL", "stalled-check:schedulers"]).await?;
        Ok(self.worker.check_schedulers(DEADLINE).await?)
    }

    /// Checks that exactly this iteration is repaired, and only once.
    async fn repairs(&self, id: &str, slot: i64) -> TestResult {
        let repaired = self.check().await?;
        let repaired: Vec<_> = repaired
            .iter()
            .map(|r| (r.scheduler.as_str(), &r.id))
            .collect();
        assert_eq!(repaired, [(id, &iteration(id, slot))]);
        self.stays(id, slot).await
    }

    /// Checks that nothing is repaired, and that this is the scheduler's iteration.
    async fn stays(&self, id: &str, slot: i64) -> TestResult {
        assert_eq!(self.check().await?, []);
        let record = self.queue().scheduler(id).await?.ok_or("it is gone")?;
        assert_eq!(record.next.as_millis(), slot);
        Ok(())
    }

    /// Deletes a job past its protection, as an operator with a Redis shell would.
    async fn delete(&self, id: &JobId) -> TestResult {
        self.redis(&["DEL", id.as_str()]).await?;
        self.redis(&["ZREM", "delayed", id.as_str()]).await?;
        self.redis(&["LREM", "wait", "0", id.as_str()]).await?;
        Ok(())
    }
}

fn iteration(scheduler: &str, slot: i64) -> JobId {
    JobId::existing(format!("repeat:{scheduler}:{slot}"))
}

fn every(millis: u64) -> Schedule {
    Schedule::every(Duration::from_millis(millis))
}

fn minutely() -> Schedule {
    Schedule::cron("* * * * *").time_zone("UTC")
}

fn field<T>(result: &Result<T>) -> &'static str {
    match result {
        Err(Error::Invalid { field, .. }) => field,
        _ => "none",
    }
}

/// What cannot work is refused before anything is sent, and the field is named.
#[tokio::test]
async fn bad_schedulers_change_nothing() -> TestResult {
    let setup = Setup::start().await?;
    let keys = setup.fixture.server.int(&["DBSIZE"]).await?;
    let upsert = async |id: &str, schedule: Schedule, options: JobOptions| {
        let template = NewJob::new("n", json!({})).options(options);
        setup
            .queue()
            .upsert_scheduler(id, &schedule, template)
            .await
    };
    let long = "x".repeat(513);
    for id in ["", "a\nb", "a:12", "a:1:lock", "rep::::60000", &long] {
        let refused = upsert(id, every(1000), JobOptions::new()).await;
        assert_eq!(field(&refused), "scheduler id", "{id}");
    }
    let parent = Parent::new("bull:q", JobId::existing("p"));
    for options in [
        JobOptions::new().id(JobId::new("mine")?),
        JobOptions::new().delay(Duration::from_secs(1)),
        JobOptions::new().timestamp(Timestamp::from_millis(5)),
        JobOptions::new().parent(parent),
        JobOptions::new().deduplication(Deduplication::new("d")),
    ] {
        let refused = upsert("s", every(1000), options).await;
        assert_eq!(field(&refused), "template");
    }
    for (schedule, named) in [
        (every(0), "interval"),
        (Schedule::cron("61 * * * *"), "pattern"),
        (
            Schedule::cron("* * * * *").time_zone("Mars/Olympus"),
            "time zone",
        ),
        (every(1000).end(Timestamp::from_millis(START - 1)), "end"),
        (every(1000).limit(0), "limit"),
    ] {
        let refused = upsert("s", schedule, JobOptions::new()).await;
        assert_eq!(field(&refused), named);
    }
    let refused = upsert("s", every(1000), JobOptions::new().priority(u32::MAX)).await;
    assert_eq!(field(&refused), "priority");
    assert_eq!(setup.fixture.server.int(&["DBSIZE"]).await?, keys);
    Ok(())
}

/// What a definition says can be read again, whatever it is made of.
#[tokio::test]
async fn definition_is_read_as_it_was_written() -> TestResult {
    let setup = Setup::start().await?;
    let queue: Queue<Value> = Queue::builder(&setup.fixture.client, "q")
        .default_options(
            JobOptions::new()
                .attempts(4)
                .keep_logs(9)
                .deduplication(Deduplication::new("d")),
        )
        .open()
        .await?;
    let schedule = Schedule::cron("H * * * *")
        .time_zone("Europe/Madrid")
        .hash_seed("seed")
        .start(Timestamp::from_millis(START + 5))
        .end(Timestamp::from_millis(START + 9_000_000))
        .limit(7)
        .overlap(Overlap::Skip)
        .catch_up(CatchUp::All);
    let template = NewJob::new("n", json!({ "v": 1 })).options(JobOptions::new().keep_logs(3));
    let made = queue.upsert_scheduler("s", &schedule, template).await?;
    let made = made.ok_or("there is no run to come")?;
    let read = queue.scheduler("s").await?.ok_or("it is gone")?;
    assert_eq!(read.problems, Vec::<String>::new());
    assert_eq!(read.schedule(), Some(schedule));
    assert_eq!(read.options, JobOptions::new().attempts(4).keep_logs(3));
    assert_eq!(read.data::<Value>()?, json!({ "v": 1 }));
    assert_eq!((read.next, read.iterations), (made.due, Some(1)));
    assert_eq!((read.name.as_str(), read.raw_data.is_some()), ("n", true));

    let schedule = every(5000).offset(Duration::from_millis(70));
    setup.upsert("t", &schedule).await?;
    let read = queue.scheduler("t").await?.ok_or("it is gone")?;
    assert_eq!(read.schedule(), Some(schedule));
    assert_eq!(
        read.recurrence,
        Some(Recurrence::Every(Duration::from_secs(5)))
    );
    assert_eq!(queue.scheduler("never").await?, None);
    Ok(())
}

/// The caller gets the job without asking for it, as a fetch would return it.
#[tokio::test]
async fn upsert_returns_the_job_as_it_is_stored() -> TestResult {
    let setup = Setup::start().await?;
    let options = JobOptions::new().attempts(3).priority(5).keep_logs(2);
    let later = every(60_000).start(Timestamp::from_millis(START + 5_000));
    for (id, schedule) in [
        ("cron", minutely()),
        ("every", every(60_000)),
        ("later", later),
    ] {
        for data in [json!({ "v": 1 }), json!(null)] {
            let template = NewJob::new("n", data).options(options.clone());
            let made = setup
                .queue()
                .upsert_scheduler(id, &schedule, template)
                .await?;
            let made = made.ok_or("there is no run to come")?;
            assert_eq!(made.job.id, made.id);
            assert_eq!(Some(made.job), setup.queue().job(&made.id).await?);
        }
    }
    Ok(())
}

/// Two processes that set the same scheduler up leave one iteration, in either order.
#[tokio::test]
async fn upserts_at_once_leave_one_iteration() -> TestResult {
    let setup = Setup::start().await?;
    let (schedule, now) = (minutely(), every(60_000));
    for (id, schedule) in [("cron", &schedule), ("every", &now)] {
        let one = || setup.upsert(id, schedule);
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        assert!([a?, b?, c?, d?].windows(2).all(|pair| pair[0] == pair[1]));
    }
    let counts = setup.queue().counts().await?;
    assert_eq!((counts.delayed, counts.waiting), (1, 1));
    assert_eq!(setup.queue().scheduler_count().await?, 2);
    Ok(())
}

/// A paused queue keeps its jobs in `wait`; an upsert that left one there would double the run.
#[tokio::test]
async fn waiting_iteration_of_a_paused_queue_is_taken_back() -> TestResult {
    let setup = Setup::start().await?;
    for list in ["wait", "paused"] {
        let id = setup.upsert(list, &every(60_000)).await?;
        setup.queue().pause().await?;
        if list == "paused" {
            // As BullMQ 5 leaves it.
            setup.redis(&["RENAME", "wait", "bull:q:paused"]).await?;
        }
        setup.at(START + 10);
        assert_eq!(setup.upsert(list, &every(60_000)).await?, id);
        let counts = setup.queue().counts().await?;
        assert_eq!((counts.waiting, counts.delayed), (1, 0));
        setup.queue().resume().await?;
        setup.run(list, START).await?;
        setup.queue().remove_scheduler(list).await?;
        setup.at(START);
    }
    Ok(())
}

/// An iteration that was promoted and runs keeps its id; an upsert makes the one after it.
#[tokio::test]
async fn running_iteration_is_not_queued_again() -> TestResult {
    let setup = Setup::start().await?;
    let id = setup.upsert("s", &minutely()).await?;
    setup.queue().promote(&id).await?;
    let job = setup.fetch().await?;
    assert_eq!(job.id, id);
    let again = setup.upsert("s", &minutely()).await?;
    assert_eq!(again, iteration("s", MINUTE + 60_000));
    assert_eq!(setup.queue().state(&id).await?, Some(JobState::Active));
    setup.complete(&job).await?;
    let counts = setup.queue().counts().await?;
    assert_eq!((counts.delayed, counts.completed), (1, 1));
    Ok(())
}

/// A refused upsert leaves the iteration that is there alone.
#[tokio::test]
async fn refused_upsert_changes_nothing() -> TestResult {
    let setup = Setup::start().await?;
    let first = setup.upsert("s", &minutely()).await?;
    for slot in [START, MINUTE] {
        let id = iteration("s", slot);
        setup.redis(&["HSETNX", id.as_str(), "name", "old"]).await?;
    }
    let template = NewJob::new("n", json!({}));
    let now = minutely().immediately();
    let refused = setup.queue().upsert_scheduler("s", &now, template).await;
    // The slot after `now` is the pending one, which is free once it is taken back.
    assert_eq!(refused?.ok_or("no run")?.id, first);
    setup.redis(&["LPUSH", "wait", first.as_str()]).await?;
    setup.redis(&["ZREM", "delayed", first.as_str()]).await?;
    setup.fetch().await?;
    setup
        .redis(&["DEL", iteration("s", MINUTE + 60_000).as_str()])
        .await?;
    setup
        .redis(&["ZREM", "delayed", iteration("s", MINUTE + 60_000).as_str()])
        .await?;
    let before = setup.fixture.server.int(&["DBSIZE"]).await?;
    let template = NewJob::new("n", json!({}));
    let refused = setup
        .queue()
        .upsert_scheduler("s", &minutely(), template)
        .await;
    assert!(
        matches!(
            refused,
            Err(Error::Refused {
                source: Refusal::IterationExists,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(setup.fixture.server.int(&["DBSIZE"]).await?, before);
    Ok(())
}

/// A removal deletes a scheduler and nothing else, whatever its id names.
#[tokio::test]
async fn removal_of_an_iteration_s_key_changes_nothing() -> TestResult {
    let setup = Setup::start().await?;
    let id = setup.upsert("s", &minutely()).await?;
    let hostile = format!("s:{MINUTE}");
    assert_eq!(format!("repeat:{hostile}"), id.as_str());
    assert!(!setup.queue().remove_scheduler(&hostile).await?);
    setup.stays("s", MINUTE).await?;
    assert_eq!(setup.queue().state(&id).await?, Some(JobState::Delayed));
    assert!(setup.queue().job(&id).await?.is_some());
    assert!(setup.queue().remove_scheduler("s").await?);
    assert!(setup.queue().job(&id).await?.is_none());
    Ok(())
}

/// Many schedulers are read in a few round trips, and checked in bounded pages.
#[tokio::test]
async fn many_schedulers_are_listed_in_two_round_trips() -> TestResult {
    const MANY: i64 = 450;
    let setup = Setup::start().await?;
    for n in 0..MANY {
        setup.upsert(&format!("s{n}"), &minutely()).await?;
    }
    let reads = || async {
        let stats = setup.fixture.server.info("stats").await?;
        TestResult::Ok(stats["total_reads_processed"].parse::<i64>()?)
    };
    let before = reads().await?;
    let listed = setup
        .queue()
        .schedulers(0, -1, SchedulerOrder::SoonestFirst)
        .await?;
    assert_eq!(listed.len(), usize::try_from(MANY)?);
    // Long writes arrive in several reads, and asking for the figure takes some.
    let took = reads().await? - before;
    assert!(took < 30, "{took} reads");
    let page = setup
        .queue()
        .schedulers(-3, -2, SchedulerOrder::LatestFirst)
        .await?;
    assert_eq!(page.len(), 2);
    for record in listed.iter().step_by(3) {
        setup.delete(&iteration(&record.id, MINUTE)).await?;
    }
    assert_eq!(setup.check().await?.len(), 150);
    Ok(())
}

/// A definition that does not decode is shown with what is wrong, next to those that do.
#[tokio::test]
async fn corrupt_definitions_are_listed_with_their_problem() -> TestResult {
    let setup = Setup::start().await?;
    setup.upsert("good", &minutely()).await?;
    for (id, field, value) in [
        ("interval", "every", "often"),
        ("binary", "tz", "\u{1}"),
        ("options", "opts", "{\"attempts\":"),
        ("nothing", "name", "n"),
    ] {
        setup.redis(&["ZADD", "repeat", "5", id]).await?;
        setup
            .redis(&["HSET", &format!("repeat:{id}"), field, value])
            .await?;
    }
    setup.redis(&["ZADD", "repeat", "6", "orphan"]).await?;
    setup.redis(&["ZADD", "repeat", "7", "rep:::UTC:"]).await?;
    setup.redis(&["ZADD", "repeat", "8", "list"]).await?;
    setup.redis(&["RPUSH", "repeat:list", "x"]).await?;
    setup.redis(&["ZADD", "repeat", "inf", "never"]).await?;
    setup
        .redis(&["HSET", "repeat:never", "name", "n", "every", "1000"])
        .await?;
    let listed = setup
        .queue()
        .schedulers(0, -1, SchedulerOrder::SoonestFirst)
        .await?;
    assert_eq!(listed.len(), 9);
    for record in &listed {
        assert_eq!(
            record.problems.is_empty(),
            record.id == "good",
            "{record:?}"
        );
    }
    let problem = |id: &str| {
        let record = listed.iter().find(|record| record.id == id);
        record.map_or("", |record| record.problems[0].as_str())
    };
    assert_eq!(problem("interval"), "every: is not a number of at least 1");
    assert_eq!(problem("orphan"), "definition: is missing");
    assert_eq!(problem("never"), "next: is not a time");
    assert!(problem("list").contains("WRONGTYPE"), "{}", problem("list"));
    // They are reported, not armed, and keep none from being armed.
    setup.delete(&iteration("good", MINUTE)).await?;
    setup.repairs("good", MINUTE).await?;
    assert_eq!(setup.queue().scheduler_count().await?, 9);
    Ok(())
}
