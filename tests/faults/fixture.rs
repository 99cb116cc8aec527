//! A queue on a server of its own, with a handler that leaves a record of what it did.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxbull::{
    Client, Context, Job, JobId, JobOptions, JobResult, NewJob, Outcome, ShutdownOptions, Worker,
    WorkerBuilder, WorkerEvent, WorkerEvents,
};
use oxbull_fixture::FixtureBuilder;
use oxbull_testkit::{DEADLINE, RedisServer, TestResult, eventually, unique};
use serde::{Deserialize, Serialize};

use crate::logs;

/// The lock duration of the tests' workers, unless they say otherwise.
pub(crate) const LOCK: Duration = Duration::from_secs(2);

/// What a job asks of its handler.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Work {
    /// How long to work, in milliseconds.
    pub(crate) ms: u64,
}

/// One thing a handler did.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) id: String,
    /// Which activation of the job it was.
    pub(crate) start: u32,
    /// Whether the handler came to its end.
    pub(crate) end: bool,
}

/// What all handlers of a queue did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effects(Arc<Mutex<Vec<Effect>>>);

impl Effects {
    pub(crate) fn note(&self, id: &str, start: u32, end: bool) {
        let effect = Effect {
            id: id.to_owned(),
            start,
            end,
        };
        self.list().push(effect);
    }

    pub(crate) fn begin<D>(&self, job: &Job<D>) {
        self.note(job.id().as_str(), job.attempts_started(), false);
    }

    pub(crate) fn end<D>(&self, job: &Job<D>) {
        self.note(job.id().as_str(), job.attempts_started(), true);
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Effect>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Activations whose handler was started more than once.
    pub(crate) fn doubled(&self) -> Vec<String> {
        let mut seen = BTreeMap::new();
        for effect in self.list().iter().filter(|effect| !effect.end) {
            *seen.entry((effect.id.clone(), effect.start)).or_insert(0) += 1;
        }
        let doubled = seen.into_iter().filter(|(_, times)| *times > 1);
        doubled.map(|((id, _), _)| id).collect()
    }

    /// How often each job's handler was started, or came to its end.
    pub(crate) fn counts(&self, end: bool) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for effect in self.list().iter().filter(|effect| effect.end == end) {
            *counts.entry(effect.id.clone()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn starts(&self) -> usize {
        self.list().iter().filter(|effect| !effect.end).count()
    }

    pub(crate) fn ends(&self) -> usize {
        self.list().iter().filter(|effect| effect.end).count()
    }
}

/// The handler of most tests: works as long as the job says.
pub(crate) async fn work(job: Job<Work>, context: Context<Effects>) -> JobResult<u64> {
    context.state().begin(&job);
    tokio::time::sleep(Duration::from_millis(job.data().ms)).await;
    context.state().end(&job);
    Ok(Outcome::Done(job.data().ms))
}

/// A queue and what its handlers did.
pub(crate) struct Fixture {
    base: oxbull_fixture::Fixture<Work>,
    pub(crate) effects: Effects,
}

impl Deref for Fixture {
    type Target = oxbull_fixture::Fixture<Work>;

    fn deref(&self) -> &Self::Target {
        &self.base
    }
}

/// Counts the members of two lists and two sorted sets.
const COUNT_LEFT: &str = "return redis.call('LLEN', KEYS[1]) + redis.call('LLEN', KEYS[2]) \
    + redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4])";

/// Describes a fixture.
pub(crate) fn builder() -> FixtureBuilder {
    oxbull_fixture::Fixture::builder()
}

impl Fixture {
    /// A queue on a plain server.
    pub(crate) async fn start() -> TestResult<Self> {
        Self::of(builder()).await
    }

    /// A queue behind a proxy.
    pub(crate) async fn proxied() -> TestResult<Self> {
        Self::of(builder().proxied()).await
    }

    /// A queue on a server that loses nothing that it acknowledged.
    pub(crate) async fn durable() -> TestResult<Self> {
        Self::of(builder().server(RedisServer::builder().durable())).await
    }

    /// A queue on another server than the plain one, perhaps behind a proxy.
    pub(crate) async fn of(builder: FixtureBuilder) -> TestResult<Self> {
        logs::record();
        Ok(Self {
            // The queue's name tells its log lines from those of other tests.
            base: builder.name(unique("fault")).start().await?,
            effects: Effects::default(),
        })
    }

    /// A worker with short locks that notices dead fellows soon.
    pub(crate) fn worker<D>(&self) -> WorkerBuilder<Effects, D> {
        self.worker_of(&self.client)
    }

    /// [`worker`](Self::worker) with a client of its own, as another process would have.
    pub(crate) fn worker_of<D>(&self, client: &Client) -> WorkerBuilder<Effects, D> {
        Worker::builder(client, &self.name)
            .concurrency(10)
            .lock_duration(LOCK)
            .stalled_interval(Duration::from_millis(500))
            .shutdown(
                ShutdownOptions::new()
                    .finish_within(Duration::from_secs(10))
                    .cancel_within(Duration::from_secs(1))
                    .report_within(Duration::from_secs(2)),
            )
            .state(self.effects.clone())
    }

    /// Adds jobs that work for `ms` milliseconds each.
    pub(crate) async fn add(&self, count: usize, ms: u64) -> TestResult<Vec<JobId>> {
        self.add_with(count, ms, &JobOptions::new()).await
    }

    pub(crate) async fn add_with(
        &self,
        count: usize,
        ms: u64,
        options: &JobOptions,
    ) -> TestResult<Vec<JobId>> {
        let job = || NewJob::new("work", Work { ms }).options(options.clone());
        let added = self.queue.add_bulk((0..count).map(|_| job())).await?;
        let ids = added.into_iter().map(|added| Ok(added?.id));
        ids.collect()
    }

    /// Waits until nothing waits, runs or is delayed.
    pub(crate) async fn drained(&self) -> TestResult {
        eventually(DEADLINE, async || {
            // In one step: a job that moves meanwhile would be seen in neither place.
            let mut count = vec!["EVAL", COUNT_LEFT, "4"];
            let keys = ["wait", "active", "prioritized", "delayed"].map(|key| self.key(key));
            count.extend(keys.iter().map(String::as_str));
            let left = self
                .server
                .int(&count)
                .await
                .map_err(|error| error.to_string())?;
            if left == 0 {
                Ok(())
            } else {
                Err(format!("{left} jobs are left"))
            }
        })
        .await?;
        Ok(())
    }

    /// Waits until so many handlers have started.
    pub(crate) async fn started(&self, count: usize) -> TestResult {
        eventually(DEADLINE, async || {
            let starts = self.effects.starts();
            (starts >= count)
                .then_some(())
                .ok_or(format!("{starts} starts"))
        })
        .await?;
        Ok(())
    }
}

/// Waits for an event that `wanted` accepts.
pub(crate) async fn event(
    events: &mut WorkerEvents,
    wanted: impl Fn(&WorkerEvent) -> bool,
) -> TestResult<WorkerEvent> {
    let search = async {
        while let Some(event) = events.next().await {
            if wanted(&event) {
                return Some(event);
            }
        }
        None
    };
    match tokio::time::timeout(DEADLINE, search).await {
        Ok(Some(event)) => Ok(event),
        Ok(None) => Err("the worker ended before the event".into()),
        Err(_) => Err("no such event".into()),
    }
}
