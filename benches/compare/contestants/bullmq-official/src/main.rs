//! The crate `bullmq-official` in the comparison, as its README uses it: default settings.

use std::sync::Arc;
use std::time::Duration;

use bullmq::options::RedisConnectionOptions;
use bullmq::worker::{CancellationToken, WorkerEvent};
use bullmq::{
    BulkJob, Error, FlowJob, FlowProducer, FlowProducerOptions, Job, JobOptions, Queue, QueueEvent,
    QueueEvents, QueueEventsOptions, QueueOptions, RateLimiterOptions, Worker, WorkerOptions,
};
use compare_driver::{Contestant, Failure, Kind, NewJob, Payload, Tally, Task, drive, run};
use serde_json::Value;

struct Official {
    connection: RedisConnectionOptions,
    names: Vec<String>,
    queues: Vec<Queue>,
    flows: Option<FlowProducer>,
}

impl Official {
    fn queue(&self, index: usize) -> Result<&Queue, Failure> {
        self.queues.get(index).ok_or_else(|| "no such queue".into())
    }
}

async fn handle(job: Job, tally: Arc<Tally>) -> Result<Value, Error> {
    let at = job.data().get("at").and_then(Value::as_u64).unwrap_or(0);
    if tally.handle(job.id(), at, job.attempts_made()).await {
        return Ok(Value::Null);
    }
    Err(Error::InvalidConfig("as the workload says".to_owned()))
}

impl Contestant for Official {
    async fn open(task: &Task) -> Result<Self, Failure> {
        let connection = RedisConnectionOptions::new().url(&task.url);
        let names = task.queues();
        let mut queues: Vec<Queue> = Vec::new();
        for name in &names {
            let options = QueueOptions::new().connection(connection.clone());
            queues.push(match queues.first() {
                // Queues of one process share a connection.
                Some(first) => {
                    Queue::with_connection(name, first.connection().clone(), options).await?
                }
                None => Queue::with_options(name, options).await?,
            });
        }
        let flows = if task.workload.kind == Kind::Flows {
            let options = FlowProducerOptions::new().connection(connection.clone());
            Some(FlowProducer::with_options(options).await?)
        } else {
            None
        };
        Ok(Self {
            connection,
            names,
            queues,
            flows,
        })
    }

    async fn add(&self, queue: usize, data: &Payload) -> Result<(), Failure> {
        self.queue(queue)?.add("job", data).await?;
        Ok(())
    }

    async fn add_bulk(
        &self,
        jobs: impl ExactSizeIterator<Item = NewJob> + Send,
    ) -> Result<(), Failure> {
        let jobs = jobs.map(|job| {
            let mut options = JobOptions::new();
            if job.priority > 0 {
                options = options.priority(job.priority);
            }
            if let Some(delay) = job.delay {
                options = options.delay(delay);
            }
            if job.attempts > 1 {
                options = options.attempts(job.attempts);
            }
            BulkJob::with_options("job", job.data, options)
        });
        self.queue(0)?.add_bulk(jobs.collect()).await?;
        Ok(())
    }

    async fn add_flow(&self, data: &Payload, children: usize) -> Result<(), Failure> {
        let (Some(flows), Some(queue)) = (&self.flows, self.names.first()) else {
            return Err("no flow producer".into());
        };
        let children = (0..children)
            .map(|_| FlowJob::new("child", queue, data))
            .collect::<Result<_, _>>()?;
        let flow = FlowJob::new("parent", queue, data)?.children(children);
        flows.add(flow).await?;
        Ok(())
    }

    async fn work(&self, task: &Task, tally: &Arc<Tally>) -> Result<(), Failure> {
        let workload = &task.workload;
        for name in &self.names {
            let mut options = WorkerOptions::new()
                .connection(self.connection.clone())
                .concurrency(workload.concurrency);
            if workload.limit > 0 {
                let window = Duration::from_millis(workload.limit_ms);
                options = options.limiter(RateLimiterOptions::new(workload.limit.into(), window));
            }
            let handler = {
                let tally = Arc::clone(tally);
                move |job: Job, _: CancellationToken| handle(job, Arc::clone(&tally))
            };
            let worker = Worker::with_options(name, handler, options).await?;
            let tally = Arc::clone(tally);
            // It runs until the process ends.
            tokio::spawn(async move {
                if tally.is_timed() {
                    while let Some(event) = worker.next_event().await {
                        if let WorkerEvent::Completed { job_id, .. } = event {
                            tally.finished(&job_id);
                        }
                    }
                }
                std::future::pending::<()>().await;
                drop(worker);
            });
        }
        Ok(())
    }

    async fn listen(&self, _: &Task, tally: &Arc<Tally>) -> Result<(), Failure> {
        for name in &self.names {
            let options = QueueEventsOptions {
                connection: self.connection.clone(),
                ..QueueEventsOptions::default()
            };
            let events = QueueEvents::with_options(name, options).await?;
            let tally = Arc::clone(tally);
            tokio::spawn(async move {
                while let Some(entry) = events.next_event().await {
                    if let QueueEvent::Completed { .. } = entry.event {
                        tally.heard.one_less();
                    }
                }
            });
        }
        Ok(())
    }

    async fn completed(&self) -> Result<u64, Failure> {
        let mut completed = 0;
        for queue in &self.queues {
            completed += queue.get_completed_count().await?;
        }
        Ok(completed)
    }
}

fn main() -> Result<(), Failure> {
    drive(run::<Official>)
}
