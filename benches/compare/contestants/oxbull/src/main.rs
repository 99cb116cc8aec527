//! Oxbull in the comparison, as its README uses it: one client, default settings.

use std::sync::Arc;
use std::time::Duration;

use compare_driver::{Contestant, Failure, NewJob, Payload, Tally, Task, drive, run};
use futures::StreamExt as _;
use oxbull::{
    ChildPolicy, Client, ClientConfig, Context, FlowJob, FlowProducer, Job, JobError, JobOptions,
    JobRateLimit, JobResult, Outcome, Queue, QueueEvent, QueueEvents, Worker, WorkerEvent,
};

struct Oxbull {
    client: Client,
    names: Vec<String>,
    queues: Vec<Queue<Payload>>,
    flows: FlowProducer,
}

impl Oxbull {
    fn queue(&self, index: usize) -> Result<&Queue<Payload>, Failure> {
        self.queues.get(index).ok_or_else(|| "no such queue".into())
    }

    fn first(&self) -> Result<&String, Failure> {
        self.names.first().ok_or_else(|| "no queue".into())
    }
}

async fn handle(job: Job<Payload>, context: Context<Arc<Tally>>) -> JobResult<()> {
    let tally = context.state();
    if tally
        .handle(job.id().as_str(), job.data().at, job.attempts_made())
        .await
    {
        return Ok(Outcome::Done(()));
    }
    Err(JobError::retry("as the workload says"))
}

impl Contestant for Oxbull {
    async fn open(task: &Task) -> Result<Self, Failure> {
        let client = Client::connect(ClientConfig::from_url(&task.url)?).await?;
        let names = task.queues();
        let mut queues = Vec::new();
        for name in &names {
            queues.push(Queue::open(&client, name).await?);
        }
        let flows = FlowProducer::new(&client);
        Ok(Self {
            client,
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
            oxbull::NewJob::new("job", job.data).options(options)
        });
        self.queue(0)?.add_bulk(jobs).await?.into_result()?;
        Ok(())
    }

    async fn add_flow(&self, data: &Payload, children: usize) -> Result<(), Failure> {
        let queue = self.first()?;
        let child = || FlowJob::new(queue, "child", data);
        let flow = FlowJob::new(queue, "parent", data)
            .children(ChildPolicy::default(), (0..children).map(|_| child()));
        self.flows.add(&flow).await?;
        Ok(())
    }

    async fn work(&self, task: &Task, tally: &Arc<Tally>) -> Result<(), Failure> {
        let workload = &task.workload;
        for name in &self.names {
            let mut builder = Worker::builder::<Payload>(&self.client, name)
                .concurrency(workload.concurrency)
                .state(Arc::clone(tally));
            if workload.limit > 0 {
                let window = Duration::from_millis(workload.limit_ms);
                builder = builder.rate_limit(JobRateLimit::new(workload.limit, window));
            }
            if tally.is_timed() {
                let mut events = builder.events();
                let tally = Arc::clone(tally);
                tokio::spawn(async move {
                    while let Some(event) = events.next().await {
                        if let WorkerEvent::Completed { id, .. } = event {
                            tally.finished(id.as_str());
                        }
                    }
                });
            }
            let worker = builder.start(handle).await?;
            // It runs until the process ends.
            std::mem::forget(worker);
        }
        Ok(())
    }

    async fn listen(&self, _: &Task, tally: &Arc<Tally>) -> Result<(), Failure> {
        for name in &self.names {
            let mut events = QueueEvents::open(&self.client, name).await?;
            let tally = Arc::clone(tally);
            tokio::spawn(async move {
                while let Some(Ok(entry)) = events.next().await {
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
            completed += queue.counts().await?.completed;
        }
        Ok(completed)
    }
}

fn main() -> Result<(), Failure> {
    drive(run::<Oxbull>)
}
