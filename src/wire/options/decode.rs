//! Reading the stored options of a job, whoever wrote them.

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
        let problem = problem("opts", "is no JSON object", text);
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
            self.note("is no number and counts as absent");
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
            self.note("is no text and counts as absent");
        }
        id.filter(|id| !id.is_empty()).map(JobId::existing)
    }

    /// BullMQ leaves a job active for ever whose backoff has no type, and loses one whose fixed
    /// delay is no number.
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
                self.note("is no backoff and counts as absent");
                None
            }
        }
    }

    /// Reads a number that an option may have.
    fn member(&mut self, map: &Map<String, Value>, name: &str) -> Option<f64> {
        let value = map.get(name).filter(|value| !value.is_null())?;
        let number = number_of(value);
        if number.is_none() && value.as_str() != Some("") {
            self.note(&format!("has a {name} that is no number"));
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
                        self.note(&format!("has a {name} that is no number"));
                        return None;
                    }
                    self.member(map, name).filter(|number| *number >= 0.0)
                };
                let (count, age, limit) = (bound("count"), bound("age"), bound("limit"));
                let count = count.filter(|count| {
                    let usable = count.fract() == 0.0;
                    if !usable {
                        self.note("has a count that is no whole number");
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
                    self.note("is no retention and keeps the job");
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
            self.note("is no whole number and keeps the job");
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
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn decode(name: &str, value: &Value) -> (JobOptions, usize) {
        let decoded = decode_options(&json!({ name: value }).to_string());
        let named = decoded
            .problems
            .iter()
            .all(|problem| problem.starts_with(&format!("opts.{name}: ")));
        assert!(named, "{:?}", decoded.problems);
        (decoded.known, decoded.problems.len())
    }

    /// Whatever `attempts` holds, the handler runs as often as BullMQ runs it.
    #[test]
    fn attempts_have_the_effect_of_bullmq() {
        for (value, attempts, problems) in [
            (json!("3"), Some(3), 0),
            (json!(2.7), Some(3), 0),
            (json!([3]), Some(3), 0),
            (json!("0x3"), Some(3), 0),
            (json!(-1), Some(0), 0),
            (json!(true), Some(1), 0),
            (json!("Infinity"), Some(u32::MAX), 0),
            (json!(""), None, 1),
            (json!("three"), None, 1),
            (json!({}), None, 1),
            (json!([]), None, 1),
        ] {
            let (known, named) = decode("attempts", &value);
            assert_eq!((known.attempts, named), (attempts, problems), "{value}");
        }
    }

    /// Where BullMQ ends half way, its effect on the job is that it is kept.
    #[test]
    fn retention_has_the_effect_of_bullmq_or_the_safe_one() {
        let bounded = |count, age: Option<u64>, limit| Retention::Bounded {
            count,
            age: age.map(Duration::from_millis),
            limit,
        };
        for (value, retention, problems) in [
            (json!("true"), Retention::Remove, 0),
            (json!("x"), Retention::Remove, 1),
            (json!("false"), Retention::KeepAll, 1),
            (json!(""), Retention::KeepAll, 0),
            (json!("100"), Retention::KeepLast(100), 0),
            (json!(0), Retention::Remove, 0),
            (json!("0"), Retention::Remove, 0),
            (json!(2.5), Retention::KeepAll, 1),
            (json!(0.5), Retention::KeepAll, 1),
            (json!(-0.5), Retention::KeepAll, 0),
            (json!(1e21), Retention::KeepLast(u64::from(u32::MAX)), 0),
            (json!([]), Retention::KeepAll, 0),
            (json!([3]), Retention::KeepAll, 1),
            (json!({"age": "1h"}), bounded(None, None, None), 1),
            (
                json!({"age": "3600"}),
                bounded(None, Some(3_600_000), None),
                0,
            ),
            (json!({"age": 2.5}), bounded(None, Some(2500), None), 0),
            (json!({"age": -1}), bounded(None, None, None), 0),
            (json!({"count": "5"}), bounded(Some(5), None, None), 0),
            (json!({"count": true}), bounded(None, None, None), 1),
            (json!({"count": 2.5}), bounded(None, None, None), 1),
            (
                json!({"count": -1, "limit": "x"}),
                bounded(None, None, None),
                1,
            ),
            (json!({"count": 0}), Retention::Remove, 0),
            (
                json!({"limit": "3", "age": 10}),
                bounded(None, Some(10_000), Some(3)),
                0,
            ),
        ] {
            let (known, named) = decode("removeOnComplete", &value);
            assert_eq!(
                (known.remove_on_complete, named),
                (Some(retention), problems),
                "{value}"
            );
        }
    }

    /// BullMQ leaves a job active for ever, or loses it, where a backoff cannot be read.
    #[test]
    fn backoffs_lead_to_another_attempt() {
        let fixed = |millis| Some(Backoff::fixed(Duration::from_millis(millis)));
        let without = |kind| {
            Some(Backoff {
                kind,
                delay: None,
                jitter: None,
            })
        };
        for (value, backoff, problems) in [
            (json!(50), fixed(50), 0),
            (json!(0), None, 0),
            (json!(false), None, 0),
            (json!(""), None, 0),
            (json!("50"), fixed(50), 1),
            (json!({"delay": 50}), fixed(50), 1),
            (json!({"type": "", "delay": "50"}), fixed(50), 1),
            (json!({"type": ["fixed"], "delay": 50}), fixed(50), 0),
            (
                json!({"type": "fixed", "delay": "1s"}),
                without(BackoffKind::Fixed),
                1,
            ),
            (
                json!({"type": "exponential", "delay": ""}),
                without(BackoffKind::Exponential),
                0,
            ),
            (json!({}), without(BackoffKind::Fixed), 1),
            (json!(true), None, 1),
            (json!([50]), None, 1),
            (json!("exponential"), without(BackoffKind::Exponential), 1),
            (
                json!({"type": 5}),
                without(BackoffKind::Custom("5".to_owned())),
                0,
            ),
            (
                json!({"type": "FIXED", "delay": 5}),
                Some(Backoff {
                    kind: BackoffKind::Custom("FIXED".to_owned()),
                    delay: Some(Duration::from_millis(5)),
                    jitter: None,
                }),
                0,
            ),
            (
                json!({"type": "fixed", "delay": 50, "jitter": "x"}),
                fixed(50),
                1,
            ),
        ] {
            let (known, named) = decode("backoff", &value);
            assert_eq!((known.backoff, named), (backoff, problems), "{value}");
        }
    }

    #[test]
    fn other_options_count_as_absent_when_they_cannot_be_read() {
        for (name, value) in [
            ("delay", json!("")),
            ("delay", json!("x")),
            ("priority", json!({})),
            ("kl", json!("x")),
            ("stackTraceLimit", json!("")),
            ("sizeLimit", json!("x")),
            ("timestamp", json!("x")),
            ("parent", json!("x")),
            ("jobId", json!({})),
        ] {
            let (known, named) = decode(name, &value);
            assert_eq!((known, named), (JobOptions::new(), 1), "{name}: {value}");
        }
        let (known, named) = decode("lifo", &json!("false"));
        assert_eq!((known.lifo, named), (Some(true), 1));
    }

    /// One value that no type reads does not cost the others, and is kept as it is.
    #[test]
    fn deep_and_cut_options_leave_the_others_in_force() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let text = format!(r#"{{"attempts":3,"deep":{deep},"tm":"a\ud83d"}}"#);
        let decoded = decode_options(&text);
        assert_eq!(decoded.problems, Vec::<String>::new());
        assert_eq!(decoded.known.attempts, Some(3));
        let metadata = decoded.known.telemetry.unwrap().metadata;
        assert_eq!(metadata.as_deref(), Some("a\u{fffd}"));
        assert_eq!(decoded.unknown, Some(format!(r#"{{"deep":{deep}}}"#)));
    }

    #[test]
    fn broken_values_are_named_and_the_others_kept() {
        let decoded = decode_options(r#"{"attempts":[],"delay":"soon","priority":4}"#);
        assert_eq!(decoded.known.priority, Some(4));
        assert_eq!(
            decoded.problems,
            [
                "opts.attempts: is no number and counts as absent: []",
                "opts.delay: is no number and counts as absent: \\\"soon\\\"",
            ]
        );
        assert_eq!(
            decode_options("{\"attempts\":3").problems,
            ["opts: is no JSON object: {\\\"attempts\\\":3"]
        );
        assert_eq!(decode_options("null").problems.len(), 1);
        assert_eq!(decode_options("").problems.len(), 0);
    }
}
