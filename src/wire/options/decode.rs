//! Reading the stored options of a job, written by any client.

use serde_json::{Map, Value};

use super::policy_of;
use super::value::{duration, number_of, problem, small, text_of, truthy, whole};
use crate::clock::Timestamp;
use crate::job::{Backoff, BackoffKind, JobId, JobOptions, Parent, Retention, Telemetry};
use crate::json;
use crate::wire::deduplication::decode_deduplication;

/// What `opts` held: the options this version knows, the others as JSON text, and what could not
/// be understood.
#[derive(Debug, Default)]
pub(crate) struct DecodedOptions {
    pub(crate) known: JobOptions,
    pub(crate) unknown: Option<String>,
    pub(crate) problems: Vec<String>,
}

/// Decodes the stored options of a job. Never fails: an option that cannot be read counts as in
/// BullMQ where that is safe, else as absent, and is named in the problems.
pub(crate) fn decode_options(text: &str) -> DecodedOptions {
    let mut decoded = DecodedOptions::default();
    // What almost every job without options has; worth not parsing.
    if text == r#"{"attempts":0}"# {
        decoded.known.attempts = Some(0);
        return decoded;
    }
    if text.is_empty() {
        return decoded;
    }
    let Some((map, mut unknown)) = json::object(text) else {
        let problem = problem("opts", "is not a JSON object", text);
        decoded.problems.push(problem);
        return decoded;
    };
    let mut parent = None;
    for (name, value) in &map {
        // In a form this version does not know it is kept: a worker can do without.
        if name == "de"
            && let Some((deduplication, more)) = decode_deduplication(value)
        {
            decoded.known.deduplication = Some(deduplication);
            if !more.is_empty() {
                unknown.insert(name.clone(), raw(&Value::Object(more)));
            }
            continue;
        }
        let mut option = Reading {
            name,
            value,
            problems: &mut decoded.problems,
        };
        if !option.read(&mut decoded.known, &mut parent) {
            unknown.insert(name.clone(), raw(value));
        }
    }
    decoded.known.parent = parent.map(|parent: Parent| parent.on_failure(policy_of(&map)));
    if !unknown.is_empty() {
        let members: Vec<String> = unknown
            .iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
            .collect();
        decoded.unknown = Some(format!("{{{}}}", members.join(",")));
    }
    decoded
}

fn raw(value: &Value) -> String {
    value.to_string()
}

/// One option that is being read.
struct Reading<'a> {
    name: &'a str,
    value: &'a Value,
    problems: &'a mut Vec<String>,
}

impl Reading<'_> {
    /// Sets the option; false when this version does not know it.
    fn read(&mut self, options: &mut JobOptions, parent: &mut Option<Parent>) -> bool {
        if self.value.is_null() {
            return true;
        }
        match self.name {
            // Attempts are made while fewer have ended, so a fraction allows another one.
            "attempts" => options.attempts = self.number().map(f64::ceil).map(small),
            "delay" => options.delay = self.number().map(duration),
            "priority" => options.priority = self.number().map(small),
            "lifo" => options.lifo = Some(self.switch()),
            "kl" => options.keep_logs = self.number().map(small),
            "stackTraceLimit" => options.stack_trace_limit = self.number().map(small),
            "sizeLimit" => options.size_limit = self.number().map(|n| small(n) as usize),
            "timestamp" => {
                options.timestamp = self.number().map(|n| Timestamp::from_millis(whole(n)));
            }
            "jobId" => options.id = self.id(self.value),
            "backoff" => options.backoff = self.backoff(),
            "removeOnComplete" => options.remove_on_complete = self.retention(),
            "removeOnFail" => options.remove_on_fail = self.retention(),
            "parent" => {
                let queue = self.value.get("queue").and_then(Value::as_str);
                let id = self.value.get("id").and_then(text_of);
                match (queue, id) {
                    (Some(queue), Some(id)) => {
                        *parent = Some(Parent::new(queue, JobId::existing(id)));
                    }
                    _ => self.note("has no id and queue"),
                }
            }
            "fpof" | "cpof" | "idof" | "rdof" => {}
            // Some writers store `false` here; only text is a context.
            "tm" => {
                if let Some(metadata) = self.value.as_str() {
                    let telemetry = options.telemetry.get_or_insert_with(Telemetry::default);
                    telemetry.metadata = Some(metadata.to_owned());
                }
            }
            "omc" => {
                let telemetry = options.telemetry.get_or_insert_with(Telemetry::default);
                telemetry.omit_context = Some(truthy(self.value));
            }
            _ => return false,
        }
        true
    }

    fn note(&mut self, reason: &str) {
        let field = format!("opts.{}", self.name);
        let problem = problem(&field, reason, &self.value.to_string());
        self.problems.push(problem);
    }

    fn number(&mut self) -> Option<f64> {
        let number = number_of(self.value);
        if number.is_none() {
            self.note("is not a number and counts as absent");
        }
        number
    }

    fn switch(&mut self) -> bool {
        let set = truthy(self.value);
        if set && self.value.as_str().is_some_and(|text| text != "true") {
            self.note("is text and counts as true");
        }
        set
    }

    fn id(&mut self, value: &Value) -> Option<JobId> {
        let id = text_of(value);
        if id.is_none() {
            self.note("is not text and counts as absent");
        }
        id.filter(|id| !id.is_empty()).map(JobId::existing)
    }

    /// With BullMQ, a job whose backoff has no type stays active forever, and one whose fixed delay is
    /// not a number is lost.
    fn backoff(&mut self) -> Option<Backoff> {
        match self.value {
            value if !truthy(value) => None,
            Value::Number(_) => self.number().map(|delay| Backoff::fixed(duration(delay))),
            Value::String(text) => {
                if let Some(delay) = number_of(self.value) {
                    self.note("has no type and counts as fixed");
                    return Some(Backoff::fixed(duration(delay)));
                }
                self.note("has no delay");
                let kind = backoff_kind(text);
                Some(Backoff {
                    kind,
                    delay: None,
                    jitter: None,
                })
            }
            Value::Object(map) => {
                let kind = match map.get("type").and_then(text_of) {
                    Some(name) if !name.is_empty() => backoff_kind(&name),
                    _ => {
                        self.note("has no type and counts as fixed");
                        BackoffKind::Fixed
                    }
                };
                Some(Backoff {
                    kind,
                    delay: self.member(map, "delay").map(duration),
                    jitter: self
                        .member(map, "jitter")
                        .map(|jitter| jitter.clamp(0.0, 1.0)),
                })
            }
            Value::Bool(_) | Value::Array(_) | Value::Null => {
                self.note("is not a backoff and counts as absent");
                None
            }
        }
    }

    /// Reads a number that an option may have.
    fn member(&mut self, map: &Map<String, Value>, name: &str) -> Option<f64> {
        let value = map.get(name).filter(|value| !value.is_null())?;
        let number = number_of(value);
        if number.is_none() && value.as_str() != Some("") {
            self.note(&format!("has an option {name} that is not a number"));
        }
        number
    }

    /// BullMQ removes a job for any text, even `'false'`; ends half way, the job kept, where a
    /// count is a fraction or anything but a number, or an age no number; and keeps the job for
    /// everything else that it does not understand.
    fn retention(&mut self) -> Option<Retention> {
        match self.value {
            Value::Bool(true) => Some(Retention::Remove),
            Value::Bool(false) => Some(Retention::KeepAll),
            Value::Number(_) => number_of(self.value).map(|count| self.keep_last(count)),
            Value::String(text) if text.is_empty() => Some(Retention::KeepAll),
            Value::String(text) => {
                let count = number_of(self.value);
                Some(match (text.trim(), count) {
                    ("false", _) => {
                        self.note("is text and counts as false");
                        Retention::KeepAll
                    }
                    (_, Some(count)) => self.keep_last(count),
                    (text, None) => {
                        if text != "true" {
                            self.note("is text and counts as true");
                        }
                        Retention::Remove
                    }
                })
            }
            Value::Object(map) => {
                let mut bound = |name: &str| {
                    if map.get(name).is_some_and(Value::is_boolean) {
                        self.note(&format!("has an option {name} that is not a number"));
                        return None;
                    }
                    self.member(map, name).filter(|number| *number >= 0.0)
                };
                let (count, age, limit) = (bound("count"), bound("age"), bound("limit"));
                let count = count.filter(|count| {
                    let usable = count.fract() == 0.0;
                    if !usable {
                        self.note("has a count that is not a whole number");
                    }
                    usable
                });
                if count == Some(0.0) {
                    return Some(Retention::Remove);
                }
                let natural = |number: f64| u64::try_from(whole(number)).unwrap_or(0);
                Some(Retention::Bounded {
                    count: count.map(natural),
                    age: age.map(|seconds| duration(seconds * 1000.0)),
                    limit: limit.map(natural),
                })
            }
            // An empty table stored by a Redis-side encoder reads as an empty list.
            Value::Array(list) => {
                if !list.is_empty() {
                    self.note("is not a retention and keeps the job");
                }
                Some(Retention::KeepAll)
            }
            Value::Null => None,
        }
    }

    fn keep_last(&mut self, count: f64) -> Retention {
        if count < 0.0 {
            Retention::KeepAll
        } else if count.fract() != 0.0 {
            self.note("is not a whole number and keeps the job");
            Retention::KeepAll
        } else if count == 0.0 {
            Retention::Remove
        } else {
            Retention::KeepLast(u64::from(small(count)))
        }
    }
}

fn backoff_kind(name: &str) -> BackoffKind {
    match name {
        "fixed" => BackoffKind::Fixed,
        "exponential" => BackoffKind::Exponential,
        name => BackoffKind::Custom(name.to_owned()),
    }
}

#[cfg(test)]
mod tests;
