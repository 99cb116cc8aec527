//! The steps as BullMQ for Node takes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use oxbull_testkit::{NodePeer, PeerError, TestResult};
use serde_json::{Map, Value, json};

use crate::step::{End, Implementation, Place, Step, locked, refused};

mod limits;
mod parents;
mod reading;

/// BullMQ 6 in a Node process.
pub(crate) struct Node {
    peer: Arc<NodePeer>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// Prefix and queue.
    queues: Vec<(String, String)>,
    workers: Vec<String>,
    /// The worker that started a job, by the job's key.
    held: BTreeMap<String, String>,
}

impl Node {
    pub(crate) fn new(peer: Arc<NodePeer>) -> Self {
        Self {
            peer,
            open: Mutex::default(),
        }
    }

    /// Calls a method with the queue's name and prefix added.
    pub(crate) async fn call(
        &self,
        place: &Place,
        method: &str,
        params: Value,
    ) -> TestResult<Value> {
        match self.ask(place, method, params).await? {
            Ok(answer) => Ok(answer),
            Err(error) => match code(&error) {
                Some(code) => Ok(refused(code)),
                None => Err(format!("{method}: {error}\n{}", error.stack).into()),
            },
        }
    }

    pub(crate) async fn ask(
        &self,
        place: &Place,
        method: &str,
        mut params: Value,
    ) -> TestResult<Result<Value, PeerError>> {
        params["queue"] = place.queue.clone().into();
        params["prefix"] = place.prefix.clone().into();
        Ok(self.peer.try_call(method, params).await?)
    }

    /// Calls a method of one job; done unless it was declined.
    async fn done(&self, place: &Place, method: &str, params: Value) -> TestResult<Value> {
        let answer = self.call(place, method, params).await?;
        Ok(match answer.get("refused") {
            Some(_) => answer,
            None => Value::Null,
        })
    }

    async fn worker(&self, place: &Place) -> TestResult<String> {
        let handle = handle(place);
        if !self.open.lock().unwrap().workers.contains(&handle) {
            self.open.lock().unwrap().workers.push(handle.clone());
            let params = json!({ "manual": handle, "opts": place.options });
            self.call(place, "manual.open", params).await?;
        }
        Ok(handle)
    }

    fn hold(&self, place: &Place, job: &Value, handle: &str) -> Value {
        if let Some(id) = job["id"].as_str() {
            self.open
                .lock()
                .unwrap()
                .held
                .insert(key(place, id), handle.to_owned());
        }
        started(job)
    }

    async fn end(
        &self,
        place: &Place,
        (id, token): (&str, &str),
        end: &End,
        fetch_next: bool,
    ) -> TestResult<Value> {
        let held = self.open.lock().unwrap().held.remove(&key(place, id));
        if let End::RateLimited(millis) = end {
            self.call(place, "queue.rateLimit", json!({ "ms": millis }))
                .await?;
        }
        let Some(handle) = held else {
            return self.end_foreign(place, (id, token), end).await;
        };
        let mut params = json!({ "manual": handle, "id": id, "token": token });
        let method = match end {
            End::Complete(value) => {
                params["value"] = value.clone();
                params["fetchNext"] = fetch_next.into();
                "manual.complete"
            }
            End::Fail { message, fatal } => {
                params["name"] = error_name(*fatal).into();
                params["message"] = message.clone().into();
                params["fetchNext"] = fetch_next.into();
                "manual.fail"
            }
            End::DelayUntil(at) => {
                params["timestamp"] = (*at).into();
                "manual.moveToDelayed"
            }
            End::Release | End::RateLimited(_) => "manual.moveToWait",
            End::WaitForChildren => "manual.moveToWaitingChildren",
        };
        let answer = self.call(place, method, params).await?;
        if answer.get("refused").is_some() {
            // The job is still this worker's to end.
            self.open
                .lock()
                .unwrap()
                .held
                .insert(key(place, id), handle);
            return Ok(answer);
        }
        let next = answer.get("next").cloned().unwrap_or_default();
        Ok(self.hold(place, &next, &handle))
    }

    /// Ends the attempt of a job that another side started.
    async fn end_foreign(
        &self,
        place: &Place,
        (id, token): (&str, &str),
        end: &End,
    ) -> TestResult<Value> {
        let (method, args) = match end {
            End::Complete(value) => ("moveToCompleted", json!([value, token, false])),
            End::Fail { message, fatal } => {
                let name = error_name(*fatal);
                let stack = format!("{name}: {message}\n    at scenario");
                let error = json!({ "name": name, "message": message, "stack": stack });
                ("moveToFailed", json!([error, token, false]))
            }
            End::DelayUntil(at) => ("moveToDelayed", json!([at, token])),
            End::Release | End::RateLimited(_) => ("moveToWait", json!([token])),
            End::WaitForChildren => ("moveToWaitingChildren", json!([token])),
        };
        let params = json!({ "id": id, "method": method, "args": args });
        self.done(place, "job.call", params).await
    }

    async fn take(&self, place: &Place, step: &Step) -> TestResult<Value> {
        match step {
            Step::Add { name, data, opts } => {
                let params = json!({ "name": name, "data": data, "opts": opts });
                let job = self.call(place, "queue.add", params).await?;
                Ok(job.get("id").cloned().unwrap_or(job))
            }
            Step::AddBulk(jobs) => {
                let jobs: Vec<Value> = jobs
                    .iter()
                    .map(|(name, data, opts)| json!({ "name": name, "data": data, "opts": opts }))
                    .collect();
                let added = self
                    .call(place, "queue.addBulk", json!({ "jobs": jobs }))
                    .await?;
                let id = |job: &Value| job["id"].as_i64().map_or(job["id"].clone(), refused);
                Ok(added.as_array().into_iter().flatten().map(id).collect())
            }
            Step::AddFlow { flow, defaults } => {
                let queues: Map<String, Value> = defaults
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(queue, opts)| (queue.clone(), json!({ "defaultJobOptions": opts })))
                    .collect();
                let params = json!({ "flow": flow, "flowOpts": { "queuesOptions": queues } });
                Ok(tree(&self.call(place, "flow.add", params).await?))
            }
            Step::AddFlows(flows) => {
                let added = self
                    .call(place, "flow.addBulk", json!({ "flows": flows }))
                    .await?;
                Ok(added.as_array().into_iter().flatten().map(tree).collect())
            }
            Step::Fetch { token } => {
                let handle = self.worker(place).await?;
                let params = json!({ "manual": handle, "token": token, "block": false });
                let job = self.call(place, "manual.getNextJob", params).await?;
                Ok(self.hold(place, &job, &handle))
            }
            Step::End {
                id,
                token,
                end,
                fetch_next,
            } => self.end(place, (id, token), end, *fetch_next).await,
            Step::ExtendLock { id, token, millis } => {
                let params = json!({ "id": id, "method": "extendLock", "args": [token, millis] });
                let kept = self.call(place, "job.call", params).await?;
                Ok(json!({ "kept": kept == 1 }))
            }
            Step::CheckStalled { tolerated } => {
                let params = json!({ "opts": { "maxStalledCount": tolerated } });
                let answer = self.call(place, "manual.checkStalled", params).await?;
                Ok(answer["stalled"].clone())
            }
            Step::Pause => self.done(place, "queue.pause", json!({})).await,
            Step::Resume => self.done(place, "queue.resume", json!({})).await,
            Step::Drain { delayed } => {
                let params = json!({ "delayed": delayed });
                self.done(place, "queue.drain", params).await
            }
            Step::Many(many) => many.by_node(self, place).await,
            Step::Remove { id, children } => {
                let params = json!({ "id": id, "opts": { "removeChildren": children } });
                let answer = self.call(place, "queue.remove", params).await?;
                Ok(match answer.as_i64() {
                    Some(0) => locked(),
                    Some(_) => Value::Null,
                    None => answer,
                })
            }
            Step::UpdateData { id, data } => {
                let params = json!({ "id": id, "data": data });
                self.done(place, "queue.updateData", params).await
            }
            Step::UpdateProgress { id, progress } => {
                let params = json!({ "method": "updateJobProgress", "args": [id, progress] });
                self.done(place, "queue.call", params).await
            }
            Step::Log { id, row, keep } => {
                let params = json!({ "method": "addJobLog", "args": [id, row, keep] });
                self.call(place, "queue.call", params).await
            }
            Step::Retry {
                id,
                completed,
                reset_made,
                reset_started,
            } => {
                let state = if *completed { "completed" } else { "failed" };
                let opts = json!({ "resetAttemptsMade": reset_made, "resetAttemptsStarted": reset_started });
                let params = json!({ "id": id, "state": state, "opts": opts });
                self.done(place, "queue.retryJob", params).await
            }
            Step::Promote { id } => self.done(place, "queue.promote", json!({ "id": id })).await,
            Step::ChangeDelay { id, millis } => {
                let params = json!({ "id": id, "delay": millis });
                self.done(place, "queue.changeDelay", params).await
            }
            Step::ChangePriority { id, priority, lifo } => {
                let params = json!({ "id": id, "priority": priority, "lifo": lifo });
                self.done(place, "queue.changePriority", params).await
            }
            Step::Publish {
                event,
                fields,
                keep,
            } => {
                let mut fields = fields.clone();
                fields["eventName"] = json!(event);
                let params = json!({ "fields": fields, "maxEvents": keep });
                self.done(place, "events.publish", params).await
            }
            Step::TrimEvents { keep } => {
                let params = json!({ "maxLength": keep });
                self.call(place, "queue.trimEvents", params).await
            }
            Step::DeduplicationOwner { id } => {
                let params = json!({ "method": "getDeduplicationJobId", "args": [id] });
                self.call(place, "queue.call", params).await
            }
            Step::ReleaseDeduplication { id, owner } => {
                let params = json!({ "method": "removeDeduplicationKey", "args": [id] });
                let released = if let Some(owner) = owner {
                    let params = json!({ "id": owner, "method": "removeDeduplicationKey" });
                    self.call(place, "job.call", params).await?
                } else {
                    self.call(place, "queue.call", params).await?
                };
                Ok((released == true || released == 1).into())
            }
            Step::State { id } => {
                self.call(place, "queue.getState", json!({ "id": id }))
                    .await
            }
            Step::Limit(limit) => self.limit(place, *limit).await,
            Step::Flow(step) => self.flow(place, step).await,
            Step::Read(read) => self.read(place, read).await,
            Step::UpsertScheduler {
                id,
                repeat,
                template,
            } => {
                let params = json!({ "id": id, "repeat": repeat, "template": template });
                let job = self.call(place, "queue.upsertJobScheduler", params).await?;
                Ok(match job.get("refused") {
                    Some(_) => job,
                    None => job["id"].clone(),
                })
            }
            Step::RemoveScheduler { id } => {
                self.call(place, "queue.removeJobScheduler", json!({ "id": id }))
                    .await
            }
            Step::GetScheduler { id } => {
                let params = json!({ "method": "getJobScheduler", "args": [id] });
                Ok(scheduler(self.call(place, "queue.call", params).await?))
            }
            Step::ListSchedulers { start, end, asc } => {
                let params = json!({ "method": "getJobSchedulers", "args": [start, end, asc] });
                let listed = self.call(place, "queue.call", params).await?;
                let listed = listed.as_array().into_iter().flatten();
                Ok(listed.cloned().map(scheduler).collect())
            }
            Step::CountSchedulers => {
                let params = json!({ "method": "getJobSchedulersCount", "args": [] });
                self.call(place, "queue.call", params).await
            }
            Step::StartWork { .. }
            | Step::Reach { .. }
            | Step::OpenGate { .. }
            | Step::IsLimited
            | Step::EndWork => self.work(place, step).await,
        }
    }

    /// Takes a step with a real worker.
    async fn work(&self, place: &Place, step: &Step) -> TestResult<Value> {
        let mut params = json!({ "handle": handle(place) });
        let method = match step {
            Step::StartWork { script } => {
                params["script"] = script.clone();
                params["opts"] = place.options.clone();
                "scripted.start"
            }
            Step::Reach { gate } => {
                params["gate"] = gate.clone().into();
                "scripted.reached"
            }
            Step::OpenGate { gate } => {
                params["gate"] = gate.clone().into();
                "scripted.open"
            }
            Step::IsLimited => "scripted.limited",
            _ => "scripted.end",
        };
        let answer = self.call(place, method, params).await?;
        if !matches!(step, Step::EndWork) {
            return Ok(answer);
        }
        let seen: Value = answer["seen"]
            .as_array()
            .into_iter()
            .flatten()
            .map(started)
            .collect();
        Ok(json!({ "seen": seen, "emitted": answer["emitted"] }))
    }
}

impl Implementation for Node {
    fn open<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, TestResult> {
        Box::pin(async move {
            let queue = (place.prefix.clone(), place.queue.clone());
            if !self.open.lock().unwrap().queues.contains(&queue) {
                self.open.lock().unwrap().queues.push(queue);
                self.call(place, "queue.open", json!({})).await?;
            }
            Ok(())
        })
    }

    fn take<'a>(&'a self, place: &'a Place, step: &'a Step) -> BoxFuture<'a, TestResult<Value>> {
        Box::pin(self.take(place, step))
    }

    fn holds(&self, place: &Place, id: &str) -> bool {
        self.open.lock().unwrap().held.get(&key(place, id)) == Some(&handle(place))
    }

    fn forget(&self, place: &Place, id: &str) {
        self.open.lock().unwrap().held.remove(&key(place, id));
    }

    fn close(&self) -> BoxFuture<'_, TestResult> {
        Box::pin(async move {
            let open = std::mem::take(&mut *self.open.lock().unwrap());
            for manual in open.workers {
                let params = json!({ "manual": manual, "force": true });
                self.peer.call("manual.close", params).await?;
            }
            for (prefix, queue) in open.queues {
                let params = json!({ "prefix": prefix, "queue": queue });
                self.peer.call("queue.close", params).await?;
            }
            Ok(())
        })
    }
}

fn handle(place: &Place) -> String {
    format!("{}:{}/{}", place.prefix, place.queue, place.worker)
}

fn key(place: &Place, id: &str) -> String {
    format!("{}:{}:{id}", place.prefix, place.queue)
}

fn error_name(fatal: bool) -> &'static str {
    if fatal { "UnrecoverableError" } else { "Error" }
}

/// The small number that BullMQ's own errors carry.
fn code(error: &PeerError) -> Option<i64> {
    error.code.as_deref()?.parse().ok()
}

/// A scheduler without its template's options, which this library hands out decoded.
fn scheduler(mut found: Value) -> Value {
    if let Some(Value::Object(template)) = found.get_mut("template") {
        template.remove("opts");
        if template.is_empty()
            && let Some(found) = found.as_object_mut()
        {
            found.remove("template");
        }
    }
    found
}

/// The ids of a flow's jobs; a refusal stays what it is.
fn tree(added: &Value) -> Value {
    match &added["job"] {
        Value::Null => added.clone(),
        job => {
            let children = added["children"].as_array();
            let children: Vec<_> = children.into_iter().flatten().map(tree).collect();
            json!({ "id": job["id"], "queue": job["queueName"], "children": children })
        }
    }
}

/// What both sides say about a job that has become active.
fn started(job: &Value) -> Value {
    if job["id"].is_null() {
        return Value::Null;
    }
    json!({
        "id": job["id"], "name": job["name"], "data": job["data"],
        "made": job["attemptsMade"], "started": job["attemptsStarted"],
        "processedOn": job["processedOn"], "deferred": job["deferredFailure"],
        "reason": job["failedReason"],
    })
}
