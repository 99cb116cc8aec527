//! Every event is typed, and nothing of an entry is lost.

use proptest::prelude::*;

use super::*;

fn entry(pairs: &[(&str, &str)]) -> EventFields {
    bytes(pairs.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())))
}

fn bytes<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> EventFields {
    EventFields::new(pairs.map(|(n, v)| (n.into(), v.into())).collect())
}

fn decode(pairs: &[(&str, &str)]) -> QueueEvent {
    QueueEvent::decode(entry(pairs)).0
}

fn job(id: &str) -> JobId {
    JobId::existing(id)
}

#[test]
fn every_event_of_the_protocol_is_typed() {
    let waiting = decode(&[("event", "waiting"), ("jobId", "1"), ("prev", "delayed")]);
    let QueueEvent::Waiting { prev, .. } = &waiting else {
        panic!("{waiting:?}");
    };
    assert_eq!(prev.as_ref().unwrap().state(), Some(JobState::Delayed));
    assert_eq!(
        decode(&[
            ("event", "delayed"),
            ("jobId", "2"),
            ("delay", "1795408935786")
        ]),
        QueueEvent::Delayed {
            job: job("2"),
            until: Timestamp::from_millis(1_795_408_935_786),
        }
    );
    let done = decode(&[
        ("event", "completed"),
        ("jobId", "a:b:c"),
        ("returnvalue", r#"{"n":1}"#),
        ("prev", "active"),
    ]);
    let QueueEvent::Completed { return_value, .. } = &done else {
        panic!("{done:?}");
    };
    let value: std::collections::BTreeMap<String, u8> = return_value.decode().unwrap();
    assert_eq!(value["n"], 1);
    assert_eq!(done.job(), Some(&job("a:b:c")));
    assert_eq!(
        decode(&[
            ("event", "deduplicated"),
            ("jobId", "1"),
            ("deduplicationId", "d"),
            ("deduplicatedJobId", "2"),
        ]),
        QueueEvent::Deduplicated {
            job: job("1"),
            deduplication_id: "d".to_owned(),
            dropped: job("2"),
        }
    );
    for (name, fields) in SHAPES {
        let mut pairs = vec![("event", *name)];
        pairs.extend(fields.iter().map(|field| (*field, "1")));
        let (event, rest) = QueueEvent::decode(entry(&pairs));
        assert!(!matches!(event, QueueEvent::Unknown { .. }), "{event:?}");
        assert_eq!((event.name(), rest.is_empty()), (*name, true));
    }
}

/// Each event with the fields that it must have.
const SHAPES: &[(&str, &[&str])] = &[
    ("added", &["jobId", "name"]),
    ("waiting", &["jobId"]),
    ("delayed", &["jobId", "delay"]),
    ("waiting-children", &["jobId"]),
    ("active", &["jobId"]),
    ("progress", &["jobId", "data"]),
    ("completed", &["jobId", "returnvalue"]),
    ("failed", &["jobId", "failedReason"]),
    ("retries-exhausted", &["jobId", "attemptsMade"]),
    ("stalled", &["jobId"]),
    ("removed", &["jobId"]),
    ("duplicated", &["jobId"]),
    (
        "deduplicated",
        &["jobId", "deduplicationId", "deduplicatedJobId"],
    ),
    ("debounced", &["jobId", "debounceId"]),
    ("drained", &[]),
    ("cleaned", &["count"]),
    ("paused", &[]),
    ("resumed", &[]),
];

/// An entry whose fields do not fit its name is returned as unknown, with all fields.
#[test]
fn broken_events_are_unknown_and_whole() {
    for (name, fields) in SHAPES {
        for missing in *fields {
            let mut pairs = vec![("event", *name)];
            let rest = fields.iter().filter(|field| *field != missing);
            pairs.extend(rest.map(|field| (*field, "1")));
            let event = decode(&pairs);
            let QueueEvent::Unknown { name: told, fields } = event else {
                panic!("{name} without {missing}: {event:?}");
            };
            assert_eq!((told.as_str(), fields), (*name, entry(&pairs[1..])));
        }
    }
    let event = decode(&[("event", "cleaned"), ("count", "many")]);
    assert!(matches!(event, QueueEvent::Unknown { .. }), "{event:?}");
}

/// Node's reader stops permanently at JSON that does not parse.
#[test]
fn bad_json_is_an_error_of_its_reader_only() {
    let event = decode(&[("event", "progress"), ("jobId", "1"), ("data", "{x")]);
    let QueueEvent::Progress { progress, .. } = event else {
        panic!("{event:?}");
    };
    assert_eq!(progress.as_str(), "{x");
    assert!(progress.decode::<serde_json::Value>().is_err());
}

/// Half a surrogate pair in an event's text costs neither the event nor its bytes.
#[test]
fn events_with_bytes_that_are_no_text_are_typed() {
    let fields: [(&[u8], &[u8]); 3] = [
        (b"event", b"completed"),
        (b"jobId", b"j\xed\xa0\xbd"),
        (b"returnvalue", b"\"r\xed\xa0\xbd\""),
    ];
    let (event, rest) = QueueEvent::decode(bytes(fields.into_iter()));
    let QueueEvent::Completed {
        job, return_value, ..
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(job.as_bytes(), fields[1].1);
    assert_eq!(return_value.decode::<String>().unwrap(), "r\u{fffd}");
    assert_eq!(rest.bytes("returnvalue"), Some(fields[2].1));
    assert_eq!(rest.len(), 1);
}

/// Dashboards pass events on as JSON: the value is in it, not its text.
#[test]
fn events_serialize_by_their_name_in_the_stream() {
    let event = decode(&[
        ("event", "completed"),
        ("jobId", "7"),
        ("returnvalue", r#"{"n":1}"#),
        ("prev", "active"),
    ]);
    assert_eq!(
        serde_json::to_value(&event).unwrap(),
        serde_json::json!({
            "event": "completed", "jobId": "7", "returnvalue": { "n": 1 }, "prev": "active",
        })
    );
    let custom = decode(&[("event", "deployed"), ("version", "2")]);
    assert_eq!(
        serde_json::to_value(&custom).unwrap(),
        serde_json::json!({
            "event": "unknown", "name": "deployed", "fields": { "version": "2" },
        })
    );
    let gap = QueueEvent::Gap { missed: Some(3) };
    assert_eq!(
        serde_json::to_value(&gap).unwrap(),
        serde_json::json!({ "event": "gap", "missed": 3 })
    );
}

#[test]
fn states_are_known_by_all_their_names() {
    let state = |name: &str| PrevState(name.to_owned()).state();
    assert_eq!(state("wait"), Some(JobState::Waiting));
    assert_eq!(state("paused"), Some(JobState::Waiting));
    assert_eq!(state("waiting-children"), Some(JobState::WaitingChildren));
    assert_eq!(state("unknown"), None);
}

/// What an event is made of, as its fields would be stored.
fn parts(event: &QueueEvent, rest: &EventFields) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    // What is not UTF-8 is among the fields, and the event has it as text.
    let inexact = |name: &str, value: &str| {
        rest.iter().any(|(field, stored)| {
            field == name.as_bytes()
                && std::str::from_utf8(stored).is_err()
                && [
                    &*String::from_utf8_lossy(stored),
                    &*json::text(stored.to_vec()),
                ]
                .contains(&value)
        })
    };
    let mut add = |name: &str, value: &str| {
        if !inexact(name, value) {
            parts.push((name.into(), value.into()));
        }
    };
    match event {
        QueueEvent::Unknown { .. } | QueueEvent::Gap { .. } => {}
        event => add("event", event.name()),
    }
    match event {
        QueueEvent::Waiting { prev, .. }
        | QueueEvent::WaitingChildren { prev, .. }
        | QueueEvent::Active { prev, .. }
        | QueueEvent::Removed { prev, .. }
        | QueueEvent::Completed { prev, .. }
        | QueueEvent::Failed { prev, .. } => {
            if let Some(prev) = prev {
                add("prev", prev.as_str());
            }
        }
        _ => {}
    }
    match event {
        QueueEvent::Added { name, .. } => add("name", name),
        QueueEvent::Delayed { until, .. } => add("delay", &until.to_string()),
        QueueEvent::Progress { progress, .. } => add("data", progress.as_str()),
        QueueEvent::Completed { return_value, .. } => {
            add("returnvalue", return_value.as_str());
        }
        QueueEvent::Failed { reason, .. } => add("failedReason", reason),
        QueueEvent::Cleaned { count } => add("count", &count.to_string()),
        QueueEvent::RetriesExhausted { attempts_made, .. } => {
            add("attemptsMade", &attempts_made.to_string());
        }
        QueueEvent::Deduplicated {
            deduplication_id,
            dropped,
            ..
        } => {
            add("deduplicationId", deduplication_id);
            parts.push(("deduplicatedJobId".to_owned(), dropped.as_bytes().to_vec()));
        }
        QueueEvent::Debounced { debounce_id, .. } => add("debounceId", debounce_id),
        _ => {}
    }
    if let Some(job) = event.job() {
        parts.push(("jobId".to_owned(), job.as_bytes().to_vec()));
    }
    let mut all: Vec<_> = parts
        .into_iter()
        .map(|(name, value)| (name.into_bytes(), value))
        .collect();
    all.extend(rest.iter().map(|(n, v)| (n.to_vec(), v.to_vec())));
    if let QueueEvent::Unknown { name, fields } = event {
        // An entry may lack a name, and a name that is not text stays among the fields.
        if !name.is_empty() {
            all.push((b"event".to_vec(), name.clone().into_bytes()));
        }
        all.extend(fields.iter().map(|(n, v)| (n.to_vec(), v.to_vec())));
    }
    all.sort();
    all
}

const NAMES: &str = "(event|jobId|name|prev|delay|data|returnvalue|failedReason|attemptsMade|count|deduplicationId|deduplicatedJobId|debounceId|other)";
const EVENTS: &str = "(added|waiting|delayed|waiting-children|active|progress|completed|failed|retries-exhausted|stalled|removed|duplicated|deduplicated|debounced|drained|cleaned|paused|resumed|custom)";

proptest! {
    /// Whatever an entry holds, decoding neither panics nor loses a field.
    #[test]
    fn any_entry_decodes_and_keeps_every_field(
        event in proptest::option::of(EVENTS),
        fields in proptest::collection::vec(
            (NAMES, prop_oneof![
                "[1-9][0-9]{0,8}".prop_map(String::into_bytes),
                "[a-z]{1,6}".prop_map(String::into_bytes),
                proptest::collection::vec(any::<u8>(), 1..8),
            ]), 0..8)
    ) {
        let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = fields
            .into_iter()
            .map(|(name, value)| (name.into_bytes(), value))
            .collect();
        if let Some(event) = event {
            pairs.insert(0, (b"event".to_vec(), event.into_bytes()));
        }
        // Numbers that are equal and not spelled alike may change their spelling.
        pairs.retain(|(name, value)| {
            let number = name != b"delay" && name != b"count" && name != b"attemptsMade";
            number || !value.iter().any(|b| !b.is_ascii_alphanumeric())
                && std::str::from_utf8(value).is_ok_and(|text| {
                    !matches!(text, "nan" | "inf") && text.parse::<u64>().is_ok_and(|n| n.to_string() == text)
                        || text.parse::<f64>().is_err()
                })
        });
        let entry = bytes(pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())));
        let (event, rest) = QueueEvent::decode(entry);
        pairs.sort();
        prop_assert_eq!(parts(&event, &rest), pairs);
    }
}
