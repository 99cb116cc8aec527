//! `lua/advance.lua`

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
    uses: [
        "codes",
        "events",
        "gate",
        "marker",
        "place",
        "job",
        "parent",
        "child",
        "dedup",
        "dedup_end",
        "retention",
        "metrics",
        "promote",
        "finish",
        "take",
        "rate"
    ]
);

/// How many bytes of job hashes one call takes before it stops: several calls then share what one
/// would hold up the server for.
const TAKE_BYTES: usize = 1 << 20;

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
            .arg(self.worker_name.unwrap_or(""));
        match self.limit {
            Some(limit) => call.arg(limit.max).arg(limit.window_millis()),
            None if self.respect_imposed => call.arg(IMPOSED).arg(""),
            None => call.arg("").arg(""),
        }
        .arg(self.metrics)
        .arg(TAKE_BYTES)
        .flag(self.again)
        .arg(self.results.len());
        for result in self.results {
            write_result(call, result);
        }
    }

    fn read(&self, reply: Value) -> Result<Advanced> {
        const WHAT: &str = "advance";
        let mut parts = reply::items(reply, WHAT)?.into_iter();
        let mut part = || parts.next().ok_or_else(|| reply::unexpected(WHAT));
        let codes = reply::items(part()?, WHAT)?
            .iter()
            .map(|code| {
                Ok(match reply::int(code, WHAT)? {
                    0 | 1 => SettlementReply::Stored,
                    2 => SettlementReply::Unknown,
                    3 => SettlementReply::TryAgain,
                    code => SettlementReply::Refused(Refusal::from_code(code)),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if codes.len() != self.results.len() {
            return Err(reply::unexpected(WHAT));
        }
        let mut started = read_started(part()?, WHAT)?;
        // The script answers with the hash as it was before the start.
        for job in &mut started {
            job.attempts_started = job.attempts_started.saturating_add(1);
            job.processed_on = Some(self.now);
        }
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
        let backlog = reply::items(part()?, WHAT)?
            .into_iter()
            .map(|trim| {
                let parts = reply::items(trim, WHAT)?;
                let [set, count, age, limit] = parts.as_slice() else {
                    return Err(reply::unexpected(WHAT));
                };
                Ok(Trim {
                    set: reply::text(set.clone(), WHAT)?,
                    count: reply::int(count, WHAT)?,
                    age: reply::int(age, WHAT)?,
                    limit: reply::int(limit, WHAT)?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Advanced {
            codes,
            started,
            next,
            dangling,
            backlog,
        })
    }
}

/// What the verb of a conclusion needs besides its texts; the script gets it as three numbers.
enum Detail {
    None,
    Delay(Duration),
    Keep(Keep),
}

/// Appends one result: eleven values, in the order of the script's header.
fn write_result(call: &mut Call<'_>, result: &AttemptResult) {
    let mut attempts = 0;
    let (verb, value, traces, detail) = match &result.conclusion {
        Conclusion::Complete { value, keep } => {
            ("complete", value.as_str(), "", Detail::Keep(*keep))
        }
        Conclusion::Skip { value, keep } => ("skip", value.as_str(), "", Detail::Keep(*keep)),
        Conclusion::Fail {
            reason,
            traces,
            keep,
            attempts: made,
        } => {
            attempts = *made;
            (
                "fail",
                reason.as_str(),
                traces.as_str(),
                Detail::Keep(*keep),
            )
        }
        Conclusion::Retry {
            reason,
            traces,
            lifo,
        } => (
            if *lifo { "retry_next" } else { "retry" },
            reason.as_str(),
            traces.as_str(),
            Detail::None,
        ),
        Conclusion::Backoff {
            reason,
            traces,
            delay,
        } => (
            "backoff",
            reason.as_str(),
            traces.as_str(),
            Detail::Delay(*delay),
        ),
        Conclusion::Park { delay } => ("park", "", "", Detail::Delay(*delay)),
        Conclusion::Postpone { delay, .. } => ("postpone", "", "", Detail::Delay(*delay)),
        Conclusion::Release => ("release", "", "", Detail::None),
        Conclusion::WaitForChildren => ("children", "", "", Detail::None),
        Conclusion::Return => ("return", "", "", Detail::None),
    };
    let (number, keep_age, keep_limit) = match detail {
        Detail::None => (0, -1, 0),
        Detail::Delay(delay) => (delay_millis(delay), -1, 0),
        Detail::Keep(keep) => (keep.count, keep.age, keep.limit),
    };
    call.arg(result.job.as_bytes())
        .arg(result.token.as_str())
        .arg(result.starts)
        .arg(result.stalls)
        .arg(verb)
        .arg(value)
        .arg(traces)
        .arg(number)
        .arg(keep_age)
        .arg(keep_limit)
        .arg(attempts);
}

fn delay_millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

/// Reads started jobs: id, hash, id, hash, …
pub(crate) fn read_started(reply: Value, what: &str) -> Result<Vec<JobRecord>> {
    let mut parts = reply::items(reply, what)?.into_iter();
    let mut started = Vec::with_capacity(parts.len() / 2);
    while let (Some(id), Some(hash)) = (parts.next(), parts.next()) {
        let id = reply::id(id, what)?;
        started.push(wire::decode_record(id, reply::fields(hash, what)?));
    }
    Ok(started)
}
