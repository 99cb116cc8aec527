//! `lua/advance.lua`

use std::borrow::Cow;
use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Refusal, Result};
use crate::job::{JobId, JobRateLimit, JobRecord};
use crate::policy::{Conclusion, Keep};
use crate::resp::Value;
use crate::store::reply;
use crate::store::{Call, LockToken, Transition};
use crate::wire;

static SCRIPT: Script = lua!(
    "advance",
    uses: ["options", "events", "start"],
    rarely: {
        rest: {
            finish: ["codes", "gate", "marker", "place", "promote", "finish"]
                => [check_keys, emit_ended, finish_one],
            flows: ["gate", "marker", "place", "parent", "child"]
                => [find_parent, parent_of_completed, parent_of_failed, release_if_free, unlink_from_parent],
            dedups: ["gate", "marker", "place", "dedup", "dedup_end"] => [end_deduplication],
            retention: ["retention", "retention_rules"] => [apply_rules],
            minutes: ["metrics"] => [count_ended],
            taking: ["gate", "marker", "place", "promote", "rate", "take"]
                => [read_limits, start_jobs, wake_others],
        } ["job", "unlinking", "others", "results"]
            => [delete_ended, end_all, end_for_others, flows, minutes, retention, taking],
    },
);

/// The count that only a limit imposed by hand reaches.
const IMPOSED: u64 = 9_007_199_254_740_991;

/// The end of one attempt, to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptResult {
    pub(crate) job: JobId,
    pub(crate) token: LockToken,
    /// `ats` as of the activation that ended.
    pub(crate) starts: u32,
    /// `stc` as of that activation.
    pub(crate) stalls: u32,
    pub(crate) conclusion: Conclusion,
}

/// Ends attempts and starts next jobs, in one step.
pub(crate) struct Advance<'a> {
    pub(crate) now: Timestamp,
    /// How many jobs to start at most.
    pub(crate) take: usize,
    /// The lock token of the jobs started; a new one for each call.
    pub(crate) token: &'a LockToken,
    pub(crate) lock_duration: Duration,
    pub(crate) worker_name: Option<&'a str>,
    pub(crate) limit: Option<JobRateLimit>,
    /// Whether a limit imposed by hand holds although no other limit is known.
    pub(crate) respect_imposed: bool,
    /// Data points of the per-minute metrics; 0: off.
    pub(crate) metrics: u32,
    pub(crate) results: &'a [&'a AttemptResult],
    /// Whether the results may have been stored by an earlier call whose answer was lost.
    pub(crate) again: bool,
}

/// What an `advance` did.
#[derive(Debug)]
pub(crate) struct Advanced {
    /// Per result, in order.
    pub(crate) codes: Vec<SettlementReply>,
    /// The jobs that have become active.
    pub(crate) started: Vec<JobRecord>,
    pub(crate) next: Next,
    /// How many ids without a job were dropped.
    pub(crate) dangling: i64,
    /// Retention left to do.
    pub(crate) backlog: Vec<Trim>,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettlementReply {
    /// Stored, now or by an earlier execution of the call.
    Stored,
    /// The reply was lost and the job has been activated since: whether the result was stored is unknown.
    Unknown,
    /// Not stored yet, because very many jobs are active: the result is to be sent again.
    TryAgain,
    Refused(Refusal),
}

/// What to do after an `advance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask again, there may be more.
    More,
    /// The rate limit is reached for this long.
    Limited(Duration),
    /// The queue is paused or at its global concurrency.
    Blocked,
    /// Nothing is ready before this time.
    At(Timestamp),
    /// Nothing is ready.
    Empty,
    /// No job was asked for.
    Idle,
}

/// Retention that is left to do in a finished set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trim {
    /// `completed` or `failed`.
    pub(crate) set: String,
    pub(crate) count: i64,
    pub(crate) age: i64,
    pub(crate) limit: i64,
}

impl Transition for Advance<'_> {
    const SCRIPT: &'static Script = &SCRIPT;
    // Settled by the worker: results are asked for again, started jobs are searched by token.
    const SAFETY: Repeat = Repeat::Once;
    type Reply = Advanced;

    fn write(&self, call: &mut Call<'_>) {
        call.arg(self.now.as_millis())
            .arg(self.take)
            .arg(self.token.as_str())
            .millis(self.lock_duration)
            .arg(self.options())
            .arg(self.results.len());
        let in_full = self.again || !self.results.iter().all(|result| is_complete(result));
        for result in self.results {
            self.write_result(call, result, in_full);
        }
    }

    fn read(&self, reply: Value) -> Result<Advanced> {
        const WHAT: &str = "advance";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let mut part = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
        let next = reply::text(part()?, WHAT)?;
        let value = reply::int(&part()?, WHAT)?;
        let next = match next.as_str() {
            "more" => Next::More,
            "limited" => Next::Limited(Duration::from_millis(u64::try_from(value).unwrap_or(0))),
            "blocked" => Next::Blocked,
            "at" => Next::At(Timestamp::from_millis(value)),
            "empty" => Next::Empty,
            "idle" => Next::Idle,
            _ => return Err(reply::unexpected(WHAT)),
        };
        let dangling = reply::int(&part()?, WHAT)?;
        let unfinished = reply::int(&part()?, WHAT)?;
        let codes = (0..self.results.len())
            .map(|_| {
                Ok(match reply::int(&part()?, WHAT)? {
                    0 | 1 => SettlementReply::Stored,
                    2 => SettlementReply::Unknown,
                    3 => SettlementReply::TryAgain,
                    code => SettlementReply::Refused(Refusal::from_code(code)),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let backlog = (0..unfinished)
            .map(|_| {
                Ok(Trim {
                    set: reply::text(part()?, WHAT)?,
                    count: reply::int(&part()?, WHAT)?,
                    age: reply::int(&part()?, WHAT)?,
                    limit: reply::int(&part()?, WHAT)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let mut started = read_started(parts, WHAT)?;
        // The script answers with the hash as it was before the start.
        for job in &mut started {
            job.attempts_started = job.attempts_started.saturating_add(1);
            job.processed_on = Some(self.now);
        }
        Ok(Advanced {
            codes,
            started,
            next,
            dangling,
            backlog,
        })
    }
}

impl Advance<'_> {
    /// What is asked for besides, in the form of the script's header: nothing, by most calls.
    fn options(&self) -> String {
        let limit = match self.limit {
            Some(limit) => format!("{}:{}", limit.max, limit.window_millis()),
            None if self.respect_imposed => format!("{IMPOSED}:"),
            None if !self.again && self.metrics == 0 && self.worker_name.is_none() => {
                return String::new();
            }
            None => ":".to_owned(),
        };
        let (again, name) = (u8::from(self.again), self.worker_name.unwrap_or(""));
        format!("{again}:{}:{limit}:{name}", self.metrics)
    }

    /// Appends one result, in the order of the script's header: five values, or seven `in_full`, and two more when it is
    /// sent again.
    fn write_result(&self, call: &mut Call<'_>, result: &AttemptResult, in_full: bool) {
        let mut traces = "";
        let mut attempts = 0;
        let (verb, value, detail) = match &result.conclusion {
            Conclusion::Complete { value, keep } => ("complete", value.as_str(), kept(*keep)),
            Conclusion::Skip { value, keep } => ("skip", value.as_str(), kept(*keep)),
            Conclusion::Fail {
                reason,
                traces: stack,
                keep,
                attempts: made,
            } => {
                attempts = *made;
                traces = stack;
                ("fail", reason.as_str(), kept(*keep))
            }
            Conclusion::Retry {
                reason,
                traces: stack,
                lifo,
            } => {
                traces = stack;
                let verb = if *lifo { "retry_next" } else { "retry" };
                (verb, reason.as_str(), Cow::Borrowed(""))
            }
            Conclusion::Backoff {
                reason,
                traces: stack,
                delay,
            } => {
                traces = stack;
                ("backoff", reason.as_str(), delayed(*delay))
            }
            Conclusion::Park { delay } => ("park", "", delayed(*delay)),
            Conclusion::Postpone { delay, .. } => ("postpone", "", delayed(*delay)),
            Conclusion::Release => ("release", "", Cow::Borrowed("")),
            Conclusion::WaitForChildren => ("children", "", Cow::Borrowed("")),
            Conclusion::Return => ("return", "", Cow::Borrowed("")),
        };
        call.arg(verb)
            .arg(result.job.as_bytes())
            .arg(result.token.as_str())
            .arg(value)
            .arg(&*detail);
        if in_full {
            call.arg(traces).arg(attempts);
        }
        if self.again {
            call.arg(result.starts).arg(result.stalls);
        }
    }
}

fn is_complete(result: &AttemptResult) -> bool {
    matches!(result.conclusion, Conclusion::Complete { .. })
}

/// Encodes what to keep of a finished set, in the form of the script's header.
fn kept(keep: Keep) -> Cow<'static, str> {
    match keep {
        Keep { count: 0, .. } => Cow::Borrowed("0"),
        Keep { count, age, .. } if count < 0 && age < 0 => Cow::Borrowed(""),
        Keep { count, age, limit } => Cow::Owned(format!("{count}:{age}:{limit}")),
    }
}

fn delayed(delay: Duration) -> Cow<'static, str> {
    Cow::Owned(delay_millis(delay).to_string())
}

fn delay_millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

/// Reads started jobs: id, hash, id, hash, …
pub(crate) fn read_started(
    mut parts: impl ExactSizeIterator<Item = Value>,
    what: &str,
) -> Result<Vec<JobRecord>> {
    let mut started = Vec::with_capacity(parts.len() / 2);
    while let (Some(id), Some(hash)) = (parts.next(), parts.next()) {
        let id = reply::id(id, what)?;
        started.push(wire::decode_record(id, reply::fields(hash, what)?));
    }
    Ok(started)
}
