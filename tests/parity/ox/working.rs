//! A real worker whose handlers do what a script says; its twin for Node is
//! `tests/interop/lib/scripted.mjs`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use oxbull::{
    Client, Context, Job, JobError, JobId, JobRateLimit, JobResult, Outcome, Queue, Timestamp,
    Worker, WorkerEvent, WorkerEvents,
};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore};
use tokio::task::JoinHandle;

use super::options::{millis, number, options, retention, text};
use super::started;
use crate::step::Place;

/// A worker and what is known of it.
pub(super) struct ScriptedWorker {
    handlers: Arc<Handlers>,
    worker: OnceCell<(Worker, JoinHandle<()>)>,
}

/// What the worker's handlers share.
struct Handlers {
    client: Client,
    queue: Queue,
    /// `prefix:queue`
    parent: String,
    script: Value,
    runs: Mutex<BTreeMap<String, usize>>,
    seen: Mutex<Vec<Value>>,
    emitted: Mutex<Vec<Value>>,
    gates: Mutex<BTreeMap<String, Arc<Gate>>>,
    limited: AtomicBool,
}

struct Gate {
    reached: Semaphore,
    open: Semaphore,
}

impl ScriptedWorker {
    pub(super) async fn start(
        client: &Client,
        queue: Queue,
        place: &Place,
        script: Value,
    ) -> TestResult<Arc<Self>> {
        let handlers = Arc::new(Handlers {
            client: client.clone(),
            queue,
            parent: format!("{}:{}", place.prefix, place.queue),
            script,
            runs: Mutex::default(),
            seen: Mutex::default(),
            emitted: Mutex::default(),
            gates: Mutex::default(),
            limited: AtomicBool::new(false),
        });
        let mut builder = Worker::builder(client, &place.queue)
            .prefix(&place.prefix)
            .skip_stalled_check()
            // Nothing must happen before the listener is ready.
            .paused();
        for (name, value) in place.options.as_object().into_iter().flatten() {
            builder = match name.as_str() {
                "name" => builder.name(text(value)?),
                "concurrency" => builder.concurrency(usize::try_from(number(value)?)?),
                "lockDuration" => builder.lock_duration(millis(value)?),
                "limiter" => builder.rate_limit(JobRateLimit::new(
                    u32::try_from(number(&value["max"])?)?,
                    millis(&value["duration"])?,
                )),
                "metrics" => builder.metrics(u32::try_from(number(&value["maxDataPoints"])?)?),
                "removeOnComplete" => builder.remove_on_complete(retention(value)?),
                "removeOnFail" => builder.remove_on_fail(retention(value)?),
                "maxStartedAttempts" => {
                    builder.max_started_attempts(u32::try_from(number(value)?)?)
                }
                _ => return Err(format!("no such worker option: {name}").into()),
            };
        }
        let state = Arc::clone(&handlers);
        let worker = builder
            .start(move |job: Job<Value>, _: Context| {
                let handlers = Arc::clone(&state);
                async move { handlers.run(&job).await }
            })
            .await?;
        let listener = tokio::spawn(listen(worker.events(), Arc::clone(&handlers)));
        worker.resume().await?;
        Ok(Arc::new(Self {
            handlers,
            worker: OnceCell::new_with(Some((worker, listener))),
        }))
    }

    pub(super) async fn reached(&self, gate: &str) -> TestResult<Value> {
        self.handlers.gate(gate).reached.acquire().await?.forget();
        Ok(Value::Null)
    }

    pub(super) fn open(&self, gate: &str) {
        self.handlers.gate(gate).open.add_permits(1);
    }

    pub(super) fn is_limited(&self) -> bool {
        self.handlers.limited.load(Ordering::SeqCst)
    }

    pub(super) async fn end(&self) -> TestResult<Value> {
        if let Some((worker, _)) = self.worker.get() {
            worker.close().await;
        }
        // The listener has everything once the worker has emitted its last event.
        self.handlers
            .gate("closed")
            .reached
            .acquire()
            .await?
            .forget();
        let seen = self.handlers.seen.lock().unwrap().clone();
        let emitted = self.handlers.emitted.lock().unwrap().clone();
        Ok(json!({ "seen": seen, "emitted": emitted }))
    }
}

impl Drop for ScriptedWorker {
    fn drop(&mut self) {
        if let Some((_, listener)) = self.worker.get() {
            listener.abort();
        }
    }
}

impl Handlers {
    fn gate(&self, name: &str) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap();
        let gate = gates.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Gate {
                reached: Semaphore::new(0),
                open: Semaphore::new(0),
            })
        });
        Arc::clone(gate)
    }

    async fn run(&self, job: &Job<Value>) -> JobResult<Value> {
        let record = started(job.record()).map_err(|error| JobError::fatal(error.to_string()))?;
        self.seen.lock().unwrap().push(record);
        let run = {
            let mut runs = self.runs.lock().unwrap();
            let run = runs.entry(job.id().as_str().to_owned()).or_default();
            *run += 1;
            *run - 1
        };
        let steps = self.script[job.id().as_str()][run].as_array();
        for step in steps.into_iter().flatten() {
            if let Some(end) = self.step(job, step).await? {
                return Ok(end);
            }
        }
        Ok(Outcome::Done(json!({ "ok": job.id().as_str() })))
    }

    /// Takes one step of a run; answers how the run ends if it does.
    async fn step(
        &self,
        job: &Job<Value>,
        step: &Value,
    ) -> Result<Option<Outcome<Value>>, JobError> {
        let bad = |what: &str| JobError::fatal(format!("{what}: {step}"));
        let argument = &step[1];
        let words = || argument.as_str().unwrap_or_default().to_owned();
        let wait = || Duration::from_millis(argument.as_u64().unwrap_or_default());
        Ok(match step[0].as_str().unwrap_or_default() {
            "return" => Some(Outcome::Done(argument.clone())),
            "fail" => return Err(JobError::retry(words())),
            "fatal" => return Err(JobError::fatal(words())),
            "panic" => panic!("{}", words()),
            "delay" => {
                let at = self.client.clock().now().as_millis() + argument.as_i64().unwrap_or(0);
                Some(Outcome::DelayUntil(Timestamp::from_millis(at)))
            }
            "release" => Some(Outcome::Release),
            "children" => Some(Outcome::WaitForChildren),
            "rateLimit" => {
                self.limited.store(true, Ordering::SeqCst);
                Some(Outcome::RateLimited(wait()))
            }
            "child" => {
                let id = words();
                let mut opts = step[2].clone();
                opts["jobId"] = json!(id);
                opts["parent"] = json!({ "id": job.id().as_str(), "queue": self.parent });
                let mut options = options(&opts).map_err(|error| bad(&error.to_string()))?;
                let policy = options.parent.take().map(|parent| parent.on_failure);
                let (queue, data) = (&self.queue, json!({ "n": id }));
                job.add_child(queue, policy.unwrap_or_default(), &id, &data, options)
                    .await?;
                None
            }
            "values" => {
                let values = job.children_values::<Value>().await?.into_map()?;
                Some(Outcome::Done(json!(values)))
            }
            "ignored" => Some(Outcome::Done(json!(job.ignored_failures().await?))),
            "drop" => {
                job.remove_unprocessed_children().await?;
                None
            }
            "progress" => {
                job.update_progress(argument).await?;
                None
            }
            "log" => {
                job.log(words()).await?;
                None
            }
            "data" => {
                job.update_data(argument).await?;
                None
            }
            "gate" => {
                let gate = self.gate(&words());
                gate.reached.add_permits(1);
                // It stays open.
                drop(gate.open.acquire().await?);
                None
            }
            _ => return Err(bad("no such step")),
        })
    }
}

/// Records the events of the worker that BullMQ emits too.
async fn listen(mut events: WorkerEvents, handlers: Arc<Handlers>) {
    let text = |id: &JobId| id.as_str().to_owned();
    while let Some(event) = events.next().await {
        let emitted = match event {
            WorkerEvent::Active { id, .. } => json!(["active", text(&id)]),
            WorkerEvent::Completed { id, result, .. } => {
                let result: Value = serde_json::from_str(&result).unwrap_or_default();
                json!(["completed", text(&id), result])
            }
            WorkerEvent::Failed { id, reason, .. } => json!(["failed", text(&id), &*reason]),
            WorkerEvent::Drained => {
                handlers.gate("drained").reached.add_permits(1);
                json!(["drained"])
            }
            WorkerEvent::Closed => break,
            _ => continue,
        };
        handlers.emitted.lock().unwrap().push(emitted);
    }
    handlers.gate("closed").reached.add_permits(1);
}
