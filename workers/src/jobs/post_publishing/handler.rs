//! Publishing as a job: progress is kept in the job's data, waiting is a delay without an attempt,
//! and the user gets one notice of its outcome.

use std::time::Duration;

use oxbull::{Backoff, BoxError, Context, Job, JobError, JobOptions, JobResult, Outcome};
use serde_json::Value;

use super::progress_store::job_mark;
use super::{
    JobProgressStore, NoticeCode, Plan, PostNotice, PostPublishing, ProgressStore, PublishError,
    PublishLimits, PublishedPost, QUEUE, Step, TokenWait, Verdict, publish,
};
use crate::graph::{
    AccessToken, AccessTokens, AccountId, BLOCK_PAUSE, Cooldowns, DEFAULT_COOLDOWN, Failure,
    GraphClient, LimitScope, Remedy, SHORTEST_COOLDOWN, Throttle, TokenError, UsageMeter,
    wait_for_token,
};
use crate::jobs::redis_failure::redis_failure;
use crate::notify::Notifier;

use super::plan::InvalidPost;
use super::progress::IN_DOUBT;

/// The longest reason in a notice, in characters.
const LONGEST_REASON: usize = 1000;

/// The options of these jobs: 3 attempts, 5 s and then 10 s apart.
pub fn options() -> JobOptions {
    JobOptions::new()
        .attempts(3)
        .backoff(Backoff::exponential(Duration::from_secs(5)))
}

/// What the handler works with.
#[derive(Debug)]
pub struct Publisher {
    /// The API.
    pub graph: GraphClient,
    /// The accounts' tokens.
    pub tokens: AccessTokens,
    /// How long and how often a job waits for the API.
    pub limits: PublishLimits,
}

/// Publishes one post.
///
/// The data is decoded here and not by the worker, so that the user is also notified of a post
/// that cannot be decoded, and so that the worker writes back what the backend wrote.
///
/// # Errors
/// The failed attempt; permanent errors of the API fail the job for good.
pub async fn handle(job: Job<Value>, context: Context<Publisher>) -> JobResult<PublishedPost> {
    let post: PostPublishing = match serde_json::from_value(job.data().clone()) {
        Ok(post) => post,
        Err(error) => {
            let reason = format!("job data does not decode: {error}");
            notify_failed(&job, &context, NoticeCode::Refused, &reason).await;
            return Err(JobError::fatal(reason));
        }
    };
    let attempt = Attempt {
        job: &job,
        context: &context,
        notes: JobProgressStore::new(
            &job,
            context.client(),
            post.publication.clone().unwrap_or_default(),
        ),
        cooldowns: Cooldowns::new(context.client().clone()),
        post: &post,
    };
    attempt.run().await
}

/// Why an attempt ends without a published post.
#[derive(Debug, thiserror::Error)]
enum Stop {
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// More than the API's text tells its user what helps.
    #[error("{0}; {1}")]
    Remedied(PublishError, Remedy),
    #[error("{0}; reconnect the account")]
    NoToken(TokenError),
    /// Nothing that the account's owner can repair.
    #[error(transparent)]
    UnusableToken(TokenError),
    #[error(transparent)]
    Invalid(#[from] InvalidPost),
    #[error("limits of the graph api left no room within {0:?}")]
    PostponedTooLong(Duration),
    #[error("{0}; {IN_DOUBT}")]
    InDoubt(Box<Self>),
    /// The verdict of an earlier run of this attempt, which its user has been told of.
    #[error("{}", .0.reason)]
    Decided(Verdict),
}

impl Stop {
    fn code(&self) -> NoticeCode {
        match self {
            Self::NoToken(_) => NoticeCode::Reconnect,
            Self::Remedied(_, remedy) => NoticeCode::of(*remedy),
            Self::PostponedTooLong(_) => NoticeCode::Limited,
            Self::UnusableToken(_) => NoticeCode::Unavailable,
            Self::Publish(error) if error.failure() != Failure::Permanent => {
                NoticeCode::Unavailable
            }
            Self::Publish(_) | Self::Invalid(_) => NoticeCode::Refused,
            Self::Decided(verdict) => verdict.code,
            Self::InDoubt(stop) => match stop.code() {
                NoticeCode::Reconnect => NoticeCode::Reconnect,
                _ => NoticeCode::InDoubt,
            },
        }
    }
}

/// One run of a job.
struct Attempt<'a> {
    job: &'a Job<Value>,
    context: &'a Context<Publisher>,
    notes: JobProgressStore<'a>,
    cooldowns: Cooldowns,
    post: &'a PostPublishing,
}

impl Attempt<'_> {
    async fn run(&self) -> JobResult<PublishedPost> {
        if let Some(verdict) = self.verdict() {
            return self.fail(Stop::Decided(verdict)).await;
        }
        let plan = match Plan::of(self.post) {
            Ok(plan) => plan,
            Err(error) => return self.fail(error.into()).await,
        };
        let publisher = self.context.state();
        let account = &self.post.account_id;
        let token = match publisher.tokens.of(account).await {
            Ok(token) => token,
            Err(error) => return self.without_token(error).await,
        };
        let held = match self.cooldowns.remaining(account).await {
            Ok(held) => held,
            Err(error) => {
                return Err(JobError::postpone(error));
            }
        };
        if !held.is_zero() {
            self.end_token_wait().await;
        }
        // A published post lacks but its permalink, a small request that its user waits for.
        let published = self.notes.kept().media_id.is_some();
        if !held.is_zero()
            && !published
            && let Some(postpone) = self.postpone(held).await
        {
            return postpone;
        }
        let meter = UsageMeter::for_account(account);
        let api = publisher.graph.account(account, &token).metered(&meter);
        let clock = self.context.client().clock();
        let limits = PublishLimits {
            last_attempt: self.job.is_last_attempt(),
            ..publisher.limits
        };
        let ended = publish(api, self.post, &plan, &self.notes, &limits, clock).await;
        self.throttle(account, meter.throttle()).await;
        if let Err(error) = &ended {
            if self.is_reconnected(error, &token).await {
                tracing::info!(%account, %error, "another token has taken the place of the refused one");
                return Ok(Outcome::DelayFor(SHORTEST_COOLDOWN));
            }
            if let Some(error) = self.not_understood(error, &token) {
                return self.without_token(error).await;
            }
        }
        self.end_token_wait().await;
        match ended {
            Ok(Step::Wait(wait)) => Ok(Outcome::DelayFor(wait)),
            Ok(Step::Published(published)) => self.done(published).await,
            Err(error) => self.stopped(error).await,
        }
    }

    /// What is wrong with a token that the API cannot read, where reconnecting would not help.
    fn not_understood(&self, error: &PublishError, token: &AccessToken) -> Option<TokenError> {
        let PublishError::Graph(error) = error else {
            return None;
        };
        let tokens = &self.context.state().tokens;
        tokens.not_understood(&self.post.account_id, token, error)
    }

    /// Postpones a post that no request can be made for, without using an attempt. Its user is only
    /// notified once the account has lacked a token for long: it may be connected at this moment.
    async fn without_token(&self, error: TokenError) -> JobResult<PublishedPost> {
        let publisher = self.context.state();
        let (limit, stop): (_, fn(TokenError) -> Stop) = match error {
            TokenError::Store(error) => return Err(redis_failure(TokenError::Store(error))),
            TokenError::Missing(_) => (publisher.tokens.missing_max(), Stop::NoToken),
            _ => (publisher.limits.postpone_max, Stop::UnusableToken),
        };
        let mut progress = self.notes.kept();
        let reason = error.to_string();
        let since = progress.token_wait.as_ref().map(|wait| wait.since);
        let since = since.unwrap_or_else(|| self.now());
        let lacking = u64::try_from(self.now().saturating_sub(since)).unwrap_or(0);
        let lacking = Duration::from_millis(lacking);
        if lacking >= limit {
            return self.fail(stop(error)).await;
        }
        let wait = Some(TokenWait { since, reason });
        if progress.token_wait != wait {
            progress.token_wait = wait;
            if let Err(error) = self.notes.keep(&progress).await {
                return Err(redis_failure(error));
            }
        }
        let rest = limit.saturating_sub(lacking).max(SHORTEST_COOLDOWN);
        Ok(Outcome::DelayFor(wait_for_token(lacking).min(rest)))
    }

    /// Forgets since when the account had no usable token: it has one now.
    async fn end_token_wait(&self) {
        let mut progress = self.notes.kept();
        if progress.token_wait.take().is_none() {
            return;
        }
        if let Err(error) = self.notes.keep(&progress).await {
            tracing::warn!(%error, post = self.post.post_id, "the end of the wait for a token was not stored");
        }
    }

    /// Whether the API refused a token that has been replaced since, so that nobody has to reconnect.
    async fn is_reconnected(&self, error: &PublishError, refused: &AccessToken) -> bool {
        let tokens = &self.context.state().tokens;
        error.failure().needs_reconnection()
            && tokens.is_replaced(&self.post.account_id, refused).await
    }

    /// What an earlier run of this attempt has decided.
    fn verdict(&self) -> Option<Verdict> {
        let verdict = self.notes.kept().verdict?;
        let holds = verdict.holds(self.job.attempts_made(), self.job.record().stalled);
        holds.then_some(verdict)
    }

    async fn done(&self, published: PublishedPost) -> JobResult<PublishedPost> {
        let account = self.post.account_id.to_string();
        let notice = PostNotice::published(account, &published, self.now());
        let notified = Notifier::new(self.context.client().clone())
            .notify_once(&claim(self.job, "published"), &self.post.user_id, &notice)
            .await;
        match notified {
            Ok(_) => Ok(Outcome::Done(published)),
            // The post is public, so the job must not fail: retry the notice.
            Err(error) => {
                tracing::warn!(%error, post = self.post.post_id, "published, but the user is not notified yet");
                Ok(Outcome::DelayFor(self.context.state().limits.first_wait))
            }
        }
    }

    async fn stopped(&self, error: PublishError) -> JobResult<PublishedPost> {
        let error = match error {
            PublishError::ProgressStore(cause) => {
                let ended = redis_failure(PublishError::ProgressStore(cause));
                if ended.is_postponed() {
                    return Err(ended);
                }
                let cause = ended.error().source().map(ToString::to_string);
                PublishError::ProgressStore(cause.unwrap_or_default().into())
            }
            error => error,
        };
        match error.failure() {
            Failure::RateLimited { scope, wait } => {
                let wait = wait.unwrap_or(match scope {
                    LimitScope::Publishing => self.context.state().limits.quota_wait,
                    LimitScope::Account | LimitScope::Application => DEFAULT_COOLDOWN,
                });
                self.limited(scope, wait, error).await
            }
            Failure::Blocked => {
                let account = &self.post.account_id;
                let begun = self.cooldowns.begin_block(account).await;
                let wait = begun.unwrap_or_else(|error| {
                    tracing::warn!(%error, %account, "a block could not be passed on to other workers");
                    BLOCK_PAUSE
                });
                match self.postpone(wait).await {
                    Some(postpone) => postpone,
                    None => self.fail(error.into()).await,
                }
            }
            Failure::Transient | Failure::NotReady | Failure::Unclassified
                if !self.job.is_last_attempt() =>
            {
                Err(JobError::retry(error))
            }
            // The last attempt must not fail a post that may be public: its status is read first.
            Failure::Transient | Failure::NotReady | Failure::Unclassified
                if self.notes.kept().may_be_public() =>
            {
                let wait = self.context.state().limits.longest_wait;
                match self.postpone(wait).await {
                    Some(postpone) => postpone,
                    None => self.fail(error.into()).await,
                }
            }
            Failure::Permanent
            | Failure::ExpiredToken
            | Failure::MissingPermission
            | Failure::Transient
            | Failure::NotReady
            | Failure::Unclassified => self.fail_with_remedy(error).await,
        }
    }

    /// Fails with what helps, where it is more than to change the post.
    async fn fail_with_remedy(&self, error: PublishError) -> JobResult<PublishedPost> {
        let remedy = match &error {
            PublishError::Graph(error) => error.remedy(),
            PublishError::Container(error) => error.remedy(),
            _ => None,
        };
        let stop = match remedy {
            None | Some(Remedy::ChangePost) => Stop::Publish(error),
            Some(remedy) => Stop::Remedied(error, remedy),
        };
        self.fail(stop).await
    }

    /// Leaves the account, or all of them, alone for `wait`, and the post until then.
    async fn limited(
        &self,
        scope: LimitScope,
        wait: Duration,
        error: PublishError,
    ) -> JobResult<PublishedPost> {
        let wait = wait.max(SHORTEST_COOLDOWN);
        self.cool_down(scope, &self.post.account_id, wait).await;
        match self.postpone(wait).await {
            Some(postpone) => postpone,
            None => self.fail(error.into()).await,
        }
    }

    /// Postpones the job without using an attempt. A post that has been postponed for too long fails,
    /// unless it may be public (`None`): then its status is read first.
    async fn postpone(&self, wait: Duration) -> Option<JobResult<PublishedPost>> {
        let limit = self.context.state().limits.postpone_max;
        let mut progress = self.notes.kept();
        let Some(since) = progress.postponed_since else {
            progress.postponed_since = Some(self.now());
            if let Err(error) = self.notes.keep(&progress).await {
                tracing::warn!(%error, post = self.post.post_id, "postponed, but not stored");
            }
            return Some(Ok(Outcome::DelayFor(wait)));
        };
        let passed = u64::try_from(self.now().saturating_sub(since)).unwrap_or(0);
        if Duration::from_millis(passed) < limit {
            return Some(Ok(Outcome::DelayFor(wait)));
        }
        if self.notes.kept().may_be_public() {
            return None;
        }
        Some(self.fail(Stop::PostponedTooLong(limit)).await)
    }

    /// Fails the job for good. The verdict is stored before the user is notified, so that a run
    /// after a crash in between ends the same way. Where it cannot be stored, the user is notified once
    /// the job is in the failed set, see [`watch_failures`](super::watch_failures).
    async fn fail(&self, stop: Stop) -> JobResult<PublishedPost> {
        let decided = matches!(stop, Stop::Decided(_));
        let stop = if self.notes.kept().may_be_public() && !decided {
            Stop::InDoubt(Box::new(stop))
        } else {
            stop
        };
        let reason = stop.to_string();
        let code = stop.code();
        if decided || self.note_verdict(code, &reason).await {
            notify_failed(self.job, self.context, code, &reason).await;
        }
        Err(JobError::fatal(stop))
    }

    async fn note_verdict(&self, code: NoticeCode, reason: &str) -> bool {
        let mut progress = self.notes.kept();
        // A retry by hand has new limits.
        progress.postponed_since = None;
        progress.token_wait = None;
        progress.lost_creations = 0;
        progress.verdict = Some(Verdict {
            attempts_made: self.job.attempts_made(),
            stalled: self.job.record().stalled,
            code,
            reason: reason.to_owned(),
        });
        let noted = self.notes.keep(&progress).await;
        if let Err(error) = &noted {
            tracing::warn!(%error, post = self.post.post_id, "failed, but the verdict was not stored");
        }
        noted.is_ok()
    }

    /// Shares the cooldowns that the API asked for with all workers.
    async fn throttle(&self, account: &AccountId, throttle: Throttle) {
        for (scope, wait) in [
            (LimitScope::Account, throttle.account),
            (LimitScope::Application, throttle.application),
        ] {
            if !wait.is_zero() {
                self.cool_down(scope, account, wait).await;
            }
        }
    }

    /// Without the cooldown other jobs call the API and are refused.
    async fn cool_down(&self, scope: LimitScope, account: &AccountId, wait: Duration) {
        if let Err(error) = self.cooldowns.begin(scope, account, wait).await {
            tracing::warn!(%error, %account, "a limit could not be passed on to other workers");
        }
    }

    fn now(&self) -> i64 {
        self.context.client().clock().now().as_millis()
    }
}

fn claim(job: &Job<Value>, what: &str) -> String {
    format!("{QUEUE}:{}:{what}", job_mark(job))
}

/// Notifies the user once that the job has failed for good.
async fn notify_failed(
    job: &Job<Value>,
    context: &Context<Publisher>,
    code: NoticeCode,
    reason: &str,
) {
    let failed = Failed {
        mark: &job_mark(job),
        data: job.data(),
        code,
        reason,
        at: context.client().clock().now().as_millis(),
    };
    let notifier = Notifier::new(context.client().clone());
    if let Err(error) = failed.notify(&notifier).await {
        tracing::warn!(%error, id = %job.id(), "failed, but the user is not notified yet");
    }
}

/// A job that has failed for good, as far as its data can be read.
#[derive(Debug)]
pub(super) struct Failed<'a> {
    pub(super) mark: &'a str,
    pub(super) data: &'a Value,
    pub(super) code: NoticeCode,
    pub(super) reason: &'a str,
    pub(super) at: i64,
}

impl Failed<'_> {
    /// Notifies its user once, if its data names one.
    pub(super) async fn notify(&self, notifier: &Notifier) -> Result<(), BoxError> {
        let text = |field: &str| {
            let value = self.data.get(field).and_then(Value::as_str);
            value.map(str::to_owned)
        };
        let Some(user) = text("userId") else {
            tracing::warn!(
                job = self.mark,
                "failed, and its data names no user to notify"
            );
            return Ok(());
        };
        let notice = PostNotice::Failed {
            post_id: text("postId"),
            account_id: text("accountId"),
            code: self.code,
            reason: self.reason.chars().take(LONGEST_REASON).collect(),
            at: self.at,
        };
        let claim = format!("{QUEUE}:{}:failed", self.mark);
        notifier.notify_once(&claim, &user, &notice).await?;
        Ok(())
    }
}
