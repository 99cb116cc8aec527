//! New jobs, families and schedules, with every option.

use serde_json::{Value, json};

use super::generate::{Generator, LONG};
use super::turn::Action;
use super::view::View;
use crate::step::Step;

impl Generator {
    pub(super) fn add(&mut self, view: &View<'_>, now: i64) -> Step {
        let mut opts = self.options();
        if self.rng.u8(..) < 170 {
            opts["jobId"] = self.new_id().into();
        }
        if self.rng.u8(..) < 8 {
            opts["timestamp"] = json!(now - 5000);
        }
        let jobs = view.jobs();
        match self.rng.u8(..) {
            0..50 => opts["deduplication"] = self.deduplication(),
            50..75 => {
                if let Some(parent) = self.pick(&jobs)
                    && opts["jobId"] != parent
                {
                    opts["parent"] = json!({ "id": parent, "queue": "$P:q" });
                    self.policy(&mut opts);
                }
            }
            _ => {}
        }
        let name = format!("n{}", self.turns);
        let data = json!({ "n": self.turns });
        Step::Add { name, data, opts }
    }

    /// Options of any job.
    fn options(&mut self) -> Value {
        let mut opts = json!({});
        let mut chance = |odds: u8| self.rng.u8(..) < odds;
        let (delay, priority, lifo, attempts, backoff) =
            (chance(50), chance(60), chance(25), chance(110), chance(60));
        let (complete, fail, logs, traces) = (chance(50), chance(50), chance(12), chance(25));
        if delay {
            opts["delay"] = self.delay().into();
        }
        if priority {
            opts["priority"] = self.rng.u8(1..4).into();
        }
        if lifo {
            opts["lifo"] = true.into();
        }
        if attempts {
            opts["attempts"] = self.rng.u8(1..4).into();
        }
        if backoff {
            let delay = self.delay();
            opts["backoff"] = match self.rng.u8(..3) {
                0 => json!(delay),
                1 => json!({ "type": "fixed", "delay": delay }),
                _ => json!({ "type": "exponential", "delay": delay }),
            };
        }
        if complete {
            opts["removeOnComplete"] = self.retention();
        }
        if fail {
            opts["removeOnFail"] = self.retention();
        }
        if logs {
            opts["keepLogs"] = self.rng.u8(1..3).into();
        }
        if traces {
            opts["stackTraceLimit"] = self.rng.u8(..3).into();
        }
        opts
    }

    fn retention(&mut self) -> Value {
        match self.rng.u8(..8) {
            0..2 => json!(true),
            2 => json!(false),
            3 => json!(self.rng.u8(..3)),
            4 => json!({ "count": self.rng.u8(..3) }),
            5 => json!({ "age": self.rng.u8(..6) }),
            6 => json!({ "age": self.rng.u8(..6), "count": self.rng.u8(..3) }),
            _ => json!({ "age": self.rng.u8(..3), "limit": self.rng.u8(1..3) }),
        }
    }

    fn deduplication(&mut self) -> Value {
        let id = self.deduplication_id();
        let delayed = match self.rng.u8(..3) {
            0 => Some("replace"),
            1 => Some("reschedule"),
            _ => None,
        };
        let mut how = json!({ "id": id });
        match self.rng.u8(..4) {
            0 => how["ttl"] = LONG.into(),
            1 => {
                how["ttl"] = LONG.into();
                how["extend"] = true.into();
            }
            2 => how["keepLastIfActive"] = true.into(),
            _ => {}
        }
        if let Some(delayed) = delayed {
            how[delayed] = true.into();
        }
        how
    }

    pub(super) fn policy(&mut self, opts: &mut Value) {
        let policy = match self.rng.u8(..6) {
            0 => "failParentOnFailure",
            1 => "continueParentOnFailure",
            2 => "ignoreDependencyOnFailure",
            3 => "removeDependencyOnFailure",
            _ => return,
        };
        opts[policy] = true.into();
    }

    pub(super) fn flow(&mut self, view: &View<'_>) -> Action {
        let id = self.new_id();
        let count = self.rng.u8(1..4);
        let children: Value = (0..count)
            .map(|n| {
                let mut opts = self.options();
                self.policy(&mut opts);
                let kid = if self.rng.u8(..) < 40 {
                    self.job(view)
                } else {
                    format!("k{}-{n}", self.turns)
                };
                let kid = if kid == id {
                    format!("k{}-{n}", self.turns)
                } else {
                    kid
                };
                opts["jobId"] = kid.as_str().into();
                json!({ "name": kid, "queueName": "q", "data": { "n": n }, "opts": opts })
            })
            .collect();
        let opts = self.options();
        Action::Flow { id, opts, children }
    }

    pub(super) fn upsert(&mut self, now: i64) -> Step {
        let mut repeat = if self.rng.bool() {
            json!({ "every": self.rng.choice([1000, 5000, 60_000]) })
        } else {
            json!({ "pattern": self.rng.choice(["*/5 * * * * *", "0 * * * * *"]), "tz": "UTC" })
        };
        match self.rng.u8(..8) {
            0 => repeat["limit"] = self.rng.u8(1..4).into(),
            1 if repeat["every"].is_number() => repeat["offset"] = self.rng.u16(..900).into(),
            2 => repeat["startDate"] = json!(now + 3000),
            3 => repeat["endDate"] = json!(now + 20_000),
            4 if repeat["pattern"].is_string() => repeat["immediately"] = true.into(),
            _ => {}
        }
        let mut opts = self.options();
        if let Some(opts) = opts.as_object_mut() {
            opts.remove("delay");
            // A number as backoff is spelt out by this library; it means the same.
            if let Some(delay) = opts.get("backoff").and_then(Value::as_u64) {
                opts.insert(
                    "backoff".to_owned(),
                    json!({ "type": "fixed", "delay": delay }),
                );
            }
        }
        let template = json!({ "name": "it", "data": { "n": self.turns }, "opts": opts });
        Step::UpsertScheduler {
            id: self.scheduler_id(),
            repeat,
            template,
        }
    }
}
