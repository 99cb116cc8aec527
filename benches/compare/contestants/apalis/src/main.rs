//! The crates `apalis` and `apalis-redis` in the comparison, as their READMEs use them: storages on one
//! connection; a worker with `concurrency` and `parallelize`; batches as large as there are slots, which is
//! what the setting is for. The storage of its factory, which publish/subscribe is to wake, does not learn of
//! pushed jobs before its heartbeat: the worker polls, every 10 ms, and its heart beats every second, since
//! some jobs are found only then.

use std::sync::Arc;
use std::time::Duration;

use apalis::layers::retry::RetryPolicy;
use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use compare_driver::{
    Contestant, Failure, Kind, NewJob, Payload, Tally, Task as Order, Unsupported, drive, run,
};
use futures::stream;
use redis::aio::ConnectionManager;

type Storage = RedisStorage<Payload>;

/// How often an idle worker looks for jobs.
const POLL: Duration = Duration::from_millis(10);

/// How often a worker says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(1);

struct Apalis {
    connection: ConnectionManager,
    configs: Vec<Config>,
    storages: Vec<Storage>,
}

async fn handle(
    job: Payload,
    tally: Data<Arc<Tally>>,
    attempt: Attempt,
) -> Result<(), BoxDynError> {
    let failed = u32::try_from(attempt.current().saturating_sub(1))?;
    // Its events do not name jobs: there is nothing to find by an id.
    if tally.handle("", job.at, failed).await {
        return Ok(());
    }
    Err("as the workload says".into())
}

impl Contestant for Apalis {
    async fn open(task: &Order) -> Result<Self, Failure> {
        let workload = &task.workload;
        if workload.kind == Kind::Flows {
            return Err(Unsupported("no parents that wait for children").into());
        }
        if workload.priorities > 0 {
            return Err(Unsupported("its Redis backend has no priorities").into());
        }
        if workload.listen {
            return Err(Unsupported("no listener for the events of jobs").into());
        }
        let connection = apalis_redis::connect(task.url.as_str()).await?;
        let mut storages = Vec::new();
        let mut configs = Vec::new();
        for name in task.queues() {
            let config = Config::default()
                .queue(name)
                .heartbeat_interval(HEARTBEAT)
                .batch_size(workload.concurrency.max(10));
            configs.push(config.clone());
            storages.push(RedisStorage::new(connection.clone()).with_config(config));
        }
        Ok(Self {
            connection,
            configs,
            storages,
        })
    }

    async fn add(&self, queue: usize, data: &Payload) -> Result<(), Failure> {
        let storage = self.storages.get(queue).ok_or("no such queue")?;
        storage.clone().push(data.clone()).await?;
        Ok(())
    }

    async fn add_bulk(
        &self,
        jobs: impl ExactSizeIterator<Item = NewJob> + Send,
    ) -> Result<(), Failure> {
        let tasks = jobs.map(|job| {
            let mut task = TaskBuilder::new(job.data);
            if let Some(delay) = job.delay {
                task = task.run_after(delay);
            }
            task.build()
        });
        let storage = self.storages.first().ok_or("no queue")?;
        storage.clone().push_all(stream::iter(tasks)).await?;
        Ok(())
    }

    async fn add_flow(&self, _: &Payload, _: usize) -> Result<(), Failure> {
        Err(Unsupported("no parents that wait for children").into())
    }

    async fn work(&self, task: &Order, tally: &Arc<Tally>) -> Result<(), Failure> {
        let workload = &task.workload;
        for (index, storage) in self.storages.iter().enumerate() {
            let builder = WorkerBuilder::new(format!("worker-{index}"))
                .backend(storage.clone().poll_with_interval(POLL))
                .concurrency(workload.concurrency)
                .data(Arc::clone(tally));
            if workload.limit > 0 {
                let window = Duration::from_millis(workload.limit_ms);
                let builder = builder.rate_limit(workload.limit.into(), window);
                tokio::spawn(builder.parallelize(tokio::spawn).build(handle).run());
            } else if workload.fails > 0 {
                let retries = RetryPolicy::retries(workload.fails as usize);
                let builder = builder.retry(retries).parallelize(tokio::spawn);
                tokio::spawn(builder.build(handle).run());
            } else {
                tokio::spawn(builder.parallelize(tokio::spawn).build(handle).run());
            }
        }
        Ok(())
    }

    async fn listen(&self, _: &Order, _: &Arc<Tally>) -> Result<(), Failure> {
        Err(Unsupported("no listener for the events of jobs").into())
    }

    async fn completed(&self) -> Result<u64, Failure> {
        let mut completed = 0;
        for config in &self.configs {
            let mut connection = self.connection.clone();
            let done: u64 = redis::cmd("SCARD")
                .arg(config.done_jobs_set())
                .query_async(&mut connection)
                .await?;
            completed += done;
        }
        Ok(completed)
    }
}

fn main() -> Result<(), Failure> {
    drive(run::<Apalis>)
}
