//! A worker's steps one at a time, under the caller's control (spec: processing §17).

use std::time::Duration;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::{JobError, JobId, JobRecord, Outcome, Prefix, QueueName, Retention};
use crate::policy::{self, Attempt, AttemptEnd, WorkerRules};
use crate::scheduler::{Rearmed, heal};
use crate::store::{
    Advance, Ended, ExtendLocks, FinishCode, LimitRate, LockToken, Next, RateLimit, RecoverStalled,
    Store, TrimFinished,
};
use crate::worker::iteration::{carry_on_by_hand, skipped};

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
///     worker.finish(&job, "my-token-1", Ok(Outcome::Done("sent")), false).await?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ManualWorker {
    store: Store,
    name: Option<String>,
    lock_duration: Duration,
    limit: Option<RateLimit>,
    metrics: u32,
    rules: WorkerRules,
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
    Closed,
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
        Ok(Self {
            store: Store::new(
                client.connection().clone(),
                &prefix,
                &queue,
                client.clock().clone(),
            ),
            name: None,
            lock_duration: Duration::from_secs(30),
            limit: None,
            metrics: 0,
            rules: WorkerRules::default(),
        })
    }

    /// Names the worker; stored with each job it starts. Default: none.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets how long a lock lasts. Default: 30 s.
    #[must_use]
    pub fn lock_duration(mut self, duration: Duration) -> Self {
        self.lock_duration = duration;
        self
    }

    /// Starts at most `max` jobs in each window, with all workers of the queue that have a
    /// limit. Default: no limit. Steps fail with [`Error::Invalid`] where `max` is 0 or the window
    /// below 1 ms or above 2^52 ms.
    #[must_use]
    pub fn rate_limit(mut self, max: u32, window: Duration) -> Self {
        self.limit = Some(RateLimit {
            max,
            duration: window,
        });
        self
    }

    /// Records finished jobs per minute, this many minutes back. Default: 0, off.
    #[must_use]
    pub fn metrics(mut self, minutes: u32) -> Self {
        self.metrics = minutes;
        self
    }

    /// Keeps completed jobs within bounds, where the job does not say. Default: all.
    #[must_use]
    pub fn remove_on_complete(mut self, retention: Retention) -> Self {
        self.rules.remove_on_complete = Some(retention);
        self
    }

    /// Keeps failed jobs within bounds, where the job does not say. Default: all.
    #[must_use]
    pub fn remove_on_fail(mut self, retention: Retention) -> Self {
        self.rules.remove_on_fail = Some(retention);
        self
    }

    /// Fails a job for good once it has been started this often. Default: any number.
    #[must_use]
    pub fn max_started_attempts(mut self, max: u32) -> Self {
        self.rules.max_started = Some(max);
        self
    }

    /// Starts the next job, if one is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Indeterminate`] when the answer was lost: a job may then be active under the
    /// token until its lock expires. The same when it is a scheduler's iteration and the schedule
    /// could not be carried on within half of the lock. Other connection errors.
    pub async fn fetch(&self, token: &str) -> Result<Option<JobRecord>> {
        Ok(self.step(Vec::new(), token, 1).await?.0)
    }

    /// As [`fetch`](Self::fetch), and says what to expect next.
    ///
    /// # Errors
    ///
    /// As [`fetch`](Self::fetch).
    pub async fn fetch_or_wait(&self, token: &str) -> Result<(Option<JobRecord>, Availability)> {
        self.step(Vec::new(), token, 1).await
    }

    /// Ends an attempt as a worker would: completes, fails, retries, delays or releases the job
    /// by its options. With `fetch_next`, starts the next job in the same step, under the same
    /// token.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the job's lock is not the token's any more, or when it cannot
    /// end this way; then nothing changed. [`Error::Encode`] for the value; connection errors.
    /// With `fetch_next`, [`Error::Indeterminate`] as for [`fetch`](Self::fetch).
    pub async fn finish<R: serde::Serialize>(
        &self,
        job: &JobRecord,
        token: &str,
        result: Result<Outcome<R>, JobError>,
        fetch_next: bool,
    ) -> Result<Option<JobRecord>> {
        self.check()?;
        if let Ok(Outcome::RateLimited(wait)) = &result {
            let known = self.limit.map(|limit| limit.max);
            self.store.run(&LimitRate::checked(*wait, known)?).await?;
        }
        let ended = self.ended(job, token, result)?;
        let take = usize::from(fetch_next);
        Ok(self.step(vec![ended], token, take).await?.0)
    }

    fn check(&self) -> Result<()> {
        self.limit.as_ref().map_or(Ok(()), RateLimit::check)
    }

    /// Decides what the end of an attempt writes.
    fn ended<R: serde::Serialize>(
        &self,
        job: &JobRecord,
        token: &str,
        result: Result<Outcome<R>, JobError>,
    ) -> Result<Ended> {
        let end = match result {
            Ok(outcome) => AttemptEnd::Returned(outcome.try_map(|value| {
                serde_json::to_string(&value).map_err(|source| Error::Encode {
                    what: "return value",
                    source,
                })
            })?),
            Err(error) => AttemptEnd::Failed(error),
        };
        Ok(self.settled(job, token, &end))
    }

    fn settled(&self, job: &JobRecord, token: &str, end: &AttemptEnd) -> Ended {
        let now = self.store.clock().now();
        let attempt = Attempt {
            job,
            rules: &self.rules,
        };
        Ended {
            job: job.id.clone(),
            token: LockToken::new(token),
            starts: job.attempts_started,
            stalls: job.stalled,
            ending: policy::settle(attempt, end, now, 1.0, None),
        }
    }

    /// Ends attempts and starts a job, whose schedule it carries on. An iteration that must not
    /// overlap with an earlier one ends at once, and the next job is started instead.
    async fn step(
        &self,
        mut results: Vec<Ended>,
        token: &str,
        take: usize,
    ) -> Result<(Option<JobRecord>, Availability)> {
        loop {
            let (job, next) = self.advance(&results, token, take).await?;
            let Some(job) = job else {
                return Ok((None, next));
            };
            let patience = self.lock_duration / 2;
            let carried = Box::pin(carry_on_by_hand(&self.store, &job, patience));
            let Some(running) = carried.await? else {
                return Ok((Some(job), next));
            };
            let end = AttemptEnd::Returned(Outcome::Done(skipped(&running)));
            results = vec![self.settled(&job, token, &end)];
        }
    }

    async fn advance(
        &self,
        results: &[Ended],
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
                obey: false,
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
            if let FinishCode::Refused(source) = code {
                return Err(Error::Refused {
                    job: result.job.clone(),
                    source: *source,
                });
            }
        }
        let next = match advanced.next {
            Next::More => Availability::More,
            Next::Limited(wait) => Availability::Limited(wait),
            Next::Closed => Availability::Closed,
            Next::At(due) => Availability::At(due),
            Next::Empty | Next::Idle => Availability::Empty,
        };
        let job = advanced.started.into_iter().next();
        Ok((job.map(|started| started.record), next))
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

    /// Runs one stalled check: the second in a row hands back the jobs that have been active and
    /// without a lock since the first. Returns the jobs handed back.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn check_stalled(&self, interval: Duration, tolerated: u32) -> Result<Vec<JobId>> {
        let mut jobs = Vec::new();
        let mut continued = false;
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
                if continued {
                    error.after(|| format!("{} jobs were handed back", jobs.len()))
                } else {
                    error
                }
            })?;
            jobs.extend(checked.jobs);
            continued = checked.more;
            if !continued {
                return Ok(jobs);
            }
        }
    }

    /// Gives an iteration to each scheduler that has none to come, because its job was deleted or
    /// ended without a successor; a schedule that has ended stays so. Does nothing when a worker
    /// has checked the queue's schedulers within `interval`. Returns what was armed again.
    ///
    /// # Errors
    ///
    /// Connection errors. Safe to repeat.
    pub async fn check_schedulers(&self, interval: Duration) -> Result<Vec<Rearmed>> {
        let healed = heal(&self.store, interval).await?;
        for problem in healed.problems {
            tracing::warn!(queue = self.store.keys().qualified(), "{problem}");
        }
        Ok(healed.rearmed)
    }
}

#[cfg(test)]
mod tests;
