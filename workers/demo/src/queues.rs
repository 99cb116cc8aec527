//! The three queues from the producer's and the observer's side.

use std::time::Duration;

use oxbull::client::Client;
use oxbull::{
    Backoff, JobCounts, JobId, JobOptions, JobRecord, JobState, NewJob, Queue, Retention,
};
use oxbull_workers::jobs::analytics_refresh::{
    self, AnalyticsRefresh, RefreshWindow, schedule_of, scheduler_id, unschedule_account,
};
use oxbull_workers::jobs::post_publishing::{self, PostPublishing};
use oxbull_workers::jobs::webhook_processing::{self, WebhookDelivery};
use serde::Serialize;

use crate::Outcome;
use crate::samples::Samples;

/// Between attempts; shorter than in earnest, so that the demo shows retries and still ends soon.
const BACKOFF: Duration = Duration::from_millis(200);

pub(crate) struct Queues {
    posts: Queue<PostPublishing>,
    deliveries: Queue<WebhookDelivery>,
    accounts: Queue<AnalyticsRefresh>,
}

/// A queue's options with short backoff, and without a bound on the jobs that are kept: all are
/// read at the end.
fn quick(options: JobOptions) -> JobOptions {
    options
        .backoff(Backoff::exponential(BACKOFF))
        .remove_on_complete(Retention::KeepAll)
        .remove_on_fail(Retention::KeepAll)
}

/// A job that was added, and how long after that it is due.
#[derive(Debug, Clone)]
pub(crate) struct AddedJob {
    id: JobId,
    delay: Duration,
}

impl AddedJob {
    /// A job that was due at once.
    pub(crate) fn now(id: JobId) -> Self {
        let delay = Duration::ZERO;
        Self { id, delay }
    }
}

#[derive(Debug)]
pub(crate) struct AddedJobs {
    posts: Vec<AddedJob>,
    pub(crate) deliveries: Vec<AddedJob>,
    accounts: Vec<AddedJob>,
}

/// A queue as the workers left it.
#[derive(Debug)]
pub(crate) struct QueueSnapshot {
    pub(crate) name: &'static str,
    pub(crate) counts: JobCounts,
    pub(crate) jobs: Vec<JobSnapshot>,
}

#[derive(Debug)]
pub(crate) struct JobSnapshot {
    pub(crate) record: JobRecord,
    pub(crate) state: Option<JobState>,
    /// How long after it was added the job was due.
    pub(crate) delay: Duration,
}

#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) posts: QueueSnapshot,
    pub(crate) deliveries: QueueSnapshot,
    pub(crate) accounts: QueueSnapshot,
    /// Accounts that were due again.
    pub(crate) due_again: usize,
}

impl Snapshot {
    pub(crate) fn all(&self) -> [&QueueSnapshot; 3] {
        [&self.posts, &self.deliveries, &self.accounts]
    }
}

impl Queues {
    pub(crate) async fn open(client: &Client) -> Outcome<Self> {
        Ok(Self {
            posts: open(
                client,
                post_publishing::QUEUE,
                quick(post_publishing::options()),
            )
            .await?,
            deliveries: Queue::open(client, webhook_processing::QUEUE).await?,
            accounts: open(
                client,
                analytics_refresh::QUEUE,
                quick(analytics_refresh::options()),
            )
            .await?,
        })
    }

    /// Adds every post and account; deliveries come through the gateway.
    pub(crate) async fn add(&self, samples: &Samples) -> Outcome<AddedJobs> {
        let posts = samples
            .posts
            .iter()
            .map(|post| {
                let job = NewJob::new("publish", post.data.clone()).options(post.options());
                (job, post.delay())
            })
            .collect();
        let again = samples
            .repeated_accounts
            .iter()
            .map(|account| (NewJob::new("refresh", account.clone()), Duration::ZERO))
            .collect();
        let mut accounts = self.schedule(samples).await?;
        accounts.extend(add(&self.accounts, again).await?);
        Ok(AddedJobs {
            posts: add(&self.posts, posts).await?,
            deliveries: Vec::new(),
            accounts,
        })
    }

    /// Schedules every account at its night, and has the first run begin now.
    async fn schedule(&self, samples: &Samples) -> Outcome<Vec<AddedJob>> {
        let window = RefreshWindow::default();
        let options = quick(analytics_refresh::options());
        let mut all = Vec::new();
        for account in &samples.accounts {
            let id = &account.data.account_id;
            let schedule = schedule_of(id, &account.time_zone, &window)?;
            let template = NewJob::new("refresh", account.data.clone()).options(options.clone());
            let upserted = self
                .accounts
                .upsert_scheduler(scheduler_id(id), &schedule, template)
                .await?;
            let first = upserted.ok_or("a schedule without an end has a next run")?;
            self.accounts.promote(&first.id).await?;
            all.push(AddedJob {
                id: first.id,
                delay: Duration::ZERO,
            });
        }
        Ok(all)
    }

    /// Ends the schedules; returns how many accounts were scheduled again.
    async fn unschedule(&self, samples: &Samples) -> Outcome<usize> {
        let mut due = 0;
        for account in &samples.accounts {
            let id = &account.data.account_id;
            if let Some(scheduler) = self.accounts.scheduler(scheduler_id(id)).await? {
                let next = format!("repeat:{}:{}", scheduler.id, scheduler.next.as_millis());
                let state = self.accounts.state(&JobId::existing(next)).await?;
                due += usize::from(state == Some(JobState::Delayed));
            }
            unschedule_account(&self.accounts, id).await?;
        }
        Ok(due)
    }

    /// How far the workers are.
    pub(crate) async fn progress(&self, added: &AddedJobs) -> Outcome<Progress> {
        Ok(Progress([
            Row::new(
                post_publishing::QUEUE,
                self.posts.counts().await?,
                &added.posts,
            ),
            Row::new(
                webhook_processing::QUEUE,
                self.deliveries.counts().await?,
                &added.deliveries,
            ),
            Row::new(
                analytics_refresh::QUEUE,
                self.accounts.counts().await?,
                &added.accounts,
            ),
        ]))
    }

    /// Ends the schedules and reads every job back.
    pub(crate) async fn read(&self, added: &AddedJobs, samples: &Samples) -> Outcome<Snapshot> {
        Ok(Snapshot {
            due_again: self.unschedule(samples).await?,
            posts: read(&self.posts, post_publishing::QUEUE, &added.posts).await?,
            deliveries: read(
                &self.deliveries,
                webhook_processing::QUEUE,
                &added.deliveries,
            )
            .await?,
            accounts: read(&self.accounts, analytics_refresh::QUEUE, &added.accounts).await?,
        })
    }
}

async fn open<D>(client: &Client, name: &str, options: JobOptions) -> oxbull::Result<Queue<D>> {
    Queue::builder(client, name)
        .default_options(options)
        .open()
        .await
}

async fn add<D: Serialize>(
    queue: &Queue<D>,
    jobs: Vec<(NewJob<D>, Duration)>,
) -> Outcome<Vec<AddedJob>> {
    let (jobs, delays): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let mut all = Vec::new();
    for (added, delay) in queue.add_bulk(jobs).await?.into_iter().zip(delays) {
        all.push(AddedJob {
            id: added?.id,
            delay,
        });
    }
    Ok(all)
}

async fn read<D>(
    queue: &Queue<D>,
    name: &'static str,
    added: &[AddedJob],
) -> Outcome<QueueSnapshot> {
    let mut jobs = Vec::new();
    for job in added {
        let record = queue
            .job(&job.id)
            .await?
            .ok_or_else(|| format!("job {} of {name} is gone", job.id))?;
        jobs.push(JobSnapshot {
            record,
            state: queue.state(&job.id).await?,
            delay: job.delay,
        });
    }
    Ok(QueueSnapshot {
        name,
        counts: queue.counts().await?,
        jobs,
    })
}

impl AddedJobs {
    pub(crate) fn summary(&self) -> String {
        format!(
            "{} posts ({} of them for later), {} webhook deliveries, {} accounts",
            self.posts.len(),
            self.posts.iter().filter(|job| !job.delay.is_zero()).count(),
            self.deliveries.len(),
            self.accounts.len()
        )
    }
}

/// How far each queue is.
pub(crate) struct Progress(pub(crate) [Row; 3]);

/// A queue's counts and how many of the demo's jobs it has.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) counts: JobCounts,
    pub(crate) total: u64,
}

impl Row {
    fn new(name: &'static str, counts: JobCounts, added: &[AddedJob]) -> Self {
        Self {
            name,
            counts,
            total: added.len() as u64,
        }
    }

    pub(crate) fn ended(&self) -> u64 {
        self.counts.completed + self.counts.failed
    }
}

impl Progress {
    pub(crate) fn is_finished(&self) -> bool {
        self.0.iter().all(|row| row.ended() >= row.total)
    }
}
