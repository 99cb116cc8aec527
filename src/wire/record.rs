//! The job hash (spec: layout §5).

use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::job::{JobId, JobRecord, ParentLink};
use crate::wire::options::{decode_options, policy_of};

/// Decodes a job hash. Never fails: what cannot be understood is named in the record's problems.
pub(crate) fn decode_record(
    id: JobId,
    fields: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> JobRecord {
    let mut job = JobRecord::empty(id);
    let mut old_attempts = None;
    for (name, value) in fields {
        let text = match String::from_utf8(value) {
            Ok(text) => text,
            Err(error) => {
                let name = String::from_utf8_lossy(&name).into_owned();
                job.problems.push(format!("{name}: is not UTF-8"));
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
        };
        match name.as_slice() {
            b"name" => job.name = text,
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
            b"delay" => job.delay = whole(&mut job, "delay", &text),
            b"priority" => job.priority = whole(&mut job, "priority", &text),
            b"processedOn" => {
                job.processed_on = Some(Timestamp::from_millis(whole(
                    &mut job,
                    "processedOn",
                    &text,
                )));
            }
            b"finishedOn" => {
                job.finished_on =
                    Some(Timestamp::from_millis(whole(&mut job, "finishedOn", &text)));
            }
            b"ats" => job.attempts_started = count(&mut job, "ats", &text),
            b"atm" => job.attempts_made = count(&mut job, "atm", &text),
            b"attemptsMade" if !text.is_empty() => {
                old_attempts = Some(count(&mut job, "attemptsMade", &text));
            }
            // `stf` names the last activation before a retry by hand: for the scripts only.
            b"attemptsMade" | b"stf" => {}
            b"stc" => job.stalled = count(&mut job, "stc", &text),
            b"defa" => job.deferred_failure = Some(text),
            b"progress" => job.raw_progress = Some(text),
            b"returnvalue" => job.raw_return_value = Some(text),
            b"failedReason" => job.failed_reason = Some(text),
            // Unreadable stack traces have no meaning to lose; they start anew.
            b"stacktrace" => job.stack_traces = serde_json::from_str(&text).unwrap_or_default(),
            b"pb" => job.processed_by = Some(text),
            b"rjk" => job.scheduler = Some(text),
            b"deid" => job.deduplication_id = Some(text),
            b"parent" => match decode_parent(&text) {
                Some(link) => job.parent = Some(link),
                None => job
                    .problems
                    .push("parent: has no id and queueKey".to_owned()),
            },
            // Says again what `parent` says.
            b"parentKey" => {
                if job.parent.is_none()
                    && let Some((queue, id)) = text.rsplit_once(':')
                {
                    job.parent = Some(ParentLink {
                        queue: queue.to_owned(),
                        id: JobId::existing(id),
                        on_failure: policy_of(&Map::new()),
                    });
                }
            }
            _ => {
                job.unknown
                    .insert(String::from_utf8_lossy(&name).into_owned(), text);
            }
        }
    }
    if let Some(attempts) = old_attempts {
        job.attempts_made = attempts;
    }
    job
}

/// Reads a stored number, whole or not.
fn whole(job: &mut JobRecord, field: &str, text: &str) -> i64 {
    if let Ok(number) = text.parse::<i64>() {
        return number;
    }
    match text.trim().parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`as` saturates, which is what is wanted"
        )]
        Ok(number) if number.is_finite() => number as i64,
        _ => {
            job.problems.push(format!("{field}: is no number"));
            0
        }
    }
}

fn count(job: &mut JobRecord, field: &str, text: &str) -> u32 {
    u32::try_from(whole(job, field, text).max(0)).unwrap_or(u32::MAX)
}

fn decode_parent(text: &str) -> Option<ParentLink> {
    let link: Map<String, Value> = serde_json::from_str(text).ok()?;
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
                .contains(&"priority: is no number".to_owned())
        );
    }

    proptest! {
        /// No content of a hash makes decoding panic.
        #[test]
        fn any_hash_decodes(
            fields in proptest::collection::vec(
                ("(name|data|opts|timestamp|delay|atm|ats|stacktrace|parent|parentKey|xyz)",
                 proptest::collection::vec(any::<u8>(), 0..40)), 0..12)
        ) {
            decode_record(
                JobId::existing("1"),
                fields.into_iter().map(|(name, value)| (name.into_bytes(), value)),
            );
        }
    }
}
