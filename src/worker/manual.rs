//! A worker's steps one at a time, under the caller's control
//! (`docs/protocol.md#manual-processing`).

mod settings;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Client;
use crate::clock::after;
use crate::error::{Chain, Error, Refusal, Result};
use crate::job::{JobError, JobId, JobRateLimit, JobRecord, Outcome, Prefix, QueueName};
use crate::policy::{AttemptOutcome, Conclusion, WorkerRules};
use crate::store::{
    Advance, AttemptResult, ExtendLocks, LimitRate, LockToken, Next, RecoverStalled,
    SettlementReply, Store, TrimFinished,
};
use crate::telemetry::{Meter, Operation};
use crate::worker::attempt::{Attempt, Concluded, Concluder};
use crate::worker::backoff::Strategies;
use crate::worker::iteration::{advance_by_hand, skipped};
use crate::worker::marker::{Markers, Member};
use crate::worker::options::LOCK_MAX;
use crate::worker::reporter::metered;
use crate::worker::schedules::{RepairedScheduler, repair};

/// How long a waiting fetch relies on wake-ups before it looks for itself.
const DRAIN_DELAY: Duration = Duration::from_secs(5);

/// Starts and ends jobs by hand: no handler, no lock renewal, no stalled checks but those asked
/// for. For tests, and for programs whose jobs do not fit a handler.
///
/// The caller chooses the lock token of each job and must [extend](Self::extend_lock) its lock
/// before it expires.
///
/// # Examples
///
/// ```no_run
/// # async fn run(client: oxbull::Client) -> oxbull::Result<()> {
/// use oxbull::{ManualWorker, Outcome};
///
/// let worker = ManualWorker::new(&client, "mail")?;
/// if let Some(job) = worker.fetch("my-token-1").await? {
///     worker.finish(&job, "my-token-1", Ok(Outcome::Done("sent"))).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ManualWorker {
    client: Client,
    store: Store,
    queue: Arc<str>,
    meter: Meter,
    name: Option<String>,
    lock_duration: Duration,
    limit: Option<JobRateLimit>,
    metrics: u32,
    conclude: Concluder,
    /// The worker's place among those who wait for jobs, once it has waited.
    member: Arc<OnceLock<Member>>,
}

/// What a step answered beside a job.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Availability {
    /// There may be more to fetch.
    More,
    /// The rate limit is reached for this long.
    Limited(Duration),
    /// The queue is paused or at its global concurrency.
    Blocked,
    /// Nothing is ready before this time.
    At(crate::clock::Timestamp),
    /// Nothing is ready.
    Empty,
}

impl ManualWorker {
    /// Works on a queue under the default prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the name.
    pub fn new(client: &Client, queue: impl AsRef<str>) -> Result<Self> {
        Self::with_prefix(client, Prefix::default().as_str(), queue)
    }

    /// Works on a queue under another prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the name or the prefix.
    pub fn with_prefix(
        client: &Client,
        prefix: impl AsRef<str>,
        queue: impl AsRef<str>,
    ) -> Result<Self> {
        let (prefix, queue) = (Prefix::new(prefix)?, QueueName::new(queue)?);
        let named: Arc<str> = queue.as_str().into();
        Ok(Self {
            client: client.clone(),
            meter: Meter::new(Arc::clone(&named)),
            queue: named,
            store: Store::open(client, &prefix, &queue)?,
            name: None,
            lock_duration: Duration::from_secs(30),
            limit: None,
            metrics: 0,
            conclude: Concluder {
                rules: WorkerRules::default(),
                strategies: Strategies::default(),
                clock: client.clock().clone(),
            },
            member: Arc::default(),
        })
    }

    /// Starts the next job, if one is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Indeterminate`] when the answer was lost: a job may then be active under the
    /// token until its lock expires. The same when it is a scheduler's iteration and the schedule
    /// could not be advanced within half of the lock. Other connection errors.
    pub async fn fetch(&self, token: &str) -> Result<Option<JobRecord>> {
        Ok(Box::pin(self.step(Vec::new(), token, 1)).await?.0)
    }

    /// As [`fetch`](Self::fetch), and says what to expect next.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_or_wait(&self, token: &str) -> Result<(Option<JobRecord>, Availability)> {
        Box::pin(self.step(Vec::new(), token, 1)).await
    }

    /// Starts the next job, waiting for one up to `wait`. Waiting workers of one client share a
    /// connection.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    ///
    /// # Cancel safety
    ///
    /// None: a job may be active under the token until its lock expires.
    pub async fn fetch_within(&self, token: &str, wait: Duration) -> Result<Option<JobRecord>> {
        let until = after(Instant::now(), wait);
        loop {
            let (job, next) = self.fetch_or_wait(token).await?;
            let now = Instant::now();
            if job.is_some() || now >= until {
                return Ok(job);
            }
            let look = match next {
                Availability::More => continue,
                Availability::Limited(wait) => after(now, wait),
                Availability::At(due) => after(now, due.since(self.store.clock().now())),
                Availability::Blocked | Availability::Empty => now + DRAIN_DELAY,
            };
            self.wait_for_work(look.min(now + DRAIN_DELAY).min(until))
                .await;
        }
    }

    /// Waits until the queue may have a job, or until this time.
    async fn wait_for_work(&self, until: Instant) {
        let member = self
            .member
            .get_or_init(|| Markers::join(&self.client, &self.store));
        let woken = member.wait(false);
        // An error means that the connection was lost: the waiting fetch looks for itself.
        let woken = tokio::time::timeout_at(until, woken).await;
        if let Ok(Ok(wakeup)) = woken {
            let due = Instant::now() + wakeup.wait(self.store.clock().now());
            tokio::time::sleep_until(due.min(until)).await;
        }
    }

    /// Ends an attempt as a worker would: completes, fails, retries, delays or releases the job
    /// by its options.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the job's lock is not the token's any more, or when it cannot
    /// end this way; then nothing changed; with [`Outcome::RateLimited`] it comes in an
    /// [`Error::Incomplete`], since the limit holds. [`Error::Encode`] for the value; connection errors.
    pub async fn finish<R: serde::Serialize>(
        &self,
        job: &JobRecord,
        token: &str,
        result: Result<Outcome<R>, JobError>,
    ) -> Result<()> {
        self.end(job, token, result, 0).await?;
        Ok(())
    }

    /// As [`finish`](Self::finish), and starts the next job in the same step, under the same token.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish): after a refusal no job was started. [`Error::Indeterminate`] as for
    /// [`fetch`](Self::fetch).
    pub async fn finish_and_fetch<R: serde::Serialize>(
        &self,
        job: &JobRecord,
        token: &str,
        result: Result<Outcome<R>, JobError>,
    ) -> Result<Option<JobRecord>> {
        self.end(job, token, result, 1).await
    }

    /// As [`finish`](Self::finish), for a caller that has kept nothing of the job but its id.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish); [`Error::Refused`] when there is no such job.
    pub async fn finish_by_id<R: serde::Serialize>(
        &self,
        id: &JobId,
        token: &str,
        result: Result<Outcome<R>, JobError>,
    ) -> Result<()> {
        let Some(job) = self.store.job(id).await? else {
            return Err(Error::Refused {
                job: id.clone(),
                source: Refusal::JobMissing,
            });
        };
        self.finish(&job, token, result).await
    }

    /// Ends an attempt, and starts up to `take` jobs.
    async fn end<R: serde::Serialize>(
        &self,
        job: &JobRecord,
        token: &str,
        result: Result<Outcome<R>, JobError>,
        take: usize,
    ) -> Result<Option<JobRecord>> {
        self.check()?;
        let limits = matches!(&result, Ok(Outcome::RateLimited(_)));
        if let Ok(Outcome::RateLimited(wait)) = &result {
            let known = self.limit.map(|limit| limit.max);
            self.store.run(&LimitRate::checked(*wait, known)?).await?;
        }
        let concluded = self.concluded(job, token, end_of(result)?).await;
        let span = ending(&self.queue, &concluded);
        let step = Box::pin(self.step(vec![concluded], token, take));
        let step = match &span {
            Some(span) => span.around(step).await,
            None => step.await,
        };
        match step {
            Ok((next, _)) => Ok(next),
            Err(error) if limits => Err(error.after(|| "the queue is rate limited".to_owned())),
            Err(error) => Err(error),
        }
    }

    fn check(&self) -> Result<()> {
        if self.lock_duration < Duration::from_millis(1) || self.lock_duration > LOCK_MAX {
            let problem = "must be at least 1 ms and at most a year";
            return Err(Error::invalid_value(
                "lock duration",
                self.lock_duration,
                problem,
            ));
        }
        self.limit.as_ref().map_or(Ok(()), JobRateLimit::check)
    }

    /// Decides what the end of an attempt writes.
    async fn concluded(&self, job: &JobRecord, token: &str, end: AttemptOutcome) -> Concluded {
        let attempt = Attempt::new(job.clone(), &LockToken::new(token));
        let mut concluded = self.conclude.conclude(attempt, end).await;
        if let Some(started) = job.processed_on {
            concluded.took = self.store.clock().now().since(started);
        }
        concluded
    }

    /// Ends attempts and starts a job, whose schedule it advances. An iteration that must not
    /// overlap with an earlier one ends at once, and the next job is started instead.
    async fn step(
        &self,
        mut results: Vec<Concluded>,
        token: &str,
        take: usize,
    ) -> Result<(Option<JobRecord>, Availability)> {
        loop {
            let sent: Vec<&AttemptResult> = results.iter().map(|result| &result.result).collect();
            let span = (take > 0).then(|| self.fetching());
            let advanced = self.advance(&sent, token, take).await;
            if let (Some(span), Err(error)) = (&span, &advanced) {
                span.failed(&Chain(error));
            }
            let (job, next) = advanced?;
            for result in &results {
                metered(&self.meter, result);
            }
            let Some(job) = job else {
                return Ok((None, next));
            };
            let timeout = self.lock_duration / 2;
            let advanced = Box::pin(advance_by_hand(&self.store, &self.queue, &job, timeout));
            let advanced = match &span {
                Some(span) => {
                    span.fetched(&job);
                    span.around(advanced).await
                }
                None => advanced.await,
            };
            let Some(running) = advanced? else {
                return Ok((Some(job), next));
            };
            let end = AttemptOutcome::Skipped(skipped(&running));
            results = vec![self.concluded(&job, token, end).await];
        }
    }

    /// The span around a fetch.
    fn fetching(&self) -> Operation {
        let span = Operation::new(&self.queue, "getNextJob");
        match &self.name {
            Some(name) => span.text("bullmq.worker.name", name),
            None => span,
        }
    }

    async fn advance(
        &self,
        results: &[&AttemptResult],
        token: &str,
        take: usize,
    ) -> Result<(Option<JobRecord>, Availability)> {
        self.check()?;
        let token = LockToken::new(token);
        let advanced = self
            .store
            .run(&Advance {
                now: self.store.clock().now(),
                take,
                token: &token,
                lock_duration: self.lock_duration,
                worker_name: self.name.as_deref(),
                limit: self.limit,
                respect_imposed: false,
                metrics: self.metrics,
                results,
                again: false,
            })
            .await?;
        // One step deletes a bounded number of finished jobs; the rest follows in further ones.
        for trim in advanced.backlog {
            let now = self.store.clock().now();
            let mut left = Some(trim);
            while let Some(trim) = left {
                // After an error the next job that ends asks for it again; the job started here
                // must not be lost.
                left = self
                    .store
                    .run(&TrimFinished { now, trim: &trim })
                    .await
                    .unwrap_or(None);
            }
        }
        for (result, code) in results.iter().zip(&advanced.codes) {
            if let SettlementReply::Refused(mut source) = *code {
                let job = result.job.clone();
                if let Refusal::WrongState { found, needed } = &mut source {
                    let now = self.store.state(&job).await.unwrap_or(None);
                    *found = now.filter(|now| now != needed);
                }
                return Err(Error::Refused { job, source });
            }
        }
        let next = match advanced.next {
            Next::More => Availability::More,
            Next::Limited(wait) => Availability::Limited(wait),
            Next::Blocked => Availability::Blocked,
            Next::At(due) => Availability::At(due),
            Next::Empty | Next::Idle => Availability::Empty,
        };
        Ok((advanced.started.into_iter().next(), next))
    }

    /// Makes a job's lock last `duration` from now. Returns whether the token still holds it.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn extend_lock(&self, job: &JobId, token: &str, duration: Duration) -> Result<bool> {
        let locks = [(job.clone(), LockToken::new(token))];
        let lost = self
            .store
            .run(&ExtendLocks {
                duration,
                locks: &locks,
            })
            .await?;
        Ok(lost.is_empty())
    }

    /// Runs one stalled check: the second in a row returns to the queue the jobs that have been active and
    /// without a lock since the first. Returns the jobs handed back.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn check_stalled(&self, interval: Duration, tolerated: u32) -> Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        let mut continued = 0;
        loop {
            let checked = self
                .store
                .run(&RecoverStalled {
                    now: self.store.clock().now(),
                    interval,
                    tolerated,
                    continued,
                })
                .await;
            let checked = checked.map_err(|error| {
                if continued > 0 {
                    error.after(|| format!("{} jobs were handed back", jobs.len()))
                } else {
                    error
                }
            })?;
            jobs.extend(checked.jobs);
            continued = checked.more;
            if continued == 0 {
                return Ok(jobs);
            }
        }
    }

    /// Gives an iteration to each scheduler that has none to come, because its job was deleted or
    /// ended without a successor; a schedule that has ended stays so. Does nothing when a worker
    /// has checked the queue's schedulers within `interval`. Returns what was repaired.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn check_schedulers(&self, interval: Duration) -> Result<Vec<RepairedScheduler>> {
        let repairs = repair(&self.store, interval).await?;
        for problem in repairs.problems {
            tracing::warn!(queue = self.store.keys().qualified(), "{problem}");
        }
        Ok(repairs.repaired)
    }
}

/// The span around the end of an attempt; none when the job goes on without a failure.
fn ending(queue: &str, concluded: &Concluded) -> Option<Operation> {
    let (name, failure) = match &concluded.result.conclusion {
        Conclusion::Complete { .. } | Conclusion::Skip { .. } => ("complete", None),
        Conclusion::Fail { reason, .. } => ("fail", Some(reason)),
        Conclusion::Retry { reason, .. } => ("retry", Some(reason)),
        Conclusion::Backoff { reason, .. } => ("delay", Some(reason)),
        Conclusion::Park { .. }
        | Conclusion::Release
        | Conclusion::Return
        | Conclusion::WaitForChildren
        | Conclusion::Postpone { .. } => return None,
    };
    let span = Operation::new(queue, name);
    span.ends(&concluded.attempt.record);
    if let Some(reason) = failure {
        span.failed(reason);
    }
    Some(span)
}

/// Reads how an attempt ended, with its value as JSON text.
fn end_of<R: serde::Serialize>(result: Result<Outcome<R>, JobError>) -> Result<AttemptOutcome> {
    Ok(match result {
        Ok(outcome) => AttemptOutcome::Returned(outcome.try_map(|value| {
            serde_json::to_string(&value).map_err(|source| Error::Encode {
                what: "return value",
                source,
            })
        })?),
        Err(error) => AttemptOutcome::failed(error),
    })
}

#[cfg(test)]
mod tests;
