//! `lua/advance.lua`

use std::time::Duration;

use crate::client::lua;
use crate::client::{Repeat, Script};
use crate::clock::Timestamp;
use crate::error::{Refusal, Result};
use crate::job::{JobId, JobRateLimit, JobRecord};
use crate::policy::{Ending, Keep};
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
pub(crate) struct Ended {
    pub(crate) job: JobId,
    pub(crate) token: LockToken,
    /// `ats` as of the activation that ended.
    pub(crate) starts: u32,
    /// `stc` as of that activation.
    pub(crate) stalls: u32,
    pub(crate) ending: Ending,
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
    pub(crate) obey: bool,
    /// Data points of the per-minute metrics; 0: off.
    pub(crate) metrics: u32,
    pub(crate) results: &'a [&'a Ended],
    /// Whether the results may have been stored by an earlier call whose answer was lost.
    pub(crate) again: bool,
}

/// What an `advance` did.
#[derive(Debug)]
pub(crate) struct Advanced {
    /// Per result, in order.
    pub(crate) codes: Vec<FinishCode>,
    pub(crate) started: Vec<Started>,
    pub(crate) next: Next,
    /// How many ids without a job were dropped.
    pub(crate) ghosts: i64,
    /// Retention left to do.
    pub(crate) backlog: Vec<Trim>,
}

/// What became of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishCode {
    /// Stored, now or by an earlier execution of the call.
    Stored,
    /// The job has moved on so far that nobody can tell any more.
    Superseded,
    /// Left for another call: very many jobs are active.
    NotLookedAt,
    Refused(Refusal),
}

/// A job that has become active.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) record: JobRecord,
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
            .arg(millis(self.lock_duration))
            .arg(self.worker_name.unwrap_or(""));
        match self.limit {
            Some(limit) => call.arg(limit.max).arg(limit.window_millis()),
            None if self.obey => call.arg(IMPOSED).arg(""),
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
                    0 | 1 => FinishCode::Stored,
                    2 => FinishCode::Superseded,
                    3 => FinishCode::NotLookedAt,
                    code => FinishCode::Refused(Refusal::from_code(code)),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        if codes.len() != self.results.len() {
            return Err(reply::unexpected(WHAT));
        }
        let mut started = read_started(part()?, WHAT)?;
        // The script answers with the hash as it was before the start.
        for job in &mut started {
            job.record.attempts_started = job.record.attempts_started.saturating_add(1);
            job.record.processed_on = Some(self.now);
        }
        let next = reply::text(part()?, WHAT)?;
        let value = reply::int(&part()?, WHAT)?;
        let next = match next.as_str() {
            "more" => Next::More,
            "limited" => Next::Limited(Duration::from_millis(u64::try_from(value).unwrap_or(0))),
            "closed" => Next::Blocked,
            "at" => Next::At(Timestamp::from_millis(value)),
            "empty" => Next::Empty,
            "idle" => Next::Idle,
            _ => return Err(reply::unexpected(WHAT)),
        };
        let ghosts = reply::int(&part()?, WHAT)?;
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
            ghosts,
            backlog,
        })
    }
}

/// Appends one result: eleven values, in the order of the script's header.
fn write_result(call: &mut Call<'_>, result: &Ended) {
    const NO_KEEP: Keep = Keep {
        count: 0,
        age: -1,
        limit: 0,
    };
    let (verb, value, traces, number, keep, attempts) = match &result.ending {
        Ending::Complete { value, keep } => ("complete", value.as_str(), "", keep.count, *keep, 0),
        Ending::Skip { value, keep } => ("skip", value.as_str(), "", keep.count, *keep, 0),
        Ending::Fail {
            reason,
            traces,
            keep,
            attempts,
        } => (
            "fail",
            reason.as_str(),
            traces.as_str(),
            keep.count,
            *keep,
            *attempts,
        ),
        Ending::Retry {
            reason,
            traces,
            next,
        } => (
            "retry",
            reason.as_str(),
            traces.as_str(),
            i64::from(*next),
            NO_KEEP,
            0,
        ),
        Ending::Backoff {
            reason,
            traces,
            delay,
        } => (
            "backoff",
            reason.as_str(),
            traces.as_str(),
            delay_millis(*delay),
            NO_KEEP,
            0,
        ),
        Ending::Park { delay } => ("park", "", "", delay_millis(*delay), NO_KEEP, 0),
        Ending::Release => ("release", "", "", 0, NO_KEEP, 0),
        Ending::WaitForChildren => ("children", "", "", 0, NO_KEEP, 0),
        Ending::Return => ("return", "", "", 0, NO_KEEP, 0),
        Ending::Postpone { delay, .. } => ("postpone", "", "", delay_millis(*delay), NO_KEEP, 0),
    };
    call.arg(result.job.as_bytes())
        .arg(result.token.as_str())
        .arg(result.starts)
        .arg(result.stalls)
        .arg(verb)
        .arg(value)
        .arg(traces)
        .arg(number)
        .arg(keep.age)
        .arg(keep.limit)
        .arg(attempts);
}

fn delay_millis(delay: Duration) -> i64 {
    i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
}

/// Reads started jobs: id, hash, id, hash, …
pub(crate) fn read_started(reply: Value, what: &str) -> Result<Vec<Started>> {
    let mut parts = reply::items(reply, what)?.into_iter();
    let mut started = Vec::with_capacity(parts.len() / 2);
    while let (Some(id), Some(hash)) = (parts.next(), parts.next()) {
        let id = reply::id(id, what)?;
        let record = wire::decode_record(id, reply::fields(hash, what)?);
        started.push(Started { record });
    }
    Ok(started)
}
