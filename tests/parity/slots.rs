//! Slots: schedules that BullMQ is given too must run at the same milliseconds, or be refused with
//! the same words.
//!
//! Node's tz database and ours may be of different years, so instants are from 2005 to 2025, and
//! zones those whose rules for these years have settled.

mod cases;
mod random;

use std::time::Duration;

use oxbull::{Error, Schedule, Timestamp};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::fixture::{Fixture, with_fixture};

/// A schedule as both are given it, and when it is set up.
#[derive(Debug, Clone)]
struct Case {
    schedule: Schedule,
    repeat: Value,
    from: i64,
    /// How many slots in a row.
    count: usize,
}

impl Case {
    fn cron(pattern: &str, zone: &str, from: i64) -> Self {
        Self {
            schedule: Schedule::cron(pattern).time_zone(zone).hash_seed("seed"),
            repeat: json!({ "pattern": pattern, "tz": zone, "hashSeed": "seed" }),
            from,
            count: 1,
        }
    }

    fn every(millis: u64, from: i64) -> Self {
        Self {
            schedule: Schedule::every(Duration::from_millis(millis)),
            repeat: json!({ "every": millis }),
            from,
            count: 1,
        }
    }

    fn with(mut self, key: &str, value: Value, set: impl FnOnce(Schedule) -> Schedule) -> Self {
        self.schedule = set(self.schedule);
        self.repeat[key] = value;
        self
    }

    fn start(self, at: i64) -> Self {
        self.with("startDate", at.into(), |schedule| {
            schedule.start(Timestamp::from_millis(at))
        })
    }

    fn end(self, at: i64) -> Self {
        self.with("endDate", at.into(), |schedule| {
            schedule.end(Timestamp::from_millis(at))
        })
    }

    fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Our answer in the form of the peer's.
    fn ours(&self) -> Vec<Value> {
        let from = Timestamp::from_millis(self.from);
        match self.schedule.preview(from, self.count) {
            Ok(slots) => {
                let mut slots: Vec<Value> =
                    slots.iter().map(|slot| slot.as_millis().into()).collect();
                if slots.len() < self.count {
                    slots.push(Value::Null);
                }
                slots
            }
            Err(Error::Invalid { problem, .. }) => vec![json!({ "error": problem })],
            Err(error) => panic!("{self:?}: {error}"),
        }
    }
}

/// Our text of an error, and how BullMQ's begins.
const SAME_ERROR: [(&str, &str); 5] = [
    (
        "cannot be combined with immediately",
        "Both .immediately and .startDate options are defined for this repeatable job",
    ),
    (
        "must not have passed",
        "End date must be greater than current timestamp",
    ),
    (
        "must be at least 1 ms",
        "Either .pattern or .every options must be defined for this repeatable job",
    ),
    (
        "must not be empty",
        "Either .pattern or .every options must be defined for this repeatable job",
    ),
    ("does not exist", "CronDate: unhandled timestamp: "),
];

/// Of a pattern, our errors say what is wrong in BullMQ's words; of anything else in our own.
fn is_equal(ours: &Value, theirs: &Value) -> bool {
    match (ours["error"].as_str(), theirs["error"].as_str()) {
        (Some(ours), Some(theirs)) => {
            ours.ends_with(theirs)
                || SAME_ERROR
                    .iter()
                    .any(|(own, other)| ours == *own && theirs.starts_with(other))
        }
        _ => ours == theirs,
    }
}

async fn compare(fixture: &Fixture, queue: &str, cases: &[Case]) -> TestResult {
    let asked: Vec<Value> = cases
        .iter()
        .map(|case| json!({ "repeat": case.repeat, "now": case.from, "count": case.count }))
        .collect();
    let answer = fixture
        .peer
        .call("queue.slots", json!({ "queue": queue, "cases": asked }))
        .await?;
    let theirs: Vec<Vec<Value>> = serde_json::from_value(answer)?;
    assert_eq!(theirs.len(), cases.len());
    let mut wrong = Vec::new();
    for (case, theirs) in cases.iter().zip(&theirs) {
        let ours = case.ours();
        let equal = ours.len() == theirs.len()
            && ours
                .iter()
                .zip(theirs)
                .all(|(ours, theirs)| is_equal(ours, theirs));
        if !equal {
            let Case { repeat, from, .. } = case;
            wrong.push(format!(
                "{repeat} from {from}\n  BullMQ {theirs:?}\n  we     {ours:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Equal refusals alone would prove little.
    let slots = theirs.iter().flatten().filter(|slot| slot.is_number());
    assert!(slots.count() > cases.len(), "too few slots");
    Ok(())
}

/// Every rule of the dialect, of time zones and of changes of the clocks.
#[test]
fn chosen_schedules_run_when_bullmq_says() {
    with_fixture(|fixture| async move { compare(&fixture, "chosen", &cases::all()).await });
}

/// Patterns, zones and instants at random, most of them around changes of the clocks.
#[test]
fn random_schedules_run_when_bullmq_says() {
    with_fixture(|fixture| async move {
        let cases = random::cases(17, 700);
        compare(&fixture, "random", &cases).await
    });
}

/// In the night when clocks go back by half an hour, BullMQ finds no next run, and the schedule
/// ends, or one that has passed, and it runs over and over; ours goes on.
#[test]
fn half_hour_of_change_does_not_end_a_schedule() {
    with_fixture(|fixture| async move {
        // 2024-04-07 00:00 in Lord Howe, where 2:00 becomes 1:30.
        let case = Case::cron("0 17 * * *", "Australia/Lord_Howe", 1_712_408_400_000).count(2);
        let asked = json!([{ "repeat": case.repeat, "now": case.from, "count": 1 }]);
        let params = json!({ "queue": "half-hour", "cases": asked });
        assert_eq!(
            fixture.peer.call("queue.slots", params).await?,
            json!([[null]])
        );
        // 17:00 of that day and the next, half past six in UTC.
        assert_eq!(
            case.ours(),
            [json!(1_712_471_400_000_i64), json!(1_712_557_800_000_i64)]
        );

        // At 1:10, before the change, BullMQ finds 1:00, which is made now; we 2:00, in 80 minutes.
        let from = 1_712_412_600_000_i64;
        let case = Case::cron("0 * * * *", "Australia/Lord_Howe", from);
        let asked = json!([{ "repeat": case.repeat, "now": from, "count": 1 }]);
        let params = json!({ "queue": "half-hour-back", "cases": asked });
        let theirs = fixture.peer.call("queue.slots", params).await?;
        assert_eq!(theirs, json!([[from]]));
        assert_eq!(case.ours(), [json!(from + 4_800_000)]);
        Ok(())
    });
}

/// What BullMQ takes and cannot carry out is refused, with the option named.
#[test]
fn schedules_that_make_no_sense_are_refused() {
    let from = Timestamp::from_millis(1_768_472_430_500);
    let every = Schedule::every;
    for (schedule, named) in [
        (every(Duration::ZERO), "interval"),
        (every(Duration::from_micros(1500)), "interval"),
        (every(Duration::MAX), "interval"),
        (every(Duration::from_secs(1)).limit(0), "limit"),
        (
            every(Duration::from_secs(1)).offset(Duration::MAX),
            "offset",
        ),
        (
            every(Duration::from_secs(1)).time_zone("Mars/Base"),
            "time zone",
        ),
        (
            every(Duration::from_secs(1))
                .start(Timestamp::from_millis(1_900_000_000_000))
                .end(Timestamp::from_millis(1_800_000_000_000)),
            "end",
        ),
        (
            every(Duration::from_secs(1)).start(Timestamp::from_millis(i64::MAX)),
            "start",
        ),
        (Schedule::cron(""), "pattern"),
        (Schedule::cron("0 0 * * 1#2.5"), "pattern"),
    ] {
        match schedule.preview(from, 1) {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, named, "{schedule:?}"),
            other => panic!("{schedule:?}: {other:?}"),
        }
    }
}
