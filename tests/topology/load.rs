//! A queue under load: a producer that records what was acknowledged, and a worker that records what ran.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxbull::{Client, Context, Error, Job, JobId, JobOptions, JobResult, Outcome, Queue, Worker};
use oxbull_testkit::{DEADLINE, TestResult, eventually};
use tokio_util::sync::CancellationToken;

/// How often each job was started and ended.
pub(crate) type Runs = BTreeMap<String, (usize, usize)>;

/// What the handlers of one queue did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Runs>>);

impl Seen {
    fn note(&self, id: &JobId, end: bool) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let run = runs.entry(id.to_string()).or_default();
        if end {
            run.1 += 1;
        } else {
            run.0 += 1;
        }
    }

    fn runs(&self) -> Runs {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Adds jobs until it is stopped, while a worker handles them.
pub(crate) struct Load {
    pub(crate) queue: Queue<u64>,
    worker: Worker,
    seen: Seen,
    stop: CancellationToken,
    producer: tokio::task::JoinHandle<Vec<JobId>>,
}

impl Load {
    /// Opens the queue and begins.
    pub(crate) async fn start(client: &Client, name: &str) -> TestResult<Self> {
        let queue: Queue<u64> = Queue::builder(client, name).open().await?;
        let seen = Seen::default();
        let worker = Worker::builder(client, name)
            .concurrency(20)
            .lock_duration(Duration::from_secs(20))
            .state(seen.clone())
            .start(work)
            .await?;
        let stop = CancellationToken::new();
        let (adding, stopped) = (queue.clone(), stop.clone());
        let producer = tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            while !stopped.is_cancelled() {
                match adding.add_once("work", &2, JobOptions::new()).await {
                    Ok(added) => acknowledged.push(added.id),
                    Err(Error::Closed) => break,
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            acknowledged
        });
        Ok(Self {
            queue,
            worker,
            seen,
            stop,
            producer,
        })
    }

    /// Waits until so many more jobs have ended.
    pub(crate) async fn goes_on(&self, more: usize) -> TestResult {
        let before = self.ended();
        eventually(DEADLINE, async || self.ended() >= before + more).await?;
        Ok(())
    }

    fn ended(&self) -> usize {
        let runs = self.seen.runs();
        runs.values().filter(|(_, ends)| *ends > 0).count()
    }

    /// Stops adding and waits until nothing is left to do. Returns what was acknowledged, and how often
    /// each job was started and ended.
    pub(crate) async fn finish(self) -> TestResult<(Vec<JobId>, Runs)> {
        self.stop.cancel();
        let acknowledged = self.producer.await?;
        eventually(DEADLINE, async || {
            let counts = self.queue.counts().await.map_err(|e| e.to_string())?;
            match counts.pending() + counts.active {
                0 => Ok(()),
                left => Err(format!("{left} jobs are left: {counts:?}")),
            }
        })
        .await?;
        self.worker.close().await;
        Ok((acknowledged, self.seen.runs()))
    }
}

async fn work(job: Job<u64>, context: Context<Seen>) -> JobResult<u64> {
    context.state().note(job.id(), false);
    tokio::time::sleep(Duration::from_millis(*job.data())).await;
    context.state().note(job.id(), true);
    Ok(Outcome::Done(*job.data()))
}
