//! What becomes of a job when an attempt ends (spec: processing §8 to §10).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{JobError, JobRecord, Outcome, Retention};
use crate::policy::backoff;

/// How many jobs one job's end deletes by age where the option says nothing.
const AGE_LIMIT: i64 = 1000;
/// Longest stored list of stack traces where the option says nothing.
const STACK_TRACES_MAX: usize = 50;

/// What a finished set keeps, in the terms of `lua/lib/retention.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// How many of the newest jobs; -1: all, 0: not even this one.
    pub(crate) count: i64,
    /// How long, in milliseconds; -1: for ever.
    pub(crate) age: i64,
    /// How many jobs one end may delete by age.
    pub(crate) limit: i64,
}

impl Keep {
    /// Keeps every job.
    pub(crate) const ALL: Self = Self {
        count: -1,
        age: -1,
        limit: AGE_LIMIT,
    };

    /// Reads the job's own setting, else the worker's, else keeps everything.
    fn of(job: Option<&Retention>, worker: Option<&Retention>) -> Self {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (count, age, limit) = match job.or(worker) {
            None | Some(Retention::KeepAll) => (-1, -1, AGE_LIMIT),
            Some(Retention::Remove) => (0, -1, AGE_LIMIT),
            Some(Retention::KeepLast(count)) => (number(*count), -1, AGE_LIMIT),
            Some(Retention::Bounded { count, age, limit }) => (
                count.map_or(-1, number),
                age.map_or(-1, |age| number(age.as_secs().saturating_mul(1000))),
                limit.map_or(AGE_LIMIT, number),
            ),
        };
        Self { count, age, limit }
    }
}

/// What an ended attempt writes: one verb of `lua/advance.lua` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The job completed with this JSON value.
    Complete { value: String, keep: Keep },
    /// The job failed for good.
    Fail {
        reason: String,
        traces: String,
        keep: Keep,
        attempts: u32,
    },
    /// The attempt failed; the job runs again at once.
    Retry {
        reason: String,
        traces: String,
        next: bool,
    },
    /// The attempt failed; the job runs again after a wait.
    Backoff {
        reason: String,
        traces: String,
        delay: Duration,
    },
    /// The job runs again later, by its own wish.
    Park { delay: Duration },
    /// The job goes back to be the next to run.
    Release,
    /// The job waits for its children.
    WaitForChildren,
}

/// The settings of a worker that decide how attempts end.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerRules {
    pub(crate) remove_on_complete: Option<Retention>,
    pub(crate) remove_on_fail: Option<Retention>,
    /// How often a job may be started; `None`: any number.
    pub(crate) max_started: Option<u32>,
}

/// One attempt, as it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    pub(crate) job: &'a JobRecord,
    pub(crate) rules: &'a WorkerRules,
}

/// How an attempt ended, as the worker saw it.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    /// The handler returned; the value is JSON text.
    Returned(Outcome<String>),
    /// The handler failed, panicked, timed out or was never run.
    Failed(JobError),
}

/// The answer of a custom backoff strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CustomWait {
    /// Try again after this wait.
    Retry(Duration),
    /// Do not try again.
    GiveUp,
}

/// Decides what the end of an attempt writes. `custom_wait` is the custom strategy's answer for
/// this failure, `None` when there is no such strategy.
pub(crate) fn settle(
    attempt: Attempt<'_>,
    end: &AttemptEnd,
    now: Timestamp,
    random: f64,
    custom_wait: Option<CustomWait>,
) -> Ending {
    let Attempt { job, rules } = attempt;
    let options = &job.options;
    match end {
        AttemptEnd::Returned(Outcome::Done(value)) => Ending::Complete {
            value: value.clone(),
            keep: Keep::of(
                options.remove_on_complete.as_ref(),
                rules.remove_on_complete.as_ref(),
            ),
        },
        AttemptEnd::Returned(Outcome::DelayFor(delay)) => Ending::Park { delay: *delay },
        AttemptEnd::Returned(Outcome::DelayUntil(at)) => Ending::Park {
            delay: at.since(now),
        },
        AttemptEnd::Returned(Outcome::Release | Outcome::RateLimited(_)) => Ending::Release,
        AttemptEnd::Returned(Outcome::WaitForChildren) => Ending::WaitForChildren,
        AttemptEnd::Failed(error) => {
            let attempts = options.attempts.unwrap_or(0);
            let ended = job.attempts_made.saturating_add(1);
            let started_out = rules
                .max_started
                .is_some_and(|max| max > 0 && max <= job.attempts_started);
            let wait = backoff::wait(options.backoff.as_ref(), ended, random)
                .map(CustomWait::Retry)
                .or(custom_wait);
            let mut reason = error.reason();
            if wait.is_none() && ended < attempts && !error.is_fatal() {
                reason = format!("{reason} (not retried: unknown backoff strategy)");
            }
            let traces = traces(job, error);
            match wait {
                Some(CustomWait::Retry(delay))
                    if ended < attempts && !error.is_fatal() && !started_out =>
                {
                    if delay.as_millis() == 0 {
                        Ending::Retry {
                            reason,
                            traces,
                            next: options.lifo == Some(true),
                        }
                    } else {
                        Ending::Backoff {
                            reason,
                            traces,
                            delay,
                        }
                    }
                }
                _ => Ending::Fail {
                    reason,
                    traces,
                    keep: Keep::of(
                        options.remove_on_fail.as_ref(),
                        rules.remove_on_fail.as_ref(),
                    ),
                    attempts,
                },
            }
        }
    }
}

/// Returns the job's stack traces with the new one, the newest last, as a JSON array.
fn traces(job: &JobRecord, error: &JobError) -> String {
    let limit = job
        .options
        .stack_trace_limit
        .map_or(STACK_TRACES_MAX, |limit| limit as usize);
    let newest = error.trace();
    let all: Vec<&str> = job
        .stack_traces
        .iter()
        .map(String::as_str)
        .chain([newest.as_str()])
        .collect();
    let kept = all.get(all.len().saturating_sub(limit)..).unwrap_or(&[]);
    serde_json::to_string(kept).unwrap_or_else(|_| "[]".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Backoff, JobId, JobOptions};

    fn job(options: JobOptions, made: u32, started: u32) -> JobRecord {
        JobRecord {
            options,
            attempts_made: made,
            attempts_started: started,
            ..JobRecord::empty(JobId::existing("1"))
        }
    }

    fn fail(job: &JobRecord, rules: &WorkerRules, error: JobError) -> Ending {
        let attempt = Attempt { job, rules };
        settle(
            attempt,
            &AttemptEnd::Failed(error),
            Timestamp::from_millis(0),
            0.5,
            None,
        )
    }

    /// A retry happens while attempts are left, and never after a fatal error.
    #[test]
    fn attempts_and_fatal_errors_decide_about_retries() {
        let rules = WorkerRules::default();
        let three = JobOptions::new().attempts(3);
        let first = job(three.clone(), 0, 1);
        let last = job(three.clone(), 2, 3);
        assert!(matches!(
            fail(&first, &rules, JobError::retry("x")),
            Ending::Retry { .. }
        ));
        assert!(matches!(
            fail(&last, &rules, JobError::retry("x")),
            Ending::Fail { attempts: 3, .. }
        ));
        assert!(matches!(
            fail(&first, &rules, JobError::fatal("x")),
            Ending::Fail { .. }
        ));
        let limited = WorkerRules {
            max_started: Some(1),
            ..WorkerRules::default()
        };
        assert!(matches!(
            fail(&first, &limited, JobError::retry("x")),
            Ending::Fail { .. }
        ));
        let slow = job(
            three.backoff(Backoff::fixed(Duration::from_millis(500))),
            0,
            1,
        );
        assert!(
            matches!(fail(&slow, &rules, JobError::retry("x")), Ending::Backoff { delay, .. } if delay.as_millis() == 500)
        );
    }

    /// A strategy that nobody knows must not leave the job active for ever.
    #[test]
    fn unknown_strategy_fails_the_job_and_says_so() {
        let options = JobOptions::new()
            .attempts(3)
            .backoff(Backoff::custom("mine"));
        let ending = fail(
            &job(options, 0, 1),
            &WorkerRules::default(),
            JobError::retry("boom"),
        );
        assert!(
            matches!(ending, Ending::Fail { reason, .. } if reason.contains("boom") && reason.contains("strategy"))
        );
    }

    #[test]
    fn stack_traces_keep_the_newest() {
        let mut failed = job(JobOptions::new().attempts(9).stack_trace_limit(2), 2, 3);
        failed.stack_traces = vec!["one".into(), "two".into()];
        let third = JobError::retry("three").at(None);
        let Ending::Retry { traces, .. } = fail(&failed, &WorkerRules::default(), third) else {
            panic!("must be retried");
        };
        assert_eq!(traces, r#"["two","Error: three"]"#);
        failed.options.stack_trace_limit = Some(0);
        assert!(
            matches!(fail(&failed, &WorkerRules::default(), JobError::retry("x")), Ending::Retry { traces, .. } if traces == "[]")
        );
    }

    #[test]
    fn retention_prefers_the_job_over_the_worker() {
        let worker = Retention::KeepLast(1);
        let keep = |job: Option<&Retention>| Keep::of(job, Some(&worker));
        assert_eq!(keep(None).count, 1);
        assert_eq!(keep(Some(&Retention::KeepAll)).count, -1);
        assert_eq!(keep(Some(&Retention::Remove)).count, 0);
        let bounded = Retention::Bounded {
            count: None,
            age: Some(Duration::from_secs(5)),
            limit: None,
        };
        assert_eq!(
            keep(Some(&bounded)),
            Keep {
                count: -1,
                age: 5000,
                limit: 1000
            }
        );
    }
}
