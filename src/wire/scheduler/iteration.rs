//! The options of iterations, and the schedule that they pass from one to the next.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{length, millis};
use crate::clock::Timestamp;
use crate::job::{JobId, JobOptions, Recurrence, Schedule, SchedulerRecord};
use crate::json;
use crate::wire::options::{finite, options_map, truthy, whole};

/// The options of an iteration to be made, as its script takes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Iteration {
    /// JSON text without `jobId`, `delay` and `prevMillis`, which the script adds.
    pub(crate) options: String,
    pub(crate) priority: i64,
    pub(crate) lifo: bool,
    pub(crate) deduplication: Option<String>,
}

impl Iteration {
    fn new(
        mut options: Map<String, Value>,
        scheduler: Option<&str>,
        repeat: Value,
        now: Timestamp,
    ) -> Self {
        for own in ["jobId", "delay", "prevMillis", "repeatJobKey"] {
            options.remove(own);
        }
        options.insert("repeat".to_owned(), repeat);
        options.insert("timestamp".to_owned(), now.as_millis().into());
        if let Some(scheduler) = scheduler {
            options.insert("repeatJobKey".to_owned(), scheduler.into());
        }
        let member = |name: &str| options.get(name);
        Self {
            priority: member("priority").and_then(finite).map_or(0, whole),
            lifo: member("lifo").is_some_and(truthy),
            deduplication: member("de")
                .and_then(|de| de.get("id"))
                .and_then(Value::as_str)
                .map(str::to_owned),
            options: Value::Object(options).to_string(),
        }
    }

    /// Returns the options as the script stores them.
    pub(crate) fn stored_options(
        &self,
        id: &JobId,
        delay: &str,
        previous: Option<Timestamp>,
    ) -> String {
        let previous = previous.map_or(String::new(), |at| format!(r#""prevMillis":{at},"#));
        let id = Value::from(id.as_str());
        let rest = self.options.strip_prefix('{').unwrap_or_default();
        format!(r#"{{"jobId":{id},"delay":{delay},{previous}{rest}"#)
    }

    /// Adds options that are JSON text.
    fn with(mut self, options: &BTreeMap<String, String>) -> Self {
        for (name, value) in options {
            self.options.pop();
            for part in [
                ",",
                &Value::from(name.as_str()).to_string(),
                ":",
                value,
                "}",
            ] {
                self.options.push_str(part);
            }
        }
        self
    }
}

/// Encodes the options of the iteration that an upsert makes: unlike later ones, it has what the
/// template says and nothing else.
pub(crate) fn first_iteration(
    template: &JobOptions,
    schedule: &Schedule,
    scheduler: &str,
    now: Timestamp,
) -> Iteration {
    let repeat = encode_repeat(schedule, 1);
    Iteration::new(options_map(template), Some(scheduler), repeat, now)
}

fn encode_repeat(schedule: &Schedule, count: u64) -> Value {
    let mut repeat = Map::new();
    let mut put = |name: &str, value: Value| {
        repeat.insert(name.to_owned(), value);
    };
    match &schedule.recurrence {
        Recurrence::Every(interval) => put("every", millis(*interval).into()),
        Recurrence::Cron(pattern) => put("pattern", pattern.as_str().into()),
    }
    if let Some(zone) = &schedule.time_zone {
        put("tz", zone.as_str().into());
    }
    if let Some(limit) = schedule.limit {
        put("limit", limit.into());
    }
    if let Some(start) = schedule.start {
        put("startDate", start.as_millis().into());
    }
    if let Some(end) = schedule.end {
        put("endDate", end.as_millis().into());
    }
    let interval = matches!(schedule.recurrence, Recurrence::Every(_));
    if let Some(offset) = schedule
        .offset
        .filter(|offset| interval && !offset.is_zero())
    {
        put("offset", millis(offset).into());
    }
    if let Some(seed) = &schedule.hash_seed {
        put("hashSeed", seed.as_str().into());
    }
    put("count", count.into());
    Value::Object(repeat)
}

/// What an iteration stores about the schedule it belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Repetition {
    pub(crate) schedule: Schedule,
    /// Which iteration it is, counted from the latest upsert.
    pub(crate) count: u64,
    /// Its occurrence, where it follows a pattern.
    pub(crate) previous: Option<Timestamp>,
    options: Map<String, Value>,
    pub(in crate::wire) repeat: Map<String, Value>,
    /// Options that are nested too deeply to be read, as JSON text.
    deep: BTreeMap<String, String>,
}

impl Repetition {
    /// Reads the options of an iteration.
    ///
    /// # Errors
    ///
    /// The member that is missing or does not decode.
    pub(crate) fn of_iteration(options: &str) -> Result<Self, String> {
        let Some((options, deep)) = json::object(options) else {
            return Err("opts: is not a JSON object".to_owned());
        };
        let Some(Value::Object(repeat)) = options.get("repeat") else {
            return Err("opts.repeat: is missing".to_owned());
        };
        let repeat = repeat.clone();
        let instant = |name: &str| instant(&repeat, name);
        let text = |name: &str| repeat.get(name).and_then(Value::as_str).map(str::to_owned);
        let mut schedule = match (optional(&repeat, "every")?, text("pattern")) {
            (Some(every), _) if every > 0 => Schedule::every(length(every)),
            (None, Some(pattern)) if !pattern.is_empty() => Schedule::cron(pattern),
            _ => return Err("opts.repeat: has neither every nor pattern".to_owned()),
        };
        schedule.time_zone = text("tz");
        schedule.limit = optional(&repeat, "limit")?.map(|limit| u64::try_from(limit).unwrap_or(0));
        schedule.start = instant("startDate")?;
        schedule.end = instant("endDate")?;
        schedule.offset = optional(&repeat, "offset")?.map(length);
        schedule.hash_seed = text("hashSeed");
        Ok(Self {
            schedule,
            count: optional(&repeat, "count")?.map_or(0, |count| u64::try_from(count).unwrap_or(0)),
            previous: optional(&options, "prevMillis")?.map(Timestamp::from_millis),
            options,
            repeat,
            deep,
        })
    }

    /// Stands in for an iteration that does not exist any more. It is counted as the last one that the
    /// scheduler has ever made, since the number of upserts in between is not known.
    ///
    /// # Errors
    ///
    /// What is missing in the definition.
    pub(crate) fn of_definition(scheduler: &SchedulerRecord) -> Result<Self, String> {
        if let Some(problem) = scheduler.problems.first() {
            return Err(problem.clone());
        }
        let mut schedule = scheduler
            .schedule()
            .ok_or_else(|| "has neither every nor pattern".to_owned())?;
        // What is stored there need not have been given, and the script knows it anyway.
        schedule.offset = None;
        let count = scheduler.iterations.unwrap_or(1);
        let repeat = encode_repeat(&schedule, count);
        let mut options = options_map(&scheduler.options);
        let unknown = scheduler.unknown_options.as_deref();
        let (unknown, deep) = unknown.and_then(json::object).unwrap_or_default();
        options.extend(unknown);
        Ok(Self {
            previous: matches!(schedule.recurrence, Recurrence::Cron(_)).then_some(scheduler.next),
            schedule,
            count,
            options,
            repeat: repeat.as_object().cloned().unwrap_or_default(),
            deep,
        })
    }

    /// Whether the limit allows no further iteration.
    pub(crate) fn is_last(&self) -> bool {
        self.schedule.limit.is_some_and(|limit| self.count >= limit)
    }

    /// Encodes the options of the iteration that has this count.
    pub(crate) fn iteration(&self, scheduler: &str, count: u64, now: Timestamp) -> Iteration {
        self.numbered(Some(scheduler), count, now)
    }

    /// Encodes the options of the next job of a repeatable job.
    pub(crate) fn next_repeatable(&self, now: Timestamp) -> Iteration {
        self.numbered(None, self.count.saturating_add(1), now)
    }

    fn numbered(&self, scheduler: Option<&str>, count: u64, now: Timestamp) -> Iteration {
        let mut options = self.options.clone();
        options.entry("attempts").or_insert_with(|| 0.into());
        if let Some(backoff @ Value::Number(_)) = options.get("backoff") {
            let backoff = json!({ "type": "fixed", "delay": backoff });
            options.insert("backoff".to_owned(), backoff);
        }
        let mut repeat = self.repeat.clone();
        repeat.insert("count".to_owned(), count.into());
        let iteration = Iteration::new(options, scheduler, Value::Object(repeat), now);
        iteration.with(&self.deep)
    }
}

/// Reads a time, where there is one: milliseconds, or as JavaScript writes a date into JSON.
fn instant(map: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, String> {
    if let Some(date) = map.get(name).and_then(Value::as_str)
        && let Ok(date) = date.parse::<jiff::Timestamp>()
    {
        return Ok(Some(Timestamp::from_millis(date.as_millisecond())));
    }
    Ok(optional(map, name)?.map(Timestamp::from_millis))
}

/// Reads a whole number, where there is one.
fn optional(map: &Map<String, Value>, name: &str) -> Result<Option<i64>, String> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match finite(value) {
            Some(number) => Ok(Some(whole(number))),
            None => Err(format!("opts.repeat.{name}: is not a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    const SEVENTH: &str = r#"{"repeat":{"every":60000,"count":7,"newer":{"a":[]}},"backoff":10,
        "jobId":"repeat:s:1","delay":4,"prevMillis":9,"priority":3,"de":{"id":"d"},"future":1.5}"#;

    /// What a newer version adds travels on; only what belongs to one iteration is replaced.
    #[test]
    fn next_iteration_inherits_what_it_does_not_know() {
        let seventh = Repetition::of_iteration(SEVENTH).unwrap();
        assert_eq!(seventh.count, 7);
        let eighth = seventh.iteration("s", 8, Timestamp::from_millis(5));
        assert_eq!(
            value(&eighth.options),
            json!({
                "repeat": {"every": 60000, "count": 8, "newer": {"a": []}},
                "backoff": {"type": "fixed", "delay": 10}, "attempts": 0, "priority": 3,
                "de": {"id": "d"}, "future": 1.5, "timestamp": 5, "repeatJobKey": "s",
            })
        );
        assert_eq!((eighth.priority, eighth.lifo), (3, false));
        assert_eq!(eighth.deduplication.as_deref(), Some("d"));
    }

    /// Neither depth nor half a surrogate pair ends a schedule. What scripts cannot decode is mended.
    #[test]
    fn next_iteration_inherits_what_cannot_be_read() {
        let deep = format!(r#"{}"\ud83d"{}"#, "[".repeat(500), "]".repeat(500));
        let options = format!(r#"{{"deep":{deep},"cut":"\ud83d","repeat":{{"every":5}}}}"#);
        let next = Repetition::of_iteration(&options).unwrap();
        let next = next.iteration("s", 2, Timestamp::from_millis(5)).options;
        let (read, kept) = json::object(&next).unwrap();
        assert_eq!(read["cut"], "\u{fffd}");
        assert_eq!(kept["deep"], deep.replace("ud83d", "ufffd"));
        assert!(!next.contains("ud83d"), "{next}");
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        for (options, problem) in [
            ("{}", "opts.repeat: is missing"),
            ("[]", "opts: is not a JSON object"),
            (
                r#"{"repeat":{}}"#,
                "opts.repeat: has neither every nor pattern",
            ),
            (
                r#"{"repeat":{"every":0}}"#,
                "opts.repeat: has neither every nor pattern",
            ),
            (
                r#"{"repeat":{"every":5,"limit":"x"}}"#,
                "opts.repeat.limit: is not a number",
            ),
        ] {
            assert_eq!(Repetition::of_iteration(options).unwrap_err(), problem);
        }
    }

    /// Version 5 stores the dates of repeatable jobs as they were given.
    #[test]
    fn dates_are_read_as_numbers_and_as_text() {
        for date in [
            r#""2030-01-01T00:00:00.000Z""#,
            "1893456000000",
            r#""1893456000000""#,
        ] {
            let options = format!(r#"{{"repeat":{{"every":5,"endDate":{date}}}}}"#);
            let read = Repetition::of_iteration(&options).unwrap();
            assert_eq!(read.schedule.end.unwrap().as_millis(), 1_893_456_000_000);
        }
    }
}
