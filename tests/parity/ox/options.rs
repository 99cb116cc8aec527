//! Options in the form in which BullMQ's users write them, as this library's own.

use std::time::Duration;

use oxbull::{
    Backoff, ChildPolicy, Deduplication, JobId, JobOptions, Parent, Retention, Schedule, Telemetry,
    Timestamp,
};
use oxbull_testkit::TestResult;
use serde_json::Value;

/// Reads job options from the form in which BullMQ's users write them.
pub(super) fn options(opts: &Value) -> TestResult<JobOptions> {
    Ok(options_and_policy(opts)?.0)
}

/// As above, with what the job's failure does to its parent.
pub(super) fn options_and_policy(opts: &Value) -> TestResult<(JobOptions, ChildPolicy)> {
    let mut options = JobOptions::new();
    let mut policy = ChildPolicy::Wait;
    let mut parent = None;
    for (name, value) in opts.as_object().into_iter().flatten() {
        options = match name.as_str() {
            "jobId" => options.id(JobId::new(text(value)?)?),
            "delay" => options.delay(millis(value)?),
            "priority" => options.priority(u32::try_from(number(value)?)?),
            "lifo" => {
                options.lifo = Some(value == true);
                options
            }
            "attempts" => options.attempts(u32::try_from(number(value)?)?),
            "backoff" => options.backoff(backoff(value)?),
            "removeOnComplete" => options.remove_on_complete(retention(value)?),
            "removeOnFail" => options.remove_on_fail(retention(value)?),
            "keepLogs" => options.keep_logs(u32::try_from(number(value)?)?),
            "stackTraceLimit" => options.stack_trace_limit(u32::try_from(number(value)?)?),
            "sizeLimit" => options.size_limit(usize::try_from(number(value)?)?),
            "timestamp" => {
                options.timestamp(Timestamp::from_millis(i64::try_from(number(value)?)?))
            }
            "deduplication" => options.deduplication(deduplication(value)?),
            "telemetry" => {
                let telemetry = match value["metadata"].as_str() {
                    Some(metadata) => Telemetry::new(metadata),
                    None => Telemetry::default(),
                };
                let mut telemetry = telemetry;
                telemetry.omit_context = value["omitContext"].as_bool();
                options.telemetry(telemetry)
            }
            _ => {
                match name.as_str() {
                    "parent" => {
                        let id = JobId::existing(text(&value["id"])?);
                        parent = Some(Parent::new(text(&value["queue"])?, id));
                    }
                    "failParentOnFailure" => policy = ChildPolicy::FailParent,
                    "continueParentOnFailure" => policy = ChildPolicy::ContinueParent,
                    "ignoreDependencyOnFailure" => policy = ChildPolicy::Ignore,
                    "removeDependencyOnFailure" => policy = ChildPolicy::Remove,
                    _ => return Err(format!("no such option: {name}").into()),
                }
                options
            }
        };
    }
    let options = match parent {
        Some(parent) => options.parent(parent.on_failure(policy)),
        None => options,
    };
    Ok((options, policy))
}

fn deduplication(value: &Value) -> TestResult<Deduplication> {
    let set = |name: &str| value[name] == true;
    let mut deduplication = Deduplication::new(text(&value["id"])?);
    deduplication.extend = set("extend");
    deduplication.keep_last_if_active = set("keepLastIfActive");
    let deduplication = match (set("replace"), set("reschedule")) {
        (true, _) => deduplication.replace(),
        (false, true) => deduplication.reschedule(),
        (false, false) => deduplication,
    };
    Ok(match value.get("ttl") {
        Some(ttl) => deduplication.ttl(millis(ttl)?),
        None => deduplication,
    })
}

/// Reads a schedule from the form in which BullMQ's users write it.
pub(super) fn schedule(repeat: &Value) -> TestResult<Schedule> {
    let mut schedule = match &repeat["pattern"] {
        Value::String(pattern) => Schedule::cron(pattern),
        _ => Schedule::every(millis(&repeat["every"])?),
    };
    for (name, value) in repeat.as_object().into_iter().flatten() {
        let at = || TestResult::Ok(Timestamp::from_millis(i64::try_from(number(value)?)?));
        schedule = match name.as_str() {
            "every" | "pattern" => schedule,
            "tz" => schedule.time_zone(text(value)?),
            "limit" => schedule.limit(number(value)?),
            "startDate" => schedule.start(at()?),
            "endDate" => schedule.end(at()?),
            "offset" => schedule.offset(millis(value)?),
            "immediately" => {
                schedule.immediately = value == true;
                schedule
            }
            "hashSeed" => schedule.hash_seed(text(value)?),
            _ => return Err(format!("no such repeat option: {name}").into()),
        };
    }
    Ok(schedule)
}

fn backoff(value: &Value) -> TestResult<Backoff> {
    if value.is_number() {
        return Ok(Backoff::fixed(millis(value)?));
    }
    let backoff = match text(&value["type"])? {
        "fixed" => Backoff::fixed(millis(&value["delay"])?),
        "exponential" => Backoff::exponential(millis(&value["delay"])?),
        name => Backoff::custom(name),
    };
    Ok(match value["jitter"].as_f64() {
        Some(jitter) => backoff.jitter(jitter),
        None => backoff,
    })
}

pub(super) fn retention(value: &Value) -> TestResult<Retention> {
    Ok(match value {
        Value::Bool(true) => Retention::Remove,
        Value::Bool(false) => Retention::KeepAll,
        Value::Number(_) => Retention::KeepLast(number(value)?),
        _ => Retention::Bounded {
            count: value["count"].as_u64(),
            age: value["age"].as_u64().map(Duration::from_secs),
            limit: value["limit"].as_u64(),
        },
    })
}

pub(super) fn text(value: &Value) -> TestResult<&str> {
    value
        .as_str()
        .ok_or_else(|| format!("{value} is no text").into())
}

pub(super) fn number(value: &Value) -> TestResult<u64> {
    value
        .as_u64()
        .ok_or_else(|| format!("{value} is not a whole number").into())
}

pub(super) fn millis(value: &Value) -> TestResult<Duration> {
    Ok(Duration::from_millis(number(value)?))
}
