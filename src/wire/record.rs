//! The job hash (`docs/protocol.md#job-hash`).

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::job::{JobId, JobRecord, ParentLink};
use crate::json;
use crate::wire::options::{decode_options, policy_of, problem};

/// Decodes a job hash. Never fails: what cannot be read is named in the record's problems and counts as
/// absent.
pub(crate) fn decode_record(
    id: JobId,
    fields: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> JobRecord {
    let mut job = JobRecord::new(id);
    let mut old_attempts = None;
    let mut parent_key = None;
    for (name, value) in fields {
        let name = name.as_slice();
        if std::str::from_utf8(&value).is_err() {
            let name = String::from_utf8_lossy(name).into_owned();
            job.inexact.insert(name, value.clone());
        }
        let text = match name {
            b"data" | b"opts" | b"progress" | b"returnvalue" | b"stacktrace" | b"parent" => {
                json::text(value)
            }
            b"parentKey" => {
                parent_key = Some(value);
                continue;
            }
            _ => plain(value),
        };
        match name {
            b"name" => job.name = text,
            // Every client reads nothing as no data.
            b"data" if text.is_empty() => {}
            b"data" => job.raw_data = text,
            b"opts" => {
                let decoded = decode_options(&text);
                job.options = decoded.known;
                job.unknown_options = decoded.unknown;
                job.problems.extend(decoded.problems);
                job.raw_options = text;
            }
            b"timestamp" => {
                job.timestamp = Timestamp::from_millis(whole(&mut job, "timestamp", &text));
            }
            b"delay" => {
                let millis = whole(&mut job, "delay", &text);
                job.delay = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
            }
            b"priority" => job.priority = count(&mut job, "priority", &text),
            b"processedOn" => job.processed_on = instant(&mut job, "processedOn", &text),
            b"finishedOn" => job.finished_on = instant(&mut job, "finishedOn", &text),
            b"ats" => job.attempts_started = count(&mut job, "ats", &text),
            b"atm" => job.attempts_made = count(&mut job, "atm", &text),
            b"attemptsMade" if !text.is_empty() => {
                old_attempts = Some(count(&mut job, "attemptsMade", &text));
            }
            // `stf` names the last activation before a retry by hand: for the scripts only.
            b"attemptsMade" | b"stf" => {}
            b"stc" => job.stalled = count(&mut job, "stc", &text),
            // Without a reason nothing has failed.
            b"defa" => job.deferred_failure = Some(text).filter(|text| !text.is_empty()),
            b"progress" => job.raw_progress = Some(text),
            b"returnvalue" => job.raw_return_value = Some(text),
            b"failedReason" => job.failed_reason = Some(text),
            b"stacktrace" => decode_traces(&mut job, &text),
            b"pb" => job.processed_by = Some(text),
            b"rjk" => job.scheduler = Some(text),
            b"deid" => job.deduplication_id = Some(text),
            b"parent" => match decode_parent(&text) {
                Some(link) => job.parent = Some(link),
                None => job
                    .problems
                    .push(problem("parent", "has no id and queueKey", &text)),
            },
            _ => {
                job.unknown
                    .insert(String::from_utf8_lossy(name).into_owned(), text);
            }
        }
    }
    if let Some(attempts) = old_attempts {
        job.attempts_made = attempts;
    }
    if let Some(key) = parent_key {
        job.parent = link_by_key(job.parent, &key);
    }
    job
}

fn plain(stored: Vec<u8>) -> String {
    String::from_utf8(stored)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Reads a stored number, whole or not.
fn number(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number);
    }
    let number = text.trim().parse::<f64>().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    number.is_finite().then_some(number as i64)
}

/// Reads a number that counts as 0 where it is none.
fn whole(job: &mut JobRecord, field: &str, text: &str) -> i64 {
    number(text).unwrap_or_else(|| {
        job.problems
            .push(problem(field, "is not a number and counts as 0", text));
        0
    })
}

fn instant(job: &mut JobRecord, field: &str, text: &str) -> Option<Timestamp> {
    let instant = number(text).map(Timestamp::from_millis);
    if instant.is_none() {
        job.problems
            .push(problem(field, "is not a number and counts as absent", text));
    }
    instant
}

fn count(job: &mut JobRecord, field: &str, text: &str) -> u32 {
    u32::try_from(whole(job, field, text).max(0)).unwrap_or(u32::MAX)
}

/// Reads a list of stack traces, and keeps each as it is stored: the next failure writes them
/// again. A value that is not a list has no traces to lose.
fn decode_traces(job: &mut JobRecord, text: &str) {
    let traces: Vec<Box<RawValue>> = json::read(text).unwrap_or_default();
    for raw in &traces {
        let trace = json::read::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned());
        job.stack_traces.push(trace);
    }
    job.raw_stack_traces = traces.iter().map(|raw| raw.get().to_owned()).collect();
}

fn decode_parent(text: &str) -> Option<ParentLink> {
    let link: Map<String, Value> = json::read(text).ok()?;
    let id = match link.get("id")? {
        Value::String(id) => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return None,
    };
    Some(ParentLink {
        queue: link.get("queueKey")?.as_str()?.to_owned(),
        id: JobId::existing(id),
        on_failure: policy_of(&link),
    })
}

/// The parent's key says again what the link says, without the link's flags but with the very
/// bytes of the id.
fn link_by_key(link: Option<ParentLink>, key: &[u8]) -> Option<ParentLink> {
    let Some(mut link) = link else {
        let colon = key.iter().rposition(|byte| *byte == b':')?;
        let (queue, id) = key.split_at(colon);
        return Some(ParentLink {
            queue: String::from_utf8_lossy(queue).into_owned(),
            id: JobId::from_bytes(id.get(1..)?),
            on_failure: policy_of(&Map::new()),
        });
    };
    let id = key
        .strip_prefix(link.queue.as_bytes())
        .and_then(|id| id.strip_prefix(b":"));
    if let Some(id) = id
        && link.id.as_str().contains('\u{fffd}')
    {
        link.id = JobId::from_bytes(id);
    }
    Some(link)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::ChildPolicy;

    fn record(fields: &[(&str, &str)]) -> JobRecord {
        decode_record(
            JobId::existing("1"),
            fields
                .iter()
                .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())),
        )
    }

    #[test]
    fn a_hash_of_every_field_decodes() {
        let job = record(&[
            ("name", "a"),
            ("data", r#"{"x":1}"#),
            ("opts", r#"{"attempts":3}"#),
            ("timestamp", "1795408930777"),
            ("delay", "1000"),
            ("priority", "7"),
            ("processedOn", "1795408930800"),
            ("ats", "2"),
            ("atm", "1"),
            ("stc", "1"),
            ("stacktrace", r#"["one"]"#),
            ("failedReason", "boom"),
            ("parent", r#"{"id":"P1","queueKey":"bull:p","fpof":true}"#),
            ("parentKey", "bull:p:P1"),
            ("newField", "kept"),
        ]);
        assert_eq!(job.problems, Vec::<String>::new());
        assert_eq!(
            (job.attempts_started, job.attempts_made, job.stalled),
            (2, 1, 1)
        );
        assert_eq!(job.stack_traces, ["one"]);
        let parent = job.parent.unwrap();
        assert_eq!(
            (parent.queue.as_str(), parent.on_failure),
            ("bull:p", ChildPolicy::FailParent)
        );
        assert_eq!(
            job.unknown.get("newField").map(String::as_str),
            Some("kept")
        );
    }

    #[test]
    fn fields_of_old_versions_and_odd_numbers_are_read() {
        let job = record(&[
            ("attemptsMade", "4"),
            ("atm", "1"),
            ("timestamp", "1700000000123.75"),
        ]);
        assert_eq!(job.attempts_made, 4);
        assert_eq!(job.timestamp.as_millis(), 1_700_000_000_123);
        assert!(
            record(&[("priority", "x")])
                .problems
                .contains(&"priority: is not a number and counts as 0: x".to_owned())
        );
    }

    /// Fields are text for readers, and the bytes that are none stay reachable.
    #[test]
    fn bytes_that_are_no_text_are_kept_beside_it() {
        let fields: [(&[u8], &[u8]); 7] = [
            (b"name", b"n\xed\xa0\xbd"),
            (b"data", b"{\"t\":\"\xed\xa0\xbd\",\"u\":\"\\udc00\"}"),
            (
                b"opts",
                b"{\"tm\":\"m\xed\xa0\xbd\",\"attempts\":2,\"x\":\"\xff\"}",
            ),
            (
                b"parent",
                b"{\"id\":\"P\xed\xa0\xbd\",\"queueKey\":\"bull:p\",\"fpof\":true}",
            ),
            (b"parentKey", b"bull:p:P\xed\xa0\xbd"),
            (b"stacktrace", b"[\"cut \\ud83d\",5]"),
            (b"deid", b"d\xed\xa0\xbd"),
        ];
        let pairs = fields.map(|(name, value)| (name.to_vec(), value.to_vec()));
        let job = decode_record(JobId::existing("1"), pairs);
        assert_eq!(job.problems, Vec::<String>::new());
        assert!(job.name.starts_with("n\u{fffd}"));
        let data: std::collections::BTreeMap<String, String> = job.data().unwrap();
        assert_eq!(
            (data["t"].as_str(), data["u"].as_str()),
            ("\u{fffd}", "\u{fffd}")
        );
        assert_eq!(job.stored("data"), Some(fields[1].1));
        assert_eq!(job.options.attempts, Some(2));
        assert_eq!(job.stack_traces, ["cut \u{fffd}", "5"]);
        assert_eq!(job.raw_stack_traces, ["\"cut \\ud83d\"", "5"]);
        assert_eq!(job.stored("deid"), Some(fields[6].1));
        assert_eq!(job.stored("pb"), None);
        let parent = job.parent.unwrap();
        assert_eq!(parent.id.as_bytes(), b"P\xed\xa0\xbd");
        assert_eq!(parent.on_failure, ChildPolicy::FailParent);
    }

    #[test]
    fn fields_that_say_nothing_count_as_absent() {
        let job = record(&[
            ("data", ""),
            ("opts", ""),
            ("defa", ""),
            ("stacktrace", "x"),
            ("parentKey", ""),
        ]);
        assert_eq!(job, record(&[]));
        let job = record(&[("processedOn", "x"), ("atm", ""), ("parent", "{}")]);
        assert_eq!((job.processed_on, job.attempts_made), (None, 0));
        assert_eq!(job.problems.len(), 3);
    }

    proptest! {
        /// No content of a hash makes decoding panic.
        #[test]
        fn any_hash_decodes(
            fields in proptest::collection::vec(
                ("(name|data|opts|timestamp|delay|atm|ats|stc|defa|stacktrace|progress|parent|parentKey|rjk|xyz)",
                 proptest::collection::vec(any::<u8>(), 0..40)), 0..12)
        ) {
            decode_record(
                JobId::existing("1"),
                fields.into_iter().map(|(name, value)| (name.into_bytes(), value)),
            );
        }
    }
}
