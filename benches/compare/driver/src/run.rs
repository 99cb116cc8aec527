//! The workloads, for contestants written in Rust: what each does, said once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::{
    Failure, Kind, Payload, Report, Tally, Task, Unsupported, Window, Workload, all_in_flight,
    now_us, paced,
};

/// A job to be added in bulk.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Its data.
    pub data: Payload,
    /// Its priority; zero means none.
    pub priority: u32,
    /// How long it is delayed.
    pub delay: Option<Duration>,
    /// How often it is tried.
    pub attempts: u32,
}

/// A job queue, as the workloads need it. All of it is on queues named by [`Task::queues`].
pub trait Contestant: Sized {
    /// Connects, and opens the queues.
    fn open(task: &Task) -> impl Future<Output = Result<Self, Failure>>;

    /// Adds a job to the queue of that index.
    fn add(&self, queue: usize, data: &Payload) -> impl Future<Output = Result<(), Failure>>;

    /// Adds jobs to the first queue in one call.
    fn add_bulk(
        &self,
        jobs: impl ExactSizeIterator<Item = NewJob> + Send,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Adds a flow to the first queue.
    fn add_flow(
        &self,
        data: &Payload,
        children: usize,
    ) -> impl Future<Output = Result<(), Failure>>;

    /// Starts a worker on each queue, as the workload says; it runs until the process ends.
    fn work(&self, task: &Task, tally: &Arc<Tally>) -> impl Future<Output = Result<(), Failure>>;

    /// Starts a listener for the events of each queue; it has begun to listen when this returns.
    fn listen(&self, task: &Task, tally: &Arc<Tally>) -> impl Future<Output = Result<(), Failure>>;

    /// How many jobs of all queues completed, as Redis has it.
    fn completed(&self) -> impl Future<Output = Result<u64, Failure>>;
}

/// The most jobs of a bulk call that fills a queue before the measured window.
const FILL: usize = 1000;

/// Fills the queue, or runs the workload.
pub async fn run<C: Contestant>(task: Task) -> Result<Report, Failure> {
    let queue = C::open(&task).await?;
    if task.fill {
        fill(&queue, &task).await?;
        return Ok(Report::default());
    }
    measure(&queue, &task).await
}

async fn fill<C: Contestant>(queue: &C, task: &Task) -> Result<(), Failure> {
    let data = Payload::new(task.workload.bytes(), task.seed).now();
    let mut added = 0;
    while added < task.jobs {
        let batch = FILL.min(task.jobs - added);
        let jobs = (added..added + batch).map(|index| new_job(&task.workload, index, data.clone()));
        queue.add_bulk(jobs).await?;
        added += batch;
    }
    Ok(())
}

fn new_job(workload: &Workload, index: usize, data: Payload) -> NewJob {
    let turn = u32::try_from(index).unwrap_or(u32::MAX);
    NewJob {
        data,
        priority: turn.checked_rem(workload.priorities).map_or(0, |it| it + 1),
        delay: None,
        attempts: workload.fails + 1,
    }
}

async fn measure<C: Contestant>(queue: &C, task: &Task) -> Result<Report, Failure> {
    let workload = &task.workload;
    let data = Payload::new(workload.bytes(), task.seed);
    let queues = workload.queues.max(1);
    let add = |index: usize| {
        let data = data.now();
        async move { queue.add(index % queues, &data).await }
    };
    let expected = match workload.kind {
        Kind::Flows => task.jobs * (workload.children + 1),
        _ => task.jobs,
    };
    let tally = Arc::new(Tally::new(expected, workload));
    let report = match workload.kind {
        Kind::Add => {
            let window = Window::open()?;
            all_in_flight(task.jobs, workload.in_flight, add).await?;
            window.close(task.jobs)?
        }
        Kind::Bulk => {
            let window = Window::open()?;
            let mut added = 0;
            while added < task.jobs {
                let batch = workload.batch.min(task.jobs - added);
                let jobs = (0..batch).map(|index| new_job(workload, index, data.clone()));
                queue.add_bulk(jobs).await?;
                added += batch;
            }
            window.close(task.jobs)?
        }
        Kind::Process => {
            let window = Window::open()?;
            queue.work(task, &tally).await?;
            tally.handled.wait().await;
            all_completed(queue, expected).await?;
            window.close(expected)?
        }
        Kind::Ramp => {
            let window = Window::open()?;
            queue.work(task, &tally).await?;
            tally.handled.wait().await;
            window.close(expected)?
        }
        Kind::Backlog => {
            let window = Window::open()?;
            all_in_flight(task.jobs, workload.in_flight, add).await?;
            queue.work(task, &tally).await?;
            tally.handled.wait().await;
            window.close(expected)?
        }
        Kind::Load | Kind::Through | Kind::Flows => {
            queue.work(task, &tally).await?;
            if workload.listen {
                queue.listen(task, &tally).await?;
            }
            // A worker that is waiting for its first job when the window begins.
            sleep(Duration::from_millis(300)).await;
            let window = Window::open()?;
            match workload.kind {
                Kind::Load => paced(task.jobs, task.rate, add).await?,
                Kind::Through => {
                    let (tally, add) = (&tally, &add);
                    let add = |index| async move {
                        tally.has_room().await?;
                        add(index).await
                    };
                    all_in_flight(task.jobs, workload.in_flight, add).await?;
                }
                _ => {
                    let flow = |_| queue.add_flow(&data, workload.children);
                    all_in_flight(task.jobs, workload.in_flight, flow).await?;
                }
            }
            tally.handled.wait().await;
            all_completed(queue, expected).await?;
            if workload.listen {
                tally.heard.wait().await;
            }
            window.close(expected)?
        }
        Kind::Delayed => delayed(queue, task, &tally).await?,
    };
    let mut report = report;
    tally.report(&mut report);
    Ok(report)
}

/// Adds jobs that fall due at a fixed rate, and opens the window when the first is about to.
async fn delayed<C: Contestant>(
    queue: &C,
    task: &Task,
    tally: &Arc<Tally>,
) -> Result<Report, Failure> {
    /// Enough for all contestants to add the jobs of the workload.
    const AHEAD_US: u64 = 8_000_000;
    let workload = &task.workload;
    let data = Payload::new(workload.bytes(), task.seed);
    let first = now_us() + AHEAD_US.min(1_000_000 + 250 * task.jobs as u64);
    let due =
        |index: usize| first + index as u64 * 1_000_000 / u64::from(workload.per_second.max(1));
    let mut added = 0;
    while added < task.jobs {
        let batch = FILL.min(task.jobs - added);
        let jobs = (added..added + batch).map(|index| NewJob {
            delay: Some(Duration::from_millis(
                due(index).saturating_sub(now_us()) / 1000,
            )),
            ..new_job(workload, index, data.at(due(index)))
        });
        queue.add_bulk(jobs).await?;
        added += batch;
    }
    if now_us() > first {
        return Err("the jobs fell due before all were added".into());
    }
    queue.work(task, tally).await?;
    let ahead = first.saturating_sub(now_us()).saturating_sub(20_000);
    sleep(Duration::from_micros(ahead)).await;
    if tally.is_early() {
        return Err(Unsupported("jobs start before they are due").into());
    }
    let window = Window::open()?;
    tally.handled.wait().await;
    all_completed(queue, task.jobs).await?;
    window.close(task.jobs)
}

/// The last results count too.
async fn all_completed<C: Contestant>(queue: &C, jobs: usize) -> Result<(), Failure> {
    while queue.completed().await? < jobs as u64 {
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}
