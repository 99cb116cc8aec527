//! The definition of a scheduler.

use serde_json::Value;

use super::{length, millis};
use crate::clock::Timestamp;
use crate::job::{CatchUp, JobOptions, Overlap, Recurrence, Schedule, SchedulerRecord};
use crate::json;
use crate::wire::options::{decode_options, options_map, whole};
use crate::wire::repeatable;

/// Encodes the fields of a definition, but for its name, data, counter and offset.
pub(crate) fn definition_fields(
    schedule: &Schedule,
    template: &JobOptions,
) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    match &schedule.recurrence {
        Recurrence::Every(interval) => fields.push(("every", millis(*interval).to_string())),
        Recurrence::Cron(pattern) => fields.push(("pattern", pattern.clone())),
    }
    if let Some(zone) = &schedule.time_zone {
        fields.push(("tz", zone.clone()));
    }
    if let Some(limit) = schedule.limit {
        fields.push(("limit", limit.to_string()));
    }
    if let Some(start) = schedule.start {
        fields.push(("startDate", start.to_string()));
    }
    if let Some(end) = schedule.end {
        fields.push(("endDate", end.to_string()));
    }
    let options = options_map(template);
    if !options.is_empty() {
        fields.push(("opts", Value::Object(options).to_string()));
    }
    // Ours: BullMQ leaves them alone until its next upsert, which replaces the schedule anyway.
    if let Some(seed) = &schedule.hash_seed {
        fields.push(("hashSeed", seed.clone()));
    }
    if schedule.overlap == Overlap::Skip {
        fields.push(("overlap", "skip".to_owned()));
    }
    if schedule.catch_up == CatchUp::All {
        fields.push(("catchUp", "all".to_owned()));
    }
    fields
}

/// Whether a scheduler's id is the key of a repeatable job of versions before schedulers
/// (`docs/protocol.md#repeatable-jobs`), by the rule of BullMQ 6.
pub(crate) fn is_legacy_key(id: &str) -> bool {
    let parts: Vec<&str> = id.splitn(5, ':').collect();
    let [_, _, end, _, rest] = parts.as_slice() else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    digits(end) && !rest.is_empty() && (rest.contains(' ') || digits(rest))
}

/// The latest occurrence there can be: Lua knows no greater whole number.
const OCCURRENCE_MAX: i64 = 1 << 53;

/// Decodes a definition. Never fails: what cannot be understood is named in the record's problems.
pub(crate) fn decode_scheduler(
    id: String,
    next: Timestamp,
    fields: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> SchedulerRecord {
    let mut record = SchedulerRecord::new(id, next);
    if !(0..=OCCURRENCE_MAX).contains(&next.as_millis()) {
        record.problems.push("next: is not a time".to_owned());
    }
    let mut empty = true;
    for (name, value) in fields {
        empty = false;
        let text = match name.as_slice() {
            b"data" | b"opts" => json::text(value),
            _ => String::from_utf8_lossy(&value).into_owned(),
        };
        decode_field(
            &mut record,
            String::from_utf8_lossy(&name).into_owned(),
            text,
        );
    }
    if empty && repeatable::decode_key(&mut record) {
        // All that is stored of it.
    } else if empty {
        record.problems.push("definition: is missing".to_owned());
    } else if record.recurrence.is_none() && record.problems.is_empty() {
        record
            .problems
            .push("definition: has neither every nor pattern".to_owned());
    }
    record
}

fn decode_field(record: &mut SchedulerRecord, name: String, text: String) {
    let problems = &mut record.problems;
    let mut whole_number = |least: i64| match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && whole(number) >= least => Some(whole(number)),
        _ => {
            problems.push(format!("{name}: is not a number of at least {least}"));
            None
        }
    };
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    match name.as_str() {
        "name" => record.name = text,
        "ic" => record.iterations = whole_number(0).map(count),
        "every" => {
            if let Some(every) = whole_number(1) {
                record.recurrence = Some(Recurrence::Every(length(every)));
            }
        }
        "pattern" => record.recurrence = Some(Recurrence::Cron(text)),
        "offset" => record.offset = whole_number(i64::MIN).map(length),
        "tz" => record.time_zone = Some(text),
        "limit" => record.limit = whole_number(i64::MIN).map(count),
        "startDate" => record.start = whole_number(i64::MIN).map(Timestamp::from_millis),
        "endDate" => record.end = whole_number(i64::MIN).map(Timestamp::from_millis),
        "hashSeed" => record.hash_seed = Some(text),
        "overlap" if text == "skip" => record.overlap = Overlap::Skip,
        "catchUp" if text == "all" => record.catch_up = CatchUp::All,
        "data" => record.raw_data = Some(text),
        "opts" => {
            let decoded = decode_options(&text);
            // An odd option does not keep a schedule from going on.
            record.options = decoded.known;
            record.unknown_options = decoded.unknown;
        }
        _ => {
            record.unknown.insert(name, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_keys_are_distinguished_from_ids() {
        for key in [
            "rep::::60000",
            "rep::::* * * * *",
            "n:id:123:Europe/Madrid:5 4 * * *",
        ] {
            assert!(is_legacy_key(key), "{key}");
        }
        for id in [
            "s",
            "a:b:c",
            "a:b:c:d:e",
            "a:b:x:d:60000",
            "rep::::",
            "2de99c4afb4e0b2f2c7e33f49c3bc5ee",
        ] {
            assert!(!is_legacy_key(id), "{id}");
        }
    }
}
