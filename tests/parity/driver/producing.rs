//! Adding jobs and schedules.

use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use super::Driver;
use crate::step::Step;

impl Driver {
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
        self.take(self.roles.produces, step).await
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
        self.take(self.roles.produces, Step::AddBulk(jobs)).await
    }

    /// Adds a flow; answers the ids of its jobs as a tree.
    pub(crate) async fn add_flow(&mut self, flow: Value) -> TestResult<Value> {
        self.add_flow_with(flow, json!({})).await
    }

    /// As above, with options for the jobs of queues, by their names.
    pub(crate) async fn add_flow_with(
        &mut self,
        flow: Value,
        defaults: Value,
    ) -> TestResult<Value> {
        self.act(Step::AddFlow { flow, defaults }).await
    }

    /// Asks BullMQ, whatever the roles are: for what only it can do.
    pub(crate) async fn node(&mut self, method: &str, params: Value) -> TestResult<Value> {
        let mut params = self.filled(params);
        params["prefix"] = self.prefix.clone().into();
        params["queue"] = self.queue.clone().into();
        Ok(self.fixture.peer.call(method, params).await?)
    }

    /// As [`node`](Self::node), with parameters (members of an object) in JSON that need not be
    /// text for us; answers nothing.
    pub(crate) async fn node_text(&mut self, method: &str, params: &str) -> TestResult {
        self.node("queue.open", json!({})).await?;
        let place = json!({ "prefix": self.prefix, "queue": self.queue }).to_string();
        let params = format!("{},{params}}}", place.trim_end_matches('}'));
        let params = json!({ "method": method, "params": params });
        self.fixture.peer.call("text.call", params).await?;
        Ok(())
    }

    /// Lets BullMQ add a job, whatever the roles are.
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
        self.take(self.roles.produces, step).await
    }

    /// Upserts a scheduler whose iteration must be the one of this slot.
    pub(crate) async fn upsert_at(&mut self, id: &str, repeat: Value, slot: i64) -> TestResult {
        let made = self.upsert(id, repeat).await?;
        if made == format!("repeat:{id}:{slot}") {
            return Ok(());
        }
        Err(format!("made {made}, not the iteration of {slot}").into())
    }
}
