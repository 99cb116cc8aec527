//! The steps as this library takes them, through its public API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use oxbull::{
    Added, Client, DrainScope, Error, JobError, JobId, JobRateLimit, JobRecord, ManualWorker,
    NewJob, Outcome, Queue, QueuePosition, Recurrence, Refusal, RetryOptions, SchedulerOrder,
    SchedulerRecord, Timestamp,
};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::step::{End, Implementation, Place, Step, locked, refused};
use options::{millis, number, options, retention, schedule, text};
use working::ScriptedWorker;

mod flows;
mod limits;
mod options;
mod parents;
mod reading;
mod working;

/// The interval of the stalled checks, BullMQ's default.
const STALLED_INTERVAL: Duration = Duration::from_secs(30);

/// This library.
pub(crate) struct Ox {
    client: Client,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    queues: BTreeMap<(String, String), Queue>,
    /// The record of a started job and the worker that started it, by prefix, queue and id.
    held: BTreeMap<(String, String, String), (JobRecord, String)>,
    /// The real worker of a place.
    workers: BTreeMap<(String, String), Arc<ScriptedWorker>>,
}

impl Ox {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            open: Mutex::default(),
        }
    }

    async fn queue(&self, place: &Place) -> TestResult<Queue> {
        let key = (place.prefix.clone(), place.queue.clone());
        if let Some(queue) = self.open.lock().unwrap().queues.get(&key) {
            return Ok(queue.clone());
        }
        let queue: Queue = Queue::builder(&self.client, &place.queue)
            .prefix(&place.prefix)
            .open()
            .await?;
        self.open.lock().unwrap().queues.insert(key, queue.clone());
        Ok(queue)
    }

    fn worker(&self, place: &Place) -> TestResult<ManualWorker> {
        let mut worker = ManualWorker::with_prefix(&self.client, &place.prefix, &place.queue)?;
        for (name, value) in place.options.as_object().into_iter().flatten() {
            worker = match name.as_str() {
                "name" => worker.name(text(value)?),
                "lockDuration" => worker.lock_duration(millis(value)?),
                "limiter" => worker.rate_limit(JobRateLimit::new(
                    u32::try_from(number(&value["max"])?)?,
                    millis(&value["duration"])?,
                )),
                "metrics" => worker.metrics(u32::try_from(number(&value["maxDataPoints"])?)?),
                "removeOnComplete" => worker.remove_on_complete(retention(value)?),
                "removeOnFail" => worker.remove_on_fail(retention(value)?),
                "maxStartedAttempts" => worker.max_started_attempts(u32::try_from(number(value)?)?),
                _ => return Err(format!("no such worker option: {name}").into()),
            };
        }
        Ok(worker)
    }

    fn scripted_worker(&self, place: &Place) -> TestResult<Arc<ScriptedWorker>> {
        let key = (place.prefix.clone(), place.queue.clone());
        let worker = self.open.lock().unwrap().workers.get(&key).cloned();
        worker.ok_or_else(|| "no worker runs here".into())
    }

    fn hold(&self, place: &Place, job: Option<JobRecord>) -> TestResult<Value> {
        let Some(record) = job else {
            return Ok(Value::Null);
        };
        let started = started(&record)?;
        let key = key(place, record.id.as_str());
        let held = (record, place.worker.clone());
        self.open.lock().unwrap().held.insert(key, held);
        Ok(started)
    }

    async fn end(
        &self,
        place: &Place,
        (id, token): (&str, &str),
        end: &End,
        fetch_next: bool,
    ) -> TestResult<Value> {
        let held = self.open.lock().unwrap().held.remove(&key(place, id));
        let id = JobId::existing(id);
        let queue = self.queue(place).await?;
        let record = match &held {
            Some((record, _)) => record.clone(),
            // Another side started it.
            None => match queue.job(&id).await? {
                Some(record) => record,
                None => return Ok(refused(-1)),
            },
        };
        let result = match end {
            End::Complete(value) => Ok(Outcome::Done(value.clone())),
            End::Fail { message, fatal } if *fatal => Err(JobError::fatal(message.as_str())),
            End::Fail { message, .. } => Err(JobError::retry(message.as_str())),
            End::DelayUntil(at) => Ok(Outcome::DelayUntil(Timestamp::from_millis(*at))),
            End::Release => Ok(Outcome::Release),
            End::WaitForChildren => Ok(Outcome::WaitForChildren),
            End::RateLimited(wait) => Ok(Outcome::RateLimited(Duration::from_millis(*wait))),
        };
        let worker = self.worker(place)?;
        let ended = if fetch_next {
            worker.finish_and_fetch(&record, token, result).await
        } else {
            worker.finish(&record, token, result).await.map(|()| None)
        };
        match ended {
            Ok(next) => self.hold(place, next),
            Err(error) => {
                if let Some(held) = held {
                    // The job is still this worker's to end.
                    let key = key(place, id.as_str());
                    self.open.lock().unwrap().held.insert(key, held);
                }
                declined(error)
            }
        }
    }

    async fn take(&self, place: &Place, step: &Step) -> TestResult<Value> {
        let queue = self.queue(place).await?;
        match step {
            Step::Add { name, data, opts } => {
                answer(queue.add_with(name, data, options(opts)?).await, |added| {
                    added_id(&added)
                })
            }
            Step::AddBulk(jobs) => {
                let jobs = jobs
                    .iter()
                    .map(|(name, data, opts)| {
                        Ok(NewJob::new(name, data.clone()).options(options(opts)?))
                    })
                    .collect::<TestResult<Vec<_>>>()?;
                let added = queue.add_bulk(jobs).await?;
                added
                    .into_iter()
                    .map(|added| answer(added, |added| added_id(&added)))
                    .collect()
            }
            Step::AddFlow { flow, defaults } => {
                flows::add(&self.client, place, flow, defaults).await
            }
            Step::AddFlows(flows) => flows::add_many(&self.client, place, flows).await,
            Step::Fetch { token } => {
                let job = self.worker(place)?.fetch(token).await?;
                self.hold(place, job)
            }
            Step::End {
                id,
                token,
                end,
                fetch_next,
            } => self.end(place, (id, token), end, *fetch_next).await,
            Step::ExtendLock { id, token, millis } => {
                let kept = self
                    .worker(place)?
                    .extend_lock(&job_id(id), token, Duration::from_millis(*millis))
                    .await?;
                Ok(json!({ "kept": kept }))
            }
            Step::CheckStalled { tolerated } => {
                let worker = self.worker(place)?;
                let ids = worker.check_stalled(STALLED_INTERVAL, *tolerated).await?;
                Ok(ids.iter().map(JobId::as_str).collect())
            }
            Step::Publish {
                event,
                fields,
                keep,
            } => done(
                queue
                    .publish_event_keeping(event, fields, *keep)
                    .await
                    .map(drop),
            ),
            Step::TrimEvents { keep } => answer(queue.trim_events(*keep).await, Value::from),
            Step::Pause => done(queue.pause().await),
            Step::Resume => done(queue.resume().await),
            Step::Drain { delayed } => {
                let scope = if *delayed {
                    DrainScope::ReadyAndDelayed
                } else {
                    DrainScope::Ready
                };
                done(queue.drain(scope).run().await.map(drop))
            }
            Step::Many(many) => many.by_ox(&queue).await,
            Step::Remove { id, children } if *children => {
                done(queue.remove(&job_id(id)).await.map(drop))
            }
            Step::Remove { id, .. } => done(queue.remove_only(&job_id(id)).await.map(drop)),
            Step::UpdateData { id, data } => done(queue.update_data(&job_id(id), data).await),
            Step::UpdateProgress { id, progress } => {
                done(queue.update_progress(&job_id(id), progress).await)
            }
            Step::Log { id, row, keep } => {
                answer(queue.log(&job_id(id), row, *keep).await, Value::from)
            }
            Step::Retry {
                id,
                completed,
                reset_made,
                reset_started,
            } => {
                let mut options = RetryOptions::new();
                if *reset_made {
                    options = options.reset_attempts_made();
                }
                if *reset_started {
                    options = options.reset_attempts_started();
                }
                done(if *completed {
                    queue.rerun(&job_id(id), options).await
                } else {
                    queue.retry(&job_id(id), options).await
                })
            }
            Step::Promote { id } => done(queue.promote(&job_id(id)).await),
            Step::ChangeDelay { id, millis } => {
                let delay = Duration::from_millis(*millis);
                done(queue.change_delay(&job_id(id), delay).await)
            }
            Step::ChangePriority { id, priority, lifo } => {
                let position = if *lifo {
                    QueuePosition::Front
                } else {
                    QueuePosition::Back
                };
                done(
                    queue
                        .change_priority(&job_id(id), *priority, position)
                        .await,
                )
            }
            Step::DeduplicationOwner { id } => {
                let owner = queue.deduplication_owner(id).await?;
                Ok(owner.map_or(Value::Null, |owner| owner.job.as_str().into()))
            }
            Step::ReleaseDeduplication { id, owner } => {
                let released = match owner {
                    Some(owner) => queue.release_deduplication_of(&job_id(owner), id).await?,
                    None => queue.release_deduplication(id).await?,
                };
                Ok(released.into())
            }
            Step::State { id } => {
                let state = queue.state(&job_id(id)).await?;
                Ok(state.map_or("unknown", |state| state.as_str()).into())
            }
            Step::Limit(step) => limits::limit(&queue, *step).await,
            Step::Flow(step) => parents::flow(&queue, step).await,
            Step::Read(read) => reading::read(&queue, read).await,
            Step::UpsertScheduler {
                id,
                repeat,
                template,
            } => {
                let opts = options(&template["opts"])?;
                let job = NewJob::new(template["name"].as_str().unwrap_or(id), {
                    let data = template["data"].clone();
                    if data.is_null() { json!({}) } else { data }
                })
                .options(opts);
                let upserted = queue.upsert_scheduler(id, &schedule(repeat)?, job).await;
                answer(upserted, |made| {
                    made.map_or(Value::Null, |made| made.id.as_str().into())
                })
            }
            Step::RemoveScheduler { id } => answer(queue.remove_scheduler(id).await, Value::from),
            Step::GetScheduler { id } => {
                let found = queue.scheduler(id).await?;
                Ok(found.as_ref().map_or(Value::Null, scheduler))
            }
            Step::ListSchedulers { start, end, asc } => {
                let order = if *asc {
                    SchedulerOrder::SoonestFirst
                } else {
                    SchedulerOrder::LatestFirst
                };
                let listed = queue.schedulers(*start, *end, order).await?;
                Ok(listed.iter().map(scheduler).collect())
            }
            Step::CountSchedulers => Ok(queue.scheduler_count().await?.into()),
            Step::StartWork { script } => {
                let worker =
                    ScriptedWorker::start(&self.client, queue, place, script.clone()).await?;
                let key = (place.prefix.clone(), place.queue.clone());
                self.open.lock().unwrap().workers.insert(key, worker);
                Ok(Value::Null)
            }
            Step::Reach { gate } => self.scripted_worker(place)?.reached(gate).await,
            Step::OpenGate { gate } => {
                self.scripted_worker(place)?.open(gate);
                Ok(Value::Null)
            }
            Step::IsLimited => Ok(self.scripted_worker(place)?.is_limited().into()),
            Step::EndWork => {
                let worker = self.scripted_worker(place)?;
                let key = (place.prefix.clone(), place.queue.clone());
                self.open.lock().unwrap().workers.remove(&key);
                worker.end().await
            }
        }
    }
}

impl Implementation for Ox {
    fn open<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, TestResult> {
        Box::pin(async move { self.queue(place).await.map(drop) })
    }

    fn take<'a>(&'a self, place: &'a Place, step: &'a Step) -> BoxFuture<'a, TestResult<Value>> {
        Box::pin(self.take(place, step))
    }

    fn holds(&self, place: &Place, id: &str) -> bool {
        let open = self.open.lock().unwrap();
        open.held
            .get(&key(place, id))
            .is_some_and(|(_, worker)| *worker == place.worker)
    }

    fn forget(&self, place: &Place, id: &str) {
        self.open.lock().unwrap().held.remove(&key(place, id));
    }

    fn close(&self) -> BoxFuture<'_, TestResult> {
        Box::pin(async {
            *self.open.lock().unwrap() = Open::default();
            Ok(())
        })
    }
}

/// What both sides say about a job that has become active.
fn started(record: &JobRecord) -> TestResult<Value> {
    Ok(json!({
        "id": record.id.as_str(), "name": record.name, "data": record.data::<Value>()?,
        "made": record.attempts_made, "started": record.attempts_started,
        "processedOn": record.processed_on.map(Timestamp::as_millis),
        "deferred": record.deferred_failure,
        // BullMQ's readers know no empty reason.
        "reason": record.failed_reason.as_ref().filter(|reason| !reason.is_empty()),
    }))
}

fn key(place: &Place, id: &str) -> (String, String, String) {
    (place.prefix.clone(), place.queue.clone(), id.to_owned())
}

fn job_id(id: &str) -> JobId {
    JobId::existing(id)
}

fn added_id(added: &Added) -> Value {
    added.id.as_str().into()
}

fn answer<T>(result: oxbull::Result<T>, say: impl FnOnce(T) -> Value) -> TestResult<Value> {
    match result {
        Ok(value) => Ok(say(value)),
        Err(error) => declined(error),
    }
}

fn done(result: oxbull::Result<()>) -> TestResult<Value> {
    answer(result, |()| Value::Null)
}

/// Turns a refusal into its code; other errors end the scenario.
fn declined(error: Error) -> TestResult<Value> {
    // A limit that was imposed before the refusal holds, as it does with BullMQ.
    let error = match error {
        Error::Incomplete { source, .. } => *source,
        error => error,
    };
    let Error::Refused { source, .. } = &error else {
        return Err(error.into());
    };
    Ok(match source {
        Refusal::Locked => locked(),
        Refusal::JobMissing => refused(-1),
        Refusal::LockMissing => refused(-2),
        Refusal::WrongState { .. } => refused(-3),
        Refusal::PendingDependencies => refused(-4),
        Refusal::ParentMissing => refused(-5),
        Refusal::LockLost => refused(-6),
        Refusal::ParentConflict => refused(-7),
        Refusal::SchedulerOwned => refused(-8),
        Refusal::FailedChildren => refused(-9),
        Refusal::IterationExists => refused(-10),
        Refusal::OccurrencesTaken => refused(-11),
        _ => return Err(error.into()),
    })
}

/// Shows a scheduler as BullMQ's getters do.
fn scheduler(record: &SchedulerRecord) -> Value {
    let mut shown = json!({
        "key": record.id, "name": record.name, "next": record.next.as_millis(),
    });
    let mut put = |name: &str, value: Value| shown[name] = value;
    match &record.recurrence {
        Some(Recurrence::Every(every)) => put("every", json!(every.as_millis())),
        Some(Recurrence::Cron(pattern)) => put("pattern", json!(pattern)),
        _ => {}
    }
    if let Some(iterations) = record.iterations {
        put("iterationCount", json!(iterations));
    }
    if let Some(zone) = &record.time_zone {
        put("tz", json!(zone));
    }
    if let Some(limit) = record.limit {
        put("limit", json!(limit));
    }
    if let Some(start) = record.start {
        put("startDate", json!(start.as_millis()));
    }
    if let Some(end) = record.end {
        put("endDate", json!(end.as_millis()));
    }
    if let Some(offset) = record.offset {
        put("offset", json!(offset.as_millis()));
    }
    if record.raw_data.is_some() {
        put(
            "template",
            json!({ "data": record.data::<Value>().unwrap_or_default() }),
        );
    }
    shown
}
