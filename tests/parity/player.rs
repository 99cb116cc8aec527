//! The steps of a scenario as methods, taken by whoever the cast says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use oxbull::Timestamp;
use oxbull_testkit::{Connection, eventually};
use serde_json::{Value, json};

use crate::TestResult;
use crate::cast::{Cast, Side};
use crate::driver::{Driver, End, Limit, Place, Step};
use crate::node::Node;
use crate::ox::Ox;
use crate::snapshot::Snapshot;
use crate::stage::Stage;

mod working;

/// When every scenario begins, in milliseconds since the epoch.
pub(crate) const START: i64 = 1_700_000_000_000;

/// Takes the steps of one scenario on keys of its own.
pub(crate) struct Player {
    stage: Arc<Stage>,
    cast: Cast,
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
    now: i64,
    log: Vec<(String, Value)>,
}

/// What a scenario left.
pub(crate) struct Played {
    cast: Cast,
    log: Vec<(String, Value)>,
    snapshot: Snapshot,
}

impl Player {
    pub(crate) async fn new(stage: Arc<Stage>, name: &str, cast: Cast) -> TestResult<Self> {
        let prefix = format!("{}.{}", name.replace("::", "."), cast.name);
        let mut player = Self {
            cast,
            node: Node::new(Arc::clone(&stage.peer)),
            ox: Ox::new(stage.client.clone()),
            redis: stage.server.connect().await?,
            prefix,
            queue: String::new(),
            worker: "worker".to_owned(),
            options: BTreeMap::new(),
            starters: BTreeMap::new(),
            held_by_others: Vec::new(),
            now: START,
            log: Vec::new(),
            stage,
        };
        player.set_clock(START).await?;
        player.go("q").await?;
        Ok(player)
    }

    pub(crate) async fn finish(mut self) -> TestResult<Played> {
        let snapshot = Snapshot::take(&mut self.redis, &self.prefix).await?;
        self.node.close().await?;
        self.ox.close().await?;
        Ok(Played {
            cast: self.cast,
            log: self.log,
            snapshot,
        })
    }

    // Where and when steps are taken.

    /// Takes the next steps on another queue. Scenarios begin on `q`.
    pub(crate) async fn go(&mut self, queue: &str) -> TestResult {
        queue.clone_into(&mut self.queue);
        let place = self.place();
        for side in [self.cast.produces, self.cast.starts, self.cast.ends] {
            self.driver(side).open(&place).await?;
        }
        // BullMQ writes a queue's settings in the background; a later write would hide ours.
        let meta = self.key("meta");
        let server = self.stage.server;
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
        self.stage
            .client
            .clock()
            .stop_at(Timestamp::from_millis(now));
        self.stage
            .peer
            .call("clock.set", json!({ "ms": now }))
            .await?;
        Ok(())
    }

    // Producing.

    pub(crate) async fn add(&mut self, name: &str, opts: Value) -> TestResult<Value> {
        self.add_data(name, json!({ "n": name }), opts).await
    }

    pub(crate) async fn add_data(
        &mut self,
        name: &str,
        data: Value,
        opts: Value,
    ) -> TestResult<Value> {
        let (name, opts) = (name.to_owned(), self.filled(opts));
        let step = Step::Add { name, data, opts };
        self.take(self.cast.produces, step).await
    }

    /// Adds several plain jobs.
    pub(crate) async fn add_all(&mut self, names: &[&str]) -> TestResult {
        for name in names {
            self.add(name, json!({ "jobId": name })).await?;
        }
        Ok(())
    }

    pub(crate) async fn add_bulk(&mut self, jobs: &[(&str, Value)]) -> TestResult<Value> {
        let jobs = jobs
            .iter()
            .map(|(name, opts)| {
                let data = json!({ "n": name });
                ((*name).to_owned(), data, self.filled(opts.clone()))
            })
            .collect();
        self.take(self.cast.produces, Step::AddBulk(jobs)).await
    }

    /// Asks BullMQ, whoever else plays: for what only it can do.
    pub(crate) async fn node(&mut self, method: &str, params: Value) -> TestResult<Value> {
        let mut params = self.filled(params);
        params["prefix"] = self.prefix.clone().into();
        params["queue"] = self.queue.clone().into();
        Ok(self.stage.peer.call(method, params).await?)
    }

    /// Lets BullMQ add a job, whoever else plays.
    pub(crate) async fn node_add(&mut self, name: &str, opts: Value) -> TestResult<Value> {
        let params = json!({ "name": name, "data": { "n": name }, "opts": opts });
        let job = self.node("queue.add", params).await?;
        Ok(job["id"].clone())
    }

    /// Lets BullMQ add a parent `id` in the queue and children, each `{name, queueName, opts}`.
    pub(crate) async fn flow(&mut self, id: &str, opts: Value, children: Value) -> TestResult {
        let mut opts = opts;
        opts["jobId"] = id.into();
        let flow = json!({ "name": id, "queueName": self.queue, "data": {}, "opts": opts,
            "children": children });
        self.node("flow.add", json!({ "flow": flow })).await?;
        Ok(())
    }

    // Scheduling.

    /// Creates or replaces a scheduler; answers the id of its iteration.
    pub(crate) async fn upsert(&mut self, id: &str, repeat: Value) -> TestResult<Value> {
        self.upsert_with(id, repeat, json!({})).await
    }

    pub(crate) async fn upsert_with(
        &mut self,
        id: &str,
        repeat: Value,
        template: Value,
    ) -> TestResult<Value> {
        let step = Step::UpsertScheduler {
            id: id.to_owned(),
            repeat,
            template,
        };
        self.take(self.cast.produces, step).await
    }

    /// Upserts a scheduler whose iteration must be the one of this slot.
    pub(crate) async fn upsert_at(&mut self, id: &str, repeat: Value, slot: i64) -> TestResult {
        let made = self.upsert(id, repeat).await?;
        if made == format!("repeat:{id}:{slot}") {
            return Ok(());
        }
        Err(format!("made {made}, not the iteration of {slot}").into())
    }

    // Working.

    /// Starts the next job; answers what is known about it, null when nothing is ready.
    pub(crate) async fn fetch(&mut self, token: &str) -> TestResult<Value> {
        let token = token.to_owned();
        let started = self.take(self.cast.starts, Step::Fetch { token }).await?;
        self.started_by(&started, self.cast.starts);
        Ok(started)
    }

    /// Starts the next job, which must be the one named.
    pub(crate) async fn fetch_job(&mut self, token: &str, id: &str) -> TestResult {
        let started = self.fetch(token).await?;
        if started["id"] != id {
            return Err(format!("started {started}, not {id}").into());
        }
        Ok(())
    }

    pub(crate) async fn end(&mut self, id: &str, token: &str, end: End) -> TestResult<Value> {
        self.end_with(id, token, end, false).await
    }

    pub(crate) async fn complete(&mut self, id: &str, token: &str) -> TestResult<Value> {
        self.end(id, token, End::Complete(json!({ "ok": id })))
            .await
    }

    pub(crate) async fn fail(&mut self, id: &str, token: &str) -> TestResult<Value> {
        let message = format!("{id} went wrong");
        let fatal = false;
        self.end(id, token, End::Fail { message, fatal }).await
    }

    /// Ends an attempt and starts the next job in the same step.
    pub(crate) async fn end_and_fetch(
        &mut self,
        id: &str,
        token: &str,
        end: End,
    ) -> TestResult<Value> {
        self.end_with(id, token, end, true).await
    }

    async fn end_with(
        &mut self,
        id: &str,
        token: &str,
        end: End,
        fetch_next: bool,
    ) -> TestResult<Value> {
        let starter = self
            .starters
            .get(&(self.queue.clone(), id.to_owned()))
            .copied();
        // Options of a worker, and what it fetches next, belong to the worker that holds the job.
        let bound = fetch_next || !self.place().options.is_null();
        let side = match starter {
            Some(starter) if bound && self.driver(starter).holds(&self.place(), id) => starter,
            _ => self.cast.ends,
        };
        let step = Step::End {
            id: id.to_owned(),
            token: token.to_owned(),
            end,
            fetch_next,
        };
        let answer = self.take(side, step).await?;
        self.started_by(&answer, side);
        Ok(answer)
    }

    /// Fetches one job and completes it.
    pub(crate) async fn work_off(&mut self, id: &str) -> TestResult {
        self.fetch_job("work", id).await?;
        self.complete(id, "work").await?;
        Ok(())
    }

    pub(crate) async fn extend_lock(
        &mut self,
        id: &str,
        token: &str,
        millis: u64,
    ) -> TestResult<Value> {
        let step = Step::ExtendLock {
            id: id.to_owned(),
            token: token.to_owned(),
            millis,
        };
        self.take(self.cast.ends, step).await
    }

    pub(crate) async fn check_stalled(&mut self, tolerated: u32) -> TestResult<Value> {
        self.take(self.cast.starts, Step::CheckStalled { tolerated })
            .await
    }

    /// Two checks with the locks of `ids` gone between them: all of them are handed back.
    pub(crate) async fn stall(&mut self, ids: &[&str], tolerated: u32) -> TestResult<Value> {
        self.check_stalled(tolerated).await?;
        for id in ids {
            self.redis(&["DEL", &format!("{id}:lock")]).await?;
        }
        self.redis(&["DEL", "stalled-check"]).await?;
        self.check_stalled(tolerated).await
    }

    // Acting on the queue and its jobs.

    /// Takes a step as the producer.
    pub(crate) async fn act(&mut self, step: Step) -> TestResult<Value> {
        self.take(self.cast.produces, step).await
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
        left.int().ok_or_else(|| "PTTL is no number".into())
    }

    /// Reads all keys.
    pub(crate) async fn snapshot(&mut self) -> TestResult<Snapshot> {
        Snapshot::take(&mut self.redis, &self.prefix).await
    }

    /// Compares one key of the current queue with what the spec says.
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

    /// Compares one field of a job's hash with what the spec says.
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

    fn driver(&self, side: Side) -> &dyn Driver {
        match side {
            Side::Node => &self.node,
            Side::Ox => &self.ox,
        }
    }

    async fn take(&mut self, side: Side, step: Step) -> TestResult<Value> {
        let place = self.place();
        let answer = self
            .driver(side)
            .play(&place, &step)
            .await
            .map_err(|error| format!("{side:?} cannot take {step:?}: {error}"))?;
        let shown = format!("{step:?}").replace(&self.prefix, "P");
        let neutral = crate::snapshot::neutral(answer.clone(), &self.prefix);
        self.log.push((shown, neutral));
        Ok(answer)
    }

    fn started_by(&mut self, started: &Value, side: Side) {
        if let Some(id) = started["id"].as_str() {
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

impl Played {
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
            self.cast.name,
            reference.cast.name,
            self.steps(),
        );
    }
}
