//! Refreshing as a job.

use std::time::Duration;

use oxbull::{
    Backoff, BoxError, Context, Job, JobError, JobOptions, JobResult, Outcome, Retention, Timestamp,
};
use serde_json::json;

use super::reaction::Reaction;
use super::{AccountNotice, AnalyticsRefresh, Overview, Reader, RefreshError};
use crate::graph::{Remedy, SHORTEST_COOLDOWN, TokenError, wait_for_token};
use crate::jobs::redis_failure::redis_failure;
use crate::notify::{Notifier, reconnect_claim};

/// The options of these jobs: 5 attempts, starting 30 s apart. Ten thousand
/// a day do not pile up: the last 2,000 are kept for 6 hours, failed ones for a week.
pub fn options() -> JobOptions {
    let kept = |count, hours: u64| {
        let age = Duration::from_secs(hours * 3600);
        Retention::bounded().count(count).age(age)
    };
    JobOptions::new()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_secs(30)))
        .remove_on_complete(kept(2_000, 6))
        .remove_on_fail(kept(10_000, 7 * 24))
}

/// How long after it was due limits may postpone a refresh by default: it is then over
/// before the next day's begins.
pub const POSTPONE_MAX: Duration = Duration::from_secs(12 * 3600);

/// What the handler works with.
#[derive(Debug)]
pub struct Refresher {
    /// Reads accounts.
    pub reader: Reader,
    /// How long after it was due limits may postpone a refresh before it fails, see [`POSTPONE_MAX`].
    pub postpone_max: Duration,
}

/// Why a refresh failed for good, where the API's own text is not enough.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error("{0}; {1}")]
    Reconnect(RefreshError, &'static str),
    /// Nothing that the account's owner can repair.
    #[error(transparent)]
    UnusableToken(RefreshError),
    #[error("limits of the graph api left no room within {0:?}")]
    PostponedTooLong(Duration),
}

/// Reads one account's numbers into the cache. An overview that was cached before stays until its
/// time is over when this fails; `fetchedAt` shows its age.
///
/// # Errors
/// The failed attempt; permanent errors of the API fail the job for good.
pub async fn handle(
    job: Job<AnalyticsRefresh>,
    context: Context<Refresher>,
) -> JobResult<Overview> {
    let attempt = Attempt {
        job: &job,
        context: &context,
    };
    attempt.run().await
}

/// One run of a job.
struct Attempt<'a> {
    job: &'a Job<AnalyticsRefresh>,
    context: &'a Context<Refresher>,
}

impl Attempt<'_> {
    async fn run(&self) -> JobResult<Overview> {
        let reader = &self.context.state().reader;
        let account = &self.job.data().account_id;
        let last = self.job.is_last_attempt();
        match reader.read(account, last).await {
            Ok(overview) => self.keep(overview).await,
            Err(error) => self.stopped(error).await,
        }
    }

    /// Caches what was read. A cache that does not work is tried again with a later attempt; the
    /// last one returns its result all the same.
    async fn keep(&self, overview: Overview) -> JobResult<Overview> {
        match self.context.state().reader.keep(&overview).await {
            Ok(()) => {}
            Err(error) if self.job.is_last_attempt() => {
                tracing::warn!(%error, account = %overview.account_id, "refreshed, but not cached");
            }
            Err(error) => return Err(JobError::retry(error)),
        }
        if overview.permission_missing {
            self.lacks_permission().await;
        } else {
            self.is_connected().await;
        }
        Ok(Outcome::Done(overview))
    }

    /// The numbers that there are were read, so the job has not failed; the next one tells the owner where
    /// this one cannot.
    async fn lacks_permission(&self) {
        let remedy = Remedy::GrantPermission.advice();
        let reason = format!("the permission to read insights is missing; {remedy}");
        if let Err(error) = self.notify_owner(reason).await {
            let account = &self.job.data().account_id;
            tracing::warn!(%error, %account, "insights are missing, but the user was not notified");
        }
    }

    /// An account that works may need its owner again some day.
    async fn is_connected(&self) {
        if self.job.data().user_id.is_none() {
            return;
        }
        let notifier = Notifier::new(self.context.client().clone());
        if let Err(error) = notifier.forget(&self.claim()).await {
            tracing::warn!(%error, "the claim of a notice was not removed; its user may not be notified again");
        }
    }

    /// A limit makes way without using an attempt: the queue waits for the application, but no
    /// account for another.
    async fn stopped(&self, error: RefreshError) -> JobResult<Overview> {
        if matches!(error, RefreshError::NoLimits(_)) {
            return Err(JobError::postpone(error));
        }
        if let RefreshError::NoToken(error) = error {
            return self.without_token(error).await;
        }
        let failure = error.failure();
        let limit = self.context.state().postpone_max;
        match Reaction::from(failure) {
            _ if failure.needs_reconnection() => self.reconnect(error).await,
            Reaction::Postpone(_) if self.now().since(self.due()) >= limit => {
                Err(JobError::fatal(Stop::PostponedTooLong(limit)))
            }
            reaction => reaction.settle(error),
        }
    }

    /// Postpones a refresh that no request can be made for. Its user is only notified once the account has
    /// lacked a token for long: it may be connected at this moment.
    async fn without_token(&self, error: TokenError) -> JobResult<Overview> {
        let state = self.context.state();
        let limit = match error {
            TokenError::Store(_) => return Err(redis_failure(error)),
            TokenError::Missing(_) => state.reader.missing_token_max(),
            _ => state.postpone_max,
        };
        let lacking = self.now().since(self.due());
        if lacking < limit {
            let reason = json!({ "waitsFor": "token", "reason": error.to_string() });
            if let Err(error) = self.job.update_progress(&reason).await {
                return Err(redis_failure(error));
            }
            let rest = limit.saturating_sub(lacking).max(SHORTEST_COOLDOWN);
            return Ok(Outcome::DelayFor(wait_for_token(lacking).min(rest)));
        }
        if matches!(error, TokenError::Missing(_)) {
            return self.reconnect(error.into()).await;
        }
        Err(JobError::fatal(Stop::UnusableToken(error.into())))
    }

    /// When the refresh was to begin: the iteration's own time, or when the job was added.
    fn due(&self) -> Timestamp {
        let scheduled = self.job.record().scheduler.as_ref().and_then(|_| {
            let (_, slot) = self.job.id().as_str().rsplit_once(':')?;
            slot.parse().ok().map(Timestamp::from_millis)
        });
        scheduled.unwrap_or_else(|| self.job.timestamp())
    }

    /// The claim of the notice to the account's owner.
    fn claim(&self) -> String {
        reconnect_claim(self.job.data().account_id.as_str())
    }

    /// Fails at once, since only the account's owner can repair this, who is notified once a week until the
    /// account can be read again.
    async fn reconnect(&self, error: RefreshError) -> JobResult<Overview> {
        let remedy = match &error {
            RefreshError::Graph(error) => error.remedy(),
            _ => None,
        };
        let stop = Stop::Reconnect(error, remedy.unwrap_or(Remedy::Reconnect).advice());
        if let Err(error) = self.notify_owner(stop.to_string()).await {
            let ended = redis_failure(error);
            if ended.is_postponed() {
                return Err(ended);
            }
            let account = &self.job.data().account_id;
            tracing::warn!(error = %ended, %account, "failed, but the user was not notified");
        }
        Err(JobError::fatal(stop))
    }

    /// Notifies the account's owner, if the job names one, once a week until the account can be read again.
    async fn notify_owner(&self, reason: String) -> Result<(), BoxError> {
        let data = self.job.data();
        let Some(user) = &data.user_id else {
            return Ok(());
        };
        let notice = AccountNotice::Reconnect {
            account_id: data.account_id.to_string(),
            reason,
            at: self.now().as_millis(),
        };
        let notifier = Notifier::new(self.context.client().clone());
        let notified = notifier.notify_once(&self.claim(), user, &notice).await;
        notified.map(drop)
    }

    fn now(&self) -> Timestamp {
        self.context.client().clock().now()
    }
}
