//! What is stored when an attempt is over (`docs/protocol.md#ends-of-attempts`).

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::{Backoff, JobError, JobRecord, Outcome, Retention};
use crate::policy::backoff;

/// How many jobs one job's end deletes by age where the option sets no limit.
const AGE_LIMIT: i64 = 1000;
/// Longest stored list of stack traces where the option sets no limit.
const STACK_TRACES_MAX: usize = 50;
/// The shortest wait of a job that is postponed, and how much longer it may be.
const POSTPONED_MIN: Duration = Duration::from_millis(2500);
const POSTPONED_SPREAD: Duration = Duration::from_secs(5);

/// What a finished set keeps, in the terms of `lua/lib/retention.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keep {
    /// How many of the newest jobs; -1: all, 0: not even this one.
    pub(crate) count: i64,
    /// How long, in milliseconds; -1: no limit.
    pub(crate) age: i64,
    /// How many jobs one end may delete by age.
    pub(crate) limit: i64,
}

impl Keep {
    /// Reads the job's own setting, else the worker's, else keeps everything.
    fn of(job: Option<&Retention>, worker: Option<&Retention>) -> Self {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (count, age, limit) = match job.or(worker) {
            None | Some(Retention::KeepAll) => (-1, -1, AGE_LIMIT),
            Some(Retention::Remove) => (0, -1, AGE_LIMIT),
            Some(Retention::KeepLast(count)) => (number(*count), -1, AGE_LIMIT),
            Some(Retention::Bounded { count, age, limit }) => (
                count.map_or(-1, number),
                age.map_or(-1, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
                limit.map_or(AGE_LIMIT, number),
            ),
        };
        Self { count, age, limit }
    }
}

/// What is stored for an attempt: one verb of `lua/advance.lua` each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conclusion {
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
        /// Whether it runs before the jobs that wait.
        lifo: bool,
    },
    /// The attempt failed; the job runs again after a wait.
    Backoff {
        reason: String,
        traces: String,
        delay: Duration,
    },
    /// The job runs again later, as the handler asked.
    Park { delay: Duration },
    /// The job goes back to be the next to run.
    Release,
    /// The job waits for its children.
    WaitForChildren,
    /// The handler did not run: the job goes back as if it had not been started.
    Return,
    /// The job completed with this JSON value although its handler did not run.
    Skip { value: String, keep: Keep },
    /// The attempt could not be made: the job runs again later, as if it had not been started.
    Postpone { reason: String, delay: Duration },
}

impl Conclusion {
    /// How many bytes of a call this takes.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Complete { value, .. } | Self::Skip { value, .. } => value.len(),
            Self::Fail { traces, .. }
            | Self::Retry { traces, .. }
            | Self::Backoff { traces, .. } => traces.len(),
            Self::Park { .. }
            | Self::Release
            | Self::WaitForChildren
            | Self::Return
            | Self::Postpone { .. } => 0,
        }
    }
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

/// What the handler did, or what happened instead.
#[derive(Debug)]
pub(crate) enum AttemptOutcome {
    /// The handler returned; the value is JSON text.
    Returned(Outcome<String>),
    /// The handler failed, panicked or timed out, or the job may not run.
    Failed(Arc<JobError>),
    /// The handler did not run, and another worker is to run it.
    NotRun,
    /// The handler must not run, and the job is done with: the value is JSON text.
    Skipped(String),
}

impl AttemptOutcome {
    /// An attempt that failed.
    pub(crate) fn failed(error: JobError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

/// Returns why a job's handler must not run, if so (`docs/protocol.md#ends-of-attempts`).
pub(crate) fn preflight(job: &JobRecord, rules: &WorkerRules) -> Option<JobError> {
    if let Some(reason) = &job.deferred_failure {
        return Some(JobError::fatal(reason.clone()).at(None));
    }
    let max = rules.max_started.filter(|max| *max > 0)?;
    (job.attempts_started > max)
        .then(|| JobError::fatal("job started more than allowable limit").at(None))
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
pub(crate) fn conclude(
    attempt: Attempt<'_>,
    end: &AttemptOutcome,
    now: Timestamp,
    random: f64,
    custom_wait: Option<CustomWait>,
) -> Conclusion {
    let Attempt { job, rules } = attempt;
    let options = &job.options;
    let completed_keep = || {
        Keep::of(
            options.remove_on_complete.as_ref(),
            rules.remove_on_complete.as_ref(),
        )
    };
    match end {
        AttemptOutcome::Returned(Outcome::Done(value)) => Conclusion::Complete {
            value: value.clone(),
            keep: completed_keep(),
        },
        AttemptOutcome::Returned(Outcome::DelayFor(delay)) => Conclusion::Park {
            delay: bounded(*delay),
        },
        AttemptOutcome::Returned(Outcome::DelayUntil(at)) => Conclusion::Park {
            delay: bounded(at.since(now)),
        },
        AttemptOutcome::Returned(Outcome::Release | Outcome::RateLimited(_)) => Conclusion::Release,
        AttemptOutcome::Returned(Outcome::WaitForChildren) => Conclusion::WaitForChildren,
        AttemptOutcome::NotRun => Conclusion::Return,
        AttemptOutcome::Skipped(value) => Conclusion::Skip {
            value: value.clone(),
            keep: completed_keep(),
        },
        AttemptOutcome::Failed(error) if error.is_postponed() => Conclusion::Postpone {
            reason: error.reason(),
            delay: POSTPONED_MIN + POSTPONED_SPREAD.mul_f64(random.clamp(0.0, 1.0)),
        },
        AttemptOutcome::Failed(error) => {
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
                let name = options.backoff.as_ref().and_then(Backoff::strategy);
                let name = name.unwrap_or_default();
                reason = format!("{reason} (not retried: unknown backoff strategy {name:?})");
            }
            let traces = traces(job, error);
            match wait {
                Some(CustomWait::Retry(delay))
                    if ended < attempts && !error.is_fatal() && !started_out =>
                {
                    if delay.as_millis() == 0 {
                        Conclusion::Retry {
                            reason,
                            traces,
                            lifo: options.lifo == Some(true),
                        }
                    } else {
                        Conclusion::Backoff {
                            reason,
                            traces,
                            delay: bounded(delay),
                        }
                    }
                }
                _ => Conclusion::Fail {
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

/// Bounds a wait to what stays exact in the stored format, as the options of new jobs are.
fn bounded(delay: Duration) -> Duration {
    delay.min(Duration::from_millis(1 << 52))
}

/// Returns the job's stack traces with the new one, the newest last, as a JSON array. Older ones
/// stay as they are stored.
fn traces(job: &JobRecord, error: &JobError) -> String {
    let limit = job
        .options
        .stack_trace_limit
        .map_or(STACK_TRACES_MAX, |limit| limit as usize);
    let newest = serde_json::Value::from(error.trace()).to_string();
    let all: Vec<&str> = job
        .raw_stack_traces
        .iter()
        .map(String::as_str)
        .chain([newest.as_str()])
        .collect();
    let kept = all.get(all.len().saturating_sub(limit)..).unwrap_or(&[]);
    format!("[{}]", kept.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobOptions;

    fn job(options: JobOptions, made: u32, started: u32) -> JobRecord {
        JobRecord {
            options,
            attempts_made: made,
            attempts_started: started,
            ..JobRecord::new("1")
        }
    }

    fn fail(job: &JobRecord, rules: &WorkerRules, error: JobError) -> Conclusion {
        let attempt = Attempt { job, rules };
        conclude(
            attempt,
            &AttemptOutcome::failed(error),
            Timestamp::from_millis(0),
            0.5,
            None,
        )
    }

    /// A failed child has decided about its parent, and a job that was started too often may not run.
    #[test]
    fn handlers_do_not_run_for_jobs_that_are_bound_to_fail() {
        let twice = WorkerRules {
            max_started: Some(2),
            ..WorkerRules::default()
        };
        let reason = |job: &JobRecord, rules: &WorkerRules| {
            preflight(job, rules).map(|error| (error.reason(), error.is_fatal()))
        };
        let started = |times| job(JobOptions::new(), 0, times);
        assert_eq!(reason(&started(2), &twice), None);
        let limit = "job started more than allowable limit".to_owned();
        assert_eq!(reason(&started(3), &twice), Some((limit, true)));
        assert_eq!(reason(&started(3), &WorkerRules::default()), None);
        let mut parent = started(1);
        parent.deferred_failure = Some("child bull:q:1 failed".to_owned());
        let deferred = ("child bull:q:1 failed".to_owned(), true);
        assert_eq!(reason(&parent, &twice), Some(deferred));
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
            Conclusion::Retry { .. }
        ));
        assert!(matches!(
            fail(&last, &rules, JobError::retry("x")),
            Conclusion::Fail { attempts: 3, .. }
        ));
        assert!(matches!(
            fail(&first, &rules, JobError::fatal("x")),
            Conclusion::Fail { .. }
        ));
        let limited = WorkerRules {
            max_started: Some(1),
            ..WorkerRules::default()
        };
        assert!(matches!(
            fail(&first, &limited, JobError::retry("x")),
            Conclusion::Fail { .. }
        ));
        let slow = job(
            three.backoff(Backoff::fixed(Duration::from_millis(500))),
            0,
            1,
        );
        assert!(
            matches!(fail(&slow, &rules, JobError::retry("x")), Conclusion::Backoff { delay, .. } if delay.as_millis() == 500)
        );
    }

    /// What is not the job's fault uses none of its attempts, not even the last one.
    #[test]
    fn postponed_attempts_use_up_nothing() {
        let rules = WorkerRules {
            max_started: Some(1),
            ..WorkerRules::default()
        };
        let last = job(JobOptions::new(), 0, 1);
        let conclusion = fail(&last, &rules, JobError::postpone("redis is away"));
        assert!(
            matches!(&conclusion, Conclusion::Postpone { delay, .. } if *delay >= POSTPONED_MIN),
            "{conclusion:?}"
        );
    }

    /// An unregistered strategy must not leave the job active.
    #[test]
    fn unknown_strategy_fails_the_job_and_says_so() {
        let options = JobOptions::new()
            .attempts(3)
            .backoff(Backoff::custom("mine"));
        let conclusion = fail(
            &job(options, 0, 1),
            &WorkerRules::default(),
            JobError::retry("boom"),
        );
        assert!(
            matches!(conclusion, Conclusion::Fail { reason, .. } if reason == r#"boom (not retried: unknown backoff strategy "mine")"#)
        );
    }

    #[test]
    fn stack_traces_keep_the_newest() {
        let mut failed = job(JobOptions::new().attempts(9).stack_trace_limit(2), 2, 3);
        failed.raw_stack_traces = vec![r#""one""#.into(), r#""cut \ud83d""#.into()];
        let third = JobError::retry("three").at(None);
        let Conclusion::Retry { traces, .. } = fail(&failed, &WorkerRules::default(), third) else {
            panic!("must be retried");
        };
        assert_eq!(traces, r#"["cut \ud83d","Error: three"]"#);
        failed.options.stack_trace_limit = Some(0);
        assert!(
            matches!(fail(&failed, &WorkerRules::default(), JobError::retry("x")), Conclusion::Retry { traces, .. } if traces == "[]")
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
