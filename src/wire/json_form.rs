//! The JSON form of jobs and schedulers: that of BullMQ's `Job` and `JobSchedulerJson`, which
//! dashboards know. What is stored has shorter names.

use std::collections::BTreeMap;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::job::{
    CatchUp, JobOptions, JobRecord, Overlap, ParentLink, Recurrence, SchedulerRecord,
};
use crate::json::{self, Stored};
use crate::wire::options::{millis, options_map, policy_flag};

impl Serialize for JobOptions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        options_of(self).serialize(serializer)
    }
}

/// Options under the names of BullMQ's API.
fn options_of(options: &JobOptions) -> Map<String, Value> {
    let mut shown = Map::new();
    let mut telemetry = Map::new();
    for (name, value) in options_map(options) {
        let name = match name.as_str() {
            "tm" => {
                telemetry.insert("metadata".to_owned(), value);
                continue;
            }
            "omc" => {
                telemetry.insert("omitContext".to_owned(), value);
                continue;
            }
            "kl" => "keepLogs",
            "de" => "deduplication",
            "fpof" => "failParentOnFailure",
            "cpof" => "continueParentOnFailure",
            "idof" => "ignoreDependencyOnFailure",
            "rdof" => "removeDependencyOnFailure",
            name => name,
        };
        shown.insert(name.to_owned(), value);
    }
    if !telemetry.is_empty() {
        shown.insert("telemetry".to_owned(), Value::Object(telemetry));
    }
    shown
}

/// Writes options together with those this version does not know, given as JSON text of an object.
fn all_options<S: Serializer>(
    known: &Map<String, Value>,
    unknown: Option<&str>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    let unknown = unknown.and_then(|text| json::read(text).ok());
    let unknown: BTreeMap<String, Box<RawValue>> = unknown.unwrap_or_default();
    for (name, value) in unknown {
        // Of a known option that has unknown parts, the known ones are shown. BullMQ shows the
        // scheduler of a job beside its options only.
        if name != "de" && name != "repeatJobKey" {
            map.serialize_entry(&name, &value)?;
        }
    }
    for (name, value) in known {
        map.serialize_entry(name, value)?;
    }
    map.end()
}

/// The options of a stored job, which always has a number of attempts.
struct OptionsOf<'a>(&'a JobRecord);

impl Serialize for OptionsOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut known = options_of(&self.0.options);
        known.entry("attempts").or_insert_with(|| 0.into());
        all_options(&known, self.0.unknown_options.as_deref(), serializer)
    }
}

impl Serialize for ParentLink {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("queueKey", &self.queue)?;
        if let Some(flag) = policy_flag(self.on_failure) {
            map.serialize_entry(flag, &true)?;
        }
        map.end()
    }
}

impl Serialize for JobRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("data", &Stored(&self.raw_data))?;
        map.serialize_entry("opts", &OptionsOf(self))?;
        // What has not reported any progress is at 0 for BullMQ, and has no value yet.
        let progress = self.raw_progress.as_deref().unwrap_or("0");
        map.serialize_entry("progress", &Stored(progress))?;
        let value = self.raw_return_value.as_deref().unwrap_or("null");
        map.serialize_entry("returnvalue", &Stored(value))?;
        map.serialize_entry("stacktrace", &self.stack_traces)?;
        map.serialize_entry("delay", &millis(self.delay))?;
        map.serialize_entry("priority", &self.priority)?;
        map.serialize_entry("attemptsStarted", &self.attempts_started)?;
        map.serialize_entry("attemptsMade", &self.attempts_made)?;
        map.serialize_entry("stalledCounter", &self.stalled)?;
        map.serialize_entry("timestamp", &self.timestamp)?;
        entry(&mut map, "processedOn", self.processed_on.as_ref())?;
        entry(&mut map, "finishedOn", self.finished_on.as_ref())?;
        entry(&mut map, "failedReason", self.failed_reason.as_ref())?;
        entry(&mut map, "deferredFailure", self.deferred_failure.as_ref())?;
        entry(&mut map, "processedBy", self.processed_by.as_ref())?;
        entry(&mut map, "repeatJobKey", self.scheduler.as_ref())?;
        entry(&mut map, "deduplicationId", self.deduplication_id.as_ref())?;
        if let Some(parent) = &self.parent {
            map.serialize_entry("parentKey", &format!("{}:{}", parent.queue, parent.id))?;
            map.serialize_entry("parent", parent)?;
        }
        if !self.problems.is_empty() {
            map.serialize_entry("problems", &self.problems)?;
        }
        map.end()
    }
}

impl Serialize for SchedulerRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &self.id)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("next", &self.next)?;
        entry(&mut map, "iterationCount", self.iterations.as_ref())?;
        entry(&mut map, "limit", self.limit.as_ref())?;
        entry(&mut map, "startDate", self.start.as_ref())?;
        entry(&mut map, "endDate", self.end.as_ref())?;
        entry(&mut map, "tz", self.time_zone.as_ref())?;
        match &self.recurrence {
            Some(Recurrence::Cron(pattern)) => map.serialize_entry("pattern", pattern)?,
            Some(Recurrence::Every(every)) => map.serialize_entry("every", &millis(*every))?,
            None => {}
        }
        entry(&mut map, "offset", self.offset.map(millis).as_ref())?;
        entry(&mut map, "hashSeed", self.hash_seed.as_ref())?;
        if self.overlap != Overlap::default() {
            map.serialize_entry("overlap", &self.overlap)?;
        }
        if self.catch_up != CatchUp::default() {
            map.serialize_entry("catchUp", &self.catch_up)?;
        }
        let template = Template {
            data: self.raw_data.as_deref(),
            options: TemplateOptions(self),
        };
        if template.data.is_some() || !template.options.is_empty() {
            map.serialize_entry("template", &template)?;
        }
        if !self.problems.is_empty() {
            map.serialize_entry("problems", &self.problems)?;
        }
        map.end()
    }
}

/// What a scheduler's jobs are made of.
struct Template<'a> {
    data: Option<&'a str>,
    options: TemplateOptions<'a>,
}

impl Serialize for Template<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        entry(&mut map, "data", self.data.map(Stored).as_ref())?;
        if !self.options.is_empty() {
            map.serialize_entry("opts", &self.options)?;
        }
        map.end()
    }
}

struct TemplateOptions<'a>(&'a SchedulerRecord);

impl TemplateOptions<'_> {
    fn is_empty(&self) -> bool {
        self.0.unknown_options.is_none() && self.0.options == JobOptions::new()
    }
}

impl Serialize for TemplateOptions<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let known = options_of(&self.0.options);
        all_options(&known, self.0.unknown_options.as_deref(), serializer)
    }
}

/// Adds an entry that may be absent.
fn entry<M: SerializeMap>(
    map: &mut M,
    name: &str,
    value: Option<&impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::{ChildPolicy, Deduplication, JobId, Parent, Telemetry};
    use crate::wire::decode_record;

    fn record(fields: &[(&str, &str)]) -> JobRecord {
        let fields = fields.iter();
        let fields =
            fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        decode_record(JobId::existing("1"), fields)
    }

    #[test]
    fn options_have_the_names_of_the_api() {
        let parent = Parent::new("bull:p", JobId::existing("P1"));
        let options = JobOptions::new()
            .keep_logs(7)
            .telemetry(Telemetry::new("m").omit_context())
            .parent(parent.on_failure(ChildPolicy::Ignore));
        assert_eq!(
            serde_json::to_value(&options).unwrap(),
            json!({
                "keepLogs": 7, "telemetry": { "metadata": "m", "omitContext": true },
                "parent": { "id": "P1", "queue": "bull:p" }, "ignoreDependencyOnFailure": true,
            })
        );
        let options = JobOptions::new().deduplication(Deduplication::new("d").replace());
        assert_eq!(
            serde_json::to_value(&options).unwrap(),
            json!({ "deduplication": { "id": "d", "replace": true } })
        );
        assert_eq!(serde_json::to_value(JobOptions::new()).unwrap(), json!({}));
    }

    /// Values are shown as values, unknown options as they are, and what is not JSON as text.
    #[test]
    fn stored_text_is_shown_as_what_it_is() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        let shown = serde_json::to_string(&record(&[
            ("data", &deep),
            ("returnvalue", "1.50"),
            ("progress", "{broken"),
            ("opts", r#"{"attempts":2,"later":{"n":1e400}}"#),
        ]))
        .unwrap();
        assert!(shown.contains(&format!("\"data\":{deep}")), "{shown}");
        assert!(shown.contains("\"returnvalue\":1.50"), "{shown}");
        assert!(shown.contains("\"progress\":\"{broken\""), "{shown}");
        assert!(
            shown.contains(r#""opts":{"later":{"n":1e400},"attempts":2}"#),
            "{shown}"
        );
    }

    #[test]
    fn problems_of_a_record_are_shown() {
        let shown = serde_json::to_value(record(&[("priority", "x")])).unwrap();
        assert_eq!(
            shown["problems"][0],
            "priority: is not a number and counts as 0: x"
        );
        let shown = serde_json::to_value(record(&[("priority", "2")])).unwrap();
        assert_eq!(shown.get("problems"), None);
    }
}
