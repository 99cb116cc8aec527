//! The steps of a scenario as methods, taken by the library that has the role.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use oxbull::Timestamp;
use oxbull_testkit::{Connection, TestResult, eventually};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::node::Node;
use crate::ox::Ox;
use crate::roles::{Roles, Side};
use crate::snapshot::Snapshot;
use crate::step::{Implementation, Limit, Place, Step};

mod attempts;
mod producing;
mod working;

/// When every scenario begins, in milliseconds since the epoch.
pub(crate) const START: i64 = 1_700_000_000_000;

/// Takes the steps of one scenario on keys of its own.
pub(crate) struct Driver {
    fixture: Arc<Fixture>,
    roles: Roles,
    node: Node,
    ox: Ox,
    redis: Connection,
    prefix: String,
    queue: String,
    worker: String,
    options: BTreeMap<String, Value>,
    /// Who started a job, by queue and id.
    starters: BTreeMap<(String, String), Side>,
    /// Jobs that were active before the real worker started.
    held_by_others: Vec<String>,
    /// Whether a real worker has run.
    worked: bool,
    now: i64,
    log: Vec<(String, Value)>,
}

/// What a scenario left.
pub(crate) struct Trace {
    roles: Roles,
    log: Vec<(String, Value)>,
    snapshot: Snapshot,
}

impl Driver {
    pub(crate) async fn new(fixture: Arc<Fixture>, name: &str, roles: Roles) -> TestResult<Self> {
        let prefix = format!("{}.{}", name.replace("::", "."), roles.name);
        let mut driver = Self {
            roles,
            node: Node::new(Arc::clone(&fixture.peer)),
            ox: Ox::new(fixture.client.clone()),
            redis: fixture.server.connect().await?,
            prefix,
            queue: String::new(),
            worker: "worker".to_owned(),
            options: BTreeMap::new(),
            starters: BTreeMap::new(),
            held_by_others: Vec::new(),
            worked: false,
            now: START,
            log: Vec::new(),
            fixture,
        };
        driver.set_clock(START).await?;
        driver.go("q").await?;
        Ok(driver)
    }

    pub(crate) async fn finish(mut self) -> TestResult<Trace> {
        let mut snapshot = Snapshot::take(&mut self.redis, &self.prefix).await?;
        if self.worked {
            // A worker that was closed may still take a wake-up, and gives it back.
            snapshot.forget_markers();
        }
        self.node.close().await?;
        self.ox.close().await?;
        Ok(Trace {
            roles: self.roles,
            log: self.log,
            snapshot,
        })
    }

    // Where and when steps are taken.

    /// Takes the next steps on another queue. Scenarios begin on `q`.
    pub(crate) async fn go(&mut self, queue: &str) -> TestResult {
        queue.clone_into(&mut self.queue);
        let place = self.place();
        for side in [self.roles.produces, self.roles.starts, self.roles.ends] {
            self.implementation(side).open(&place).await?;
        }
        // BullMQ writes a queue's settings in the background; a later write would hide ours.
        let meta = self.key("meta");
        let server = self.fixture.server;
        eventually(Duration::from_secs(30), || async {
            let set = server.int(&["HEXISTS", &meta, "version"]).await;
            set.is_ok_and(|set| set == 1)
        })
        .await?;
        Ok(())
    }

    /// Takes the next steps with the worker of this name, which has these options.
    pub(crate) fn worker(&mut self, name: &str, options: Value) {
        name.clone_into(&mut self.worker);
        self.options.insert(name.to_owned(), options);
    }

    /// Gives every role to one side from now on.
    pub(crate) fn act_as(&mut self, side: Side) {
        self.roles = Roles::all(self.roles.name, side);
    }

    /// What time it is.
    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// Lets time pass for all sides.
    pub(crate) async fn pass(&mut self, millis: i64) -> TestResult {
        self.set_clock(self.now + millis).await
    }

    async fn set_clock(&mut self, now: i64) -> TestResult {
        self.now = now;
        self.fixture.client.clock().set(Timestamp::from_millis(now));
        self.fixture
            .peer
            .call("clock.set", json!({ "ms": now }))
            .await?;
        Ok(())
    }

    // Acting on the queue and its jobs.

    /// Takes a step as the producer.
    pub(crate) async fn act(&mut self, step: Step) -> TestResult<Value> {
        let step = self.filled_step(step);
        self.take(self.roles.produces, step).await
    }

    /// Acts on what bounds all workers together, as the producer.
    pub(crate) async fn limit(&mut self, limit: Limit) -> TestResult<Value> {
        self.act(Step::Limit(limit)).await
    }

    /// Runs a Redis command whose first argument is a key of the queue, named by its suffix.
    pub(crate) async fn redis(&mut self, command: &[&str]) -> TestResult {
        let mut full: Vec<String> = command.iter().map(|&part| self.fill(part)).collect();
        if let Some(key) = full.get_mut(1) {
            *key = self.key(key);
        }
        let reply = self.redis.call(&full).await?;
        if let oxbull_testkit::Value::Error(error) = reply {
            return Err(format!("{full:?}: {error}").into());
        }
        Ok(())
    }

    /// Reads how long a key of the queue lasts, in milliseconds.
    pub(crate) async fn lasts(&mut self, key: &str) -> TestResult<i64> {
        let key = self.key(key);
        let left = self.redis.call(&["PTTL", &key]).await?;
        left.int().ok_or_else(|| "PTTL is not a number".into())
    }

    /// Reads all keys.
    pub(crate) async fn snapshot(&mut self) -> TestResult<Snapshot> {
        Snapshot::take(&mut self.redis, &self.prefix).await
    }

    /// Deletes all keys.
    pub(crate) async fn clear(&mut self) -> TestResult {
        let pattern = format!("{}:*", self.prefix);
        let mut command = self.redis.call(&["KEYS", &pattern]).await?.texts();
        command.insert(0, "UNLINK".to_owned());
        if command.len() > 1 {
            self.redis.call(&command).await?;
        }
        Ok(())
    }

    /// An answer in the form in which those of several casts are equal.
    pub(crate) fn neutral(&self, answer: Value) -> Value {
        crate::snapshot::neutral(answer, &self.prefix)
    }

    /// Compares one key of the current queue with what the protocol says.
    pub(crate) async fn expect(&mut self, key: &str, value: Value) -> TestResult {
        let found = self
            .snapshot()
            .await?
            .value(&format!("{}:{key}", self.queue));
        if found == value {
            return Ok(());
        }
        Err(format!("{key} is {found}, should be {value}").into())
    }

    /// Compares one field of a job's hash with what the protocol says.
    pub(crate) async fn expect_field(&mut self, id: &str, field: &str, value: Value) -> TestResult {
        let job = self
            .snapshot()
            .await?
            .value(&format!("{}:{id}", self.queue));
        let found = job.get(field).cloned().unwrap_or_default();
        if found == value {
            return Ok(());
        }
        Err(format!("{field} of {id} is {found}, should be {value}").into())
    }

    fn place(&self) -> Place {
        Place {
            prefix: self.prefix.clone(),
            queue: self.queue.clone(),
            worker: self.worker.clone(),
            options: self.options.get(&self.worker).cloned().unwrap_or_default(),
        }
    }

    fn implementation(&self, side: Side) -> &dyn Implementation {
        match side {
            Side::Node => &self.node,
            Side::Ox => &self.ox,
        }
    }

    async fn take(&mut self, side: Side, step: Step) -> TestResult<Value> {
        let place = self.place();
        let answer = self
            .implementation(side)
            .take(&place, &step)
            .await
            .map_err(|error| format!("{side:?} cannot take {step:?}: {error}"))?;
        let shown = format!("{step:?}").replace(&self.prefix, "P");
        let neutral = crate::snapshot::neutral(answer.clone(), &self.prefix);
        self.log.push((shown, neutral));
        Ok(answer)
    }

    fn started_by(&mut self, started: &Value, side: Side) {
        if let Some(id) = started["id"].as_str() {
            let other = match side {
                Side::Node => Side::Ox,
                Side::Ox => Side::Node,
            };
            self.implementation(other).forget(&self.place(), id);
            self.starters
                .insert((self.queue.clone(), id.to_owned()), side);
        }
    }

    fn key(&self, suffix: &str) -> String {
        format!("{}:{}:{suffix}", self.prefix, self.queue)
    }

    /// Puts the prefix where a text says `$P`.
    fn fill(&self, text: &str) -> String {
        text.replace("$P", &self.prefix)
    }

    fn filled_step(&self, step: Step) -> Step {
        match step {
            Step::Add { name, data, opts } => {
                let opts = self.filled(opts);
                Step::Add { name, data, opts }
            }
            Step::AddBulk(jobs) => Step::AddBulk(
                jobs.into_iter()
                    .map(|(name, data, opts)| (name, data, self.filled(opts)))
                    .collect(),
            ),
            Step::AddFlow { flow, defaults } => Step::AddFlow {
                flow: self.filled(flow),
                defaults: self.filled(defaults),
            },
            Step::AddFlows(flows) => {
                Step::AddFlows(flows.into_iter().map(|flow| self.filled(flow)).collect())
            }
            other => other,
        }
    }

    fn filled(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.fill(&text).into(),
            Value::Array(items) => items.into_iter().map(|item| self.filled(item)).collect(),
            Value::Object(map) => Value::Object(
                map.into_iter()
                    .map(|(name, value)| (name, self.filled(value)))
                    .collect(),
            ),
            other => other,
        }
    }
}

impl Trace {
    /// The steps that were taken, with their answers.
    pub(crate) fn steps(&self) -> String {
        let mut text = String::new();
        for (step, answer) in &self.log {
            writeln!(text, "  {step} -> {answer}").ok();
        }
        text
    }

    /// Fails unless both left the same keys and got the same answers on the way.
    pub(crate) fn assert_parity(&self, reference: &Self) {
        let mut text = String::new();
        for (here, there) in self.log.iter().zip(&reference.log) {
            if here != there {
                writeln!(text, "  {}", there.0).ok();
                writeln!(text, "    reference answers: {}", there.1).ok();
                writeln!(text, "    here:              {}", here.1).ok();
            }
        }
        text.push_str(
            &self
                .snapshot
                .difference(&reference.snapshot)
                .unwrap_or_default(),
        );
        assert!(
            text.is_empty(),
            "{} leaves something else than {}:\n{text}steps taken:\n{}",
            self.roles.name,
            reference.roles.name,
            self.steps(),
        );
    }
}
