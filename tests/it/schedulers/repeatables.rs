//! Repeatable jobs of BullMQ 4, which version 5 continues. The keys are as BullMQ 4.18.3 left them,
//! the answers as BullMQ 5.81.5 gave them.

use oxbull::{JobError, JobResult};

use super::*;

/// A repeatable job of the name `rep`, with one job to come.
struct Repeatable {
    key: &'static str,
    id: String,
    slot: i64,
    repeat: Value,
}

impl Repeatable {
    fn new(key: &'static str, hash: &str, slot: i64, repeat: Value) -> Self {
        let id = format!("repeat:{hash}:{slot}");
        Self {
            key,
            id,
            slot,
            repeat,
        }
    }

    /// One a minute.
    fn minutely(slot: i64) -> Self {
        let repeat = json!({ "every": 60_000, "count": 1 });
        Self::new("rep::::60000", MINUTELY, slot, repeat)
    }

    async fn store(&self, setup: &Setup) -> TestResult {
        let opts = json!({
            "prevMillis": self.slot, "timestamp": START, "removeOnComplete": 5, "jobId": self.id,
            "repeat": self.repeat, "delay": 54_627, "attempts": 3, "future": [],
        });
        let opts = opts.to_string();
        setup
            .redis(&["ZADD", "repeat", &self.slot.to_string(), self.key])
            .await?;
        let fields = [
            "priority",
            "0",
            "rjk",
            self.key,
            "name",
            "rep",
            "opts",
            &opts,
            "data",
            r#"{"x":1}"#,
            "timestamp",
            "1700000000000",
            "delay",
            "54627",
        ];
        setup
            .redis(&[&["HSET", &self.id], fields.as_slice()].concat())
            .await?;
        setup.redis(&["LPUSH", "wait", &self.id]).await?;
        Ok(())
    }
}

/// Stands for `rep` and the key `rep::::60000` in the ids of jobs.
const MINUTELY: &str = "dcb5dfe22e7579bf113931d3d286d62f";

async fn opts(setup: &Setup, id: &str) -> TestResult<Value> {
    let key = format!("bull:q:{id}");
    let opts = setup.fixture.server.text(&["HGET", &key, "opts"]).await?;
    Ok(serde_json::from_str(&opts.ok_or("it is not there")?)?)
}

/// Slot, id and due time are those that BullMQ 5 computes: two workers that continue the same
/// schedule must make the same job.
#[tokio::test]
async fn repeatable_of_bullmq_4_is_carried_on_as_bullmq_5_does() -> TestResult {
    let day = 86_400_000;
    let four_in_madrid = 1_700_017_200_000;
    for (repeatable, next, due) in [
        (
            Repeatable::minutely(MINUTE),
            format!("repeat:{MINUTELY}:{}", MINUTE + 60_000),
            60_000,
        ),
        // An offset delays a job without moving its slot.
        (
            Repeatable::new(
                "rep::::60000",
                MINUTELY,
                MINUTE,
                json!({ "every": 60_000, "offset": 7000, "count": 1 }),
            ),
            format!("repeat:{MINUTELY}:{}", MINUTE + 60_000),
            67_000,
        ),
        // Version 4 puts a job id of the repeatable's own into the hash, version 5 leaves it out.
        (
            Repeatable::new(
                "rep:myid:1830386105332:Europe/Madrid:0 0 4 * * *",
                "a00015399be504343bd797f738652a87",
                four_in_madrid,
                json!({
                    "tz": "Europe/Madrid", "count": 1, "jobId": "myid", "pattern": "0 0 4 * * *",
                    "limit": 5, "endDate": 1_830_386_105_332_i64,
                }),
            ),
            format!(
                "repeat:4b148c2c47ba6377cf67af5cda5471ca:{}",
                four_in_madrid + day
            ),
            four_in_madrid + day - MINUTE,
        ),
        // Names may have colons, patterns may be aliases.
        (
            Repeatable::new(
                "a:rep::::@daily",
                "an own key",
                four_in_madrid - 3 * 3_600_000,
                json!({ "pattern": "@daily", "tz": "UTC", "count": 1 }),
            ),
            String::new(),
            0,
        ),
    ] {
        let setup = Setup::start().await?;
        repeatable.store(&setup).await?;
        setup.at(MINUTE);
        let job = setup.fetch().await?;
        assert_eq!(job.id.as_str(), repeatable.id);
        let record = setup.queue().scheduler(repeatable.key).await?;
        let slot = record.ok_or("it is gone")?.next.as_millis();
        assert!(slot > repeatable.slot, "{} goes on", repeatable.key);
        if next.is_empty() {
            assert_eq!(setup.queue().counts().await?.delayed, 1);
            continue;
        }
        let made = setup.queue().job(&JobId::existing(next.as_str())).await?;
        let made = made.ok_or(format!("{next} is not there"))?;
        assert_eq!(
            (
                i64::try_from(made.delay.as_millis())?,
                made.data::<Value>()?
            ),
            (due, json!({ "x": 1 }))
        );
        assert_eq!(made.name, "rep");
        assert_eq!(made.scheduler.as_deref(), Some(repeatable.key));
        let mut repeat = repeatable.repeat.clone();
        repeat["count"] = json!(2);
        assert_eq!(
            opts(&setup, &next).await?,
            json!({
                "jobId": next, "delay": due, "prevMillis": slot, "timestamp": MINUTE,
                "repeat": repeat, "removeOnComplete": 5, "attempts": 3, "future": [],
            })
        );
        setup.complete(&job).await?;
        setup.at(MINUTE + due);
        assert_eq!(setup.fetch().await?.id.as_str(), next);
    }
    Ok(())
}

/// However often and by whomever a job is started, its slot has one job.
#[tokio::test]
async fn job_of_a_repeatable_is_made_once() -> TestResult {
    let setup = Setup::start().await?;
    Repeatable::minutely(MINUTE).store(&setup).await?;
    setup.at(MINUTE);
    let first = setup.fetch().await?;
    let failed: JobResult<Value> = Err(JobError::retry("later"));
    setup.worker.finish(&first, TOKEN, failed).await?;
    // Its retry starts after the job that it made.
    setup.at(MINUTE + 130_000);
    let (second, third) = (setup.fetch().await?, setup.fetch().await?);
    let ids = [second.id.as_str(), third.id.as_str()];
    assert!(ids.contains(&first.id.as_str()), "{ids:?}");
    assert_eq!(setup.queue().counts().await?.delayed, 1);
    // Version 5 lets such a retry move the slot back; the job that is there is made no second time.
    let slot = (MINUTE + 60_000).to_string();
    setup
        .redis(&["ZADD", "repeat", &slot, "rep::::60000"])
        .await?;
    setup.redis(&["LPUSH", "wait", first.id.as_str()]).await?;
    setup.redis(&["DEL", "active"]).await?;
    assert_eq!(setup.fetch().await?.id, first.id);
    assert_eq!(setup.queue().counts().await?.delayed, 1);
    Ok(())
}

/// Limit and end hold as they do in version 5.
#[tokio::test]
async fn repeatable_ends_with_its_limit_and_its_end() -> TestResult {
    for repeat in [
        json!({ "every": 60_000, "count": 3, "limit": 3 }),
        json!({ "every": 60_000, "count": 1, "endDate": MINUTE - 1 }),
    ] {
        let setup = Setup::start().await?;
        Repeatable::new("rep::::60000", MINUTELY, MINUTE, repeat)
            .store(&setup)
            .await?;
        setup.at(MINUTE);
        setup.fetch().await?;
        assert_eq!(setup.queue().counts().await?.delayed, 0);
    }
    Ok(())
}

/// Jobs of versions before the field `rjk` go on too.
#[tokio::test]
async fn job_that_does_not_name_its_repeatable_goes_on() -> TestResult {
    let setup = Setup::start().await?;
    let repeatable = Repeatable::minutely(MINUTE);
    repeatable.store(&setup).await?;
    setup.redis(&["HDEL", &repeatable.id, "rjk"]).await?;
    setup.at(MINUTE);
    setup.fetch().await?;
    let next = JobId::existing(format!("repeat:{MINUTELY}:{}", MINUTE + 60_000));
    let made = setup.queue().job(&next).await?.ok_or("it is not there")?;
    assert_eq!(made.scheduler.as_deref(), Some("rep::::60000"));
    Ok(())
}

/// With the schedule goes the job that is to come, which has the key in a hash only.
#[tokio::test]
async fn removed_repeatable_takes_its_delayed_job_along() -> TestResult {
    for offset in [0, 7000] {
        let setup = Setup::start().await?;
        let repeat = json!({ "every": 60_000, "count": 1, "offset": offset });
        Repeatable::new("rep::::60000", MINUTELY, MINUTE, repeat)
            .store(&setup)
            .await?;
        setup.at(MINUTE);
        setup.fetch().await?;
        assert_eq!(setup.queue().counts().await?.delayed, 1);
        assert!(setup.queue().remove_scheduler("rep::::60000").await?);
        assert_eq!(setup.queue().counts().await?.delayed, 0);
        assert!(!setup.queue().remove_scheduler("rep::::60000").await?);
    }
    Ok(())
}

/// Its key says what it is.
#[tokio::test]
async fn repeatable_of_bullmq_4_is_listed() -> TestResult {
    let setup = Setup::start().await?;
    for key in [
        "rep::::60000",
        "a:rep:id:1830386105332:Europe/Madrid:0 4 * * *",
    ] {
        setup.redis(&["ZADD", "repeat", "7", key]).await?;
    }
    let record = setup
        .queue()
        .scheduler("rep::::60000")
        .await?
        .ok_or("it is gone")?;
    assert_eq!((record.name.as_str(), record.problems.len()), ("rep", 0));
    assert_eq!(
        record.recurrence,
        Some(Recurrence::Every(Duration::from_secs(60)))
    );
    let key = "a:rep:id:1830386105332:Europe/Madrid:0 4 * * *";
    let record = setup.queue().scheduler(key).await?.ok_or("it is gone")?;
    assert_eq!((record.name.as_str(), record.problems.len()), ("a:rep", 0));
    assert_eq!(
        record.recurrence,
        Some(Recurrence::Cron("0 4 * * *".to_owned()))
    );
    assert_eq!(record.time_zone.as_deref(), Some("Europe/Madrid"));
    assert_eq!(
        record.end.map(Timestamp::as_millis),
        Some(1_830_386_105_332)
    );
    // Nothing can be made of its key alone, so nothing is tried.
    assert_eq!(setup.check().await?, []);
    Ok(())
}

/// A schedule that no worker continues must not end silently.
#[tokio::test]
async fn iteration_of_an_unknown_scheduler_is_reported() -> TestResult {
    for (id, key, known) in [
        ("repeat:gone:5", "gone", false),
        // The scheduler is there, but makes ids of another form.
        ("repeat:0123abcd:6", "odd", true),
    ] {
        let fixture = Fixture::start().await?;
        let cli = async |command: &[&str]| fixture.server.cli(command).await;
        if known {
            cli(&["ZADD", "bull:q:repeat", "6", key]).await?;
        }
        let job = format!("bull:q:{id}");
        let fields = [
            "HSET",
            &job,
            "name",
            "n",
            "data",
            r#"{"do":"ok"}"#,
            "opts",
            "{}",
            "rjk",
            key,
        ];
        cli(&fields).await?;
        let worker = Worker::builder(&fixture.client, "q")
            .start(scripted)
            .await?;
        let mut events = worker.events();
        cli(&["LPUSH", "bull:q:wait", id]).await?;
        cli(&["ZADD", "bull:q:marker", "0", "0"]).await?;
        let named = format!("scheduler {key} was not advanced by job {id}: ");
        loop {
            let event = tokio::time::timeout(DEADLINE, events.next()).await?;
            match event.ok_or("it ended")? {
                // The check of schedulers has its own words for the second, and may come first.
                WorkerEvent::Trouble { message, .. } if message.starts_with(&named) => break,
                WorkerEvent::Completed { id, .. } => return Err(format!("{id} was silent").into()),
                _ => {}
            }
        }
        fixture.ended(1).await?;
        worker.close().await;
    }
    Ok(())
}
