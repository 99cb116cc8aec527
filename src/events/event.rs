//! What the entries of the event stream say (`docs/protocol.md#events`).

use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobState};
use crate::json;
use crate::wire::EventFields;

/// Something that happened in a queue, whoever made it happen.
///
/// Match with a `_` arm: newer versions tell of more.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QueueEvent {
    /// A job was stored.
    Added {
        /// The job.
        job: JobId,
        /// Its name.
        name: String,
    },
    /// A job is ready to run, with or without a priority.
    Waiting {
        /// The job.
        job: JobId,
        /// Where it comes from; `None`: it is new.
        prev: Option<PrevState>,
    },
    /// A job waits for a time.
    Delayed {
        /// The job.
        job: JobId,
        /// When it is due.
        until: Timestamp,
    },
    /// A job waits for its children.
    WaitingChildren {
        /// The job.
        job: JobId,
        /// Where it comes from; `None`: it is new.
        prev: Option<PrevState>,
    },
    /// A worker started a job.
    Active {
        /// The job.
        job: JobId,
        /// Where it comes from; always said to be waiting.
        prev: Option<PrevState>,
    },
    /// A job reported progress.
    Progress {
        /// The job.
        job: JobId,
        /// What it reported.
        data: RawJson,
    },
    /// A job completed.
    Completed {
        /// The job.
        job: JobId,
        /// Its result.
        return_value: RawJson,
        /// Where it comes from.
        prev: Option<PrevState>,
    },
    /// A job failed for good: it is not tried again by itself.
    Failed {
        /// The job.
        job: JobId,
        /// Why.
        reason: String,
        /// Where it comes from.
        prev: Option<PrevState>,
    },
    /// A job failed with its last attempt; comes right after [`Failed`](Self::Failed).
    RetriesExhausted {
        /// The job.
        job: JobId,
        /// How many attempts it has had.
        attempts_made: u32,
    },
    /// A job of a worker that vanished was handed back; comes after its
    /// [`Waiting`](Self::Waiting).
    Stalled {
        /// The job.
        job: JobId,
    },
    /// A job was removed by its id. Retention, drain, clean and the upsert of a scheduler, which
    /// replaces its pending iteration, do not tell.
    Removed {
        /// The job.
        job: JobId,
        /// Where it was.
        prev: Option<PrevState>,
    },
    /// An add named the id of a job that exists.
    Duplicated {
        /// The job that exists.
        job: JobId,
    },
    /// An add was taken for another one of the same deduplication id.
    Deduplicated {
        /// The job that stays.
        job: JobId,
        /// What both have in common.
        deduplication_id: String,
        /// The job that was not added, or that was replaced.
        dropped: JobId,
    },
    /// What BullMQ 5 says before [`Deduplicated`](Self::Deduplicated).
    Debounced {
        /// The job that stays.
        job: JobId,
        /// What both have in common.
        debounce_id: String,
    },
    /// The last job that was ready or running has ended.
    Drained,
    /// Jobs were removed by a clean.
    Cleaned {
        /// How many.
        count: u64,
    },
    /// The queue was paused, also if it was already.
    Paused,
    /// The queue was resumed, also if it was not paused.
    Resumed,
    /// Not an event: entries were removed before this reader could read them, or the stream was
    /// deleted. Whatever is derived from events must be looked up again. Where the server cannot
    /// tell how many are missing, it may be none: everything that was read is gone, and perhaps
    /// more.
    Gap {
        /// How many entries are missing, where the server can tell (Redis 7 and later).
        missed: Option<u64>,
    },
    /// Anything else: an application's own event, one of a newer version, or one whose fields
    /// are not what this version knows. Nothing of it is lost.
    Unknown {
        /// The event's name; empty where the entry has none.
        name: String,
        /// Its other fields.
        fields: EventFields,
    },
}

impl QueueEvent {
    /// Returns the event's name in the stream; empty for a [`Gap`](Self::Gap).
    pub fn name(&self) -> &str {
        match self {
            Self::Added { .. } => "added",
            Self::Waiting { .. } => "waiting",
            Self::Delayed { .. } => "delayed",
            Self::WaitingChildren { .. } => "waiting-children",
            Self::Active { .. } => "active",
            Self::Progress { .. } => "progress",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::RetriesExhausted { .. } => "retries-exhausted",
            Self::Stalled { .. } => "stalled",
            Self::Removed { .. } => "removed",
            Self::Duplicated { .. } => "duplicated",
            Self::Deduplicated { .. } => "deduplicated",
            Self::Debounced { .. } => "debounced",
            Self::Drained => "drained",
            Self::Cleaned { .. } => "cleaned",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Gap { .. } => "",
            Self::Unknown { name, .. } => name,
        }
    }

    /// Returns the job that the event is about.
    pub fn job(&self) -> Option<&JobId> {
        match self {
            Self::Added { job, .. }
            | Self::Waiting { job, .. }
            | Self::Delayed { job, .. }
            | Self::WaitingChildren { job, .. }
            | Self::Active { job, .. }
            | Self::Progress { job, .. }
            | Self::Completed { job, .. }
            | Self::Failed { job, .. }
            | Self::RetriesExhausted { job, .. }
            | Self::Stalled { job }
            | Self::Removed { job, .. }
            | Self::Duplicated { job }
            | Self::Deduplicated { job, .. }
            | Self::Debounced { job, .. } => Some(job),
            Self::Drained
            | Self::Cleaned { .. }
            | Self::Paused
            | Self::Resumed
            | Self::Gap { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// Reads an entry; returns the fields that the event has no place for beside it.
    pub(super) fn decode(fields: EventFields) -> (Self, EventFields) {
        let mut known = Known {
            fields: &fields,
            used: Vec::with_capacity(4),
        };
        let name = known.exact("event").unwrap_or_default();
        let named = known.used.clone();
        if let Some(event) = Self::known(&name, &mut known) {
            let used = known.used;
            return (event, fields.without(&used));
        }
        let fields = fields.without(&named);
        (Self::Unknown { name, fields }, EventFields::default())
    }

    /// Builds an event that this version knows; `None` when it does not, or when a field is
    /// missing or of another kind.
    fn known(name: &str, fields: &mut Known<'_>) -> Option<Self> {
        Some(match name {
            "added" => Self::Added {
                job: fields.job()?,
                name: fields.text("name")?,
            },
            "waiting" => Self::Waiting {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "delayed" => Self::Delayed {
                job: fields.job()?,
                until: time(&fields.text("delay")?)?,
            },
            "waiting-children" => Self::WaitingChildren {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "active" => Self::Active {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "progress" => Self::Progress {
                job: fields.job()?,
                data: fields.json("data")?,
            },
            "completed" => Self::Completed {
                job: fields.job()?,
                return_value: fields.json("returnvalue")?,
                prev: fields.prev(),
            },
            "failed" => Self::Failed {
                job: fields.job()?,
                reason: fields.text("failedReason")?,
                prev: fields.prev(),
            },
            "retries-exhausted" => Self::RetriesExhausted {
                job: fields.job()?,
                attempts_made: fields.text("attemptsMade")?.parse().ok()?,
            },
            "stalled" => Self::Stalled { job: fields.job()? },
            "removed" => Self::Removed {
                job: fields.job()?,
                prev: fields.prev(),
            },
            "duplicated" => Self::Duplicated { job: fields.job()? },
            "deduplicated" => Self::Deduplicated {
                job: fields.job()?,
                deduplication_id: fields.text("deduplicationId")?,
                dropped: fields.id("deduplicatedJobId")?,
            },
            "debounced" => Self::Debounced {
                job: fields.job()?,
                debounce_id: fields.text("debounceId")?,
            },
            "drained" => Self::Drained,
            "cleaned" => Self::Cleaned {
                count: fields.text("count")?.parse().ok()?,
            },
            "paused" => Self::Paused,
            "resumed" => Self::Resumed,
            _ => return None,
        })
    }
}

/// The fields of an entry, and which of them its event has a place for.
struct Known<'a> {
    fields: &'a EventFields,
    used: Vec<usize>,
}

impl Known<'_> {
    fn exact(&mut self, name: &str) -> Option<String> {
        let (at, value) = self.fields.find(name)?;
        let text = std::str::from_utf8(value).ok()?;
        self.used.push(at);
        Some(text.to_owned())
    }

    /// Takes a field as text. Bytes that are no UTF-8 read as U+FFFD, and stay among the fields.
    fn text(&mut self, name: &str) -> Option<String> {
        self.exact(name).or_else(|| {
            let value = self.fields.bytes(name)?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    fn json(&mut self, name: &str) -> Option<RawJson> {
        let text = self.exact(name).or_else(|| {
            let value = self.fields.bytes(name)?;
            Some(json::text(value.to_vec()))
        });
        text.map(RawJson)
    }

    fn id(&mut self, name: &str) -> Option<JobId> {
        let (at, id) = self.fields.find(name)?;
        self.used.push(at);
        Some(JobId::from_bytes(id))
    }

    fn job(&mut self) -> Option<JobId> {
        self.id("jobId")
    }

    fn prev(&mut self) -> Option<PrevState> {
        self.text("prev").map(PrevState)
    }
}

/// Reads a due time; a producer's fractional delay makes it fractional.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(millis) = text.parse() {
        return Some(Timestamp::from_millis(millis));
    }
    let millis: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`as` saturates, which is what is wanted"
    )]
    millis
        .is_finite()
        .then(|| Timestamp::from_millis(millis as i64))
}

/// The state that a job left, as an event names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PrevState(String);

impl PrevState {
    /// Returns the stored name, such as `delayed`; `wait` and `waiting` mean the same.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the state; `None` when the job was in none, or in one this version does not know.
    pub fn state(&self) -> Option<JobState> {
        match self.as_str() {
            // What a BullMQ 5 client parked is waiting too.
            "wait" | "paused" => Some(JobState::Waiting),
            name => JobState::ALL
                .into_iter()
                .find(|state| state.as_str() == name),
        }
    }
}

/// A value as JSON text, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(String);

impl RawJson {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Decodes the value.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`] when the text is no JSON of type `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        json::read(&self.0).map_err(|source| Error::Decode {
            what: "an event's value".to_owned(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
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

    /// An entry that is not what its name promises is told as it is.
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

    /// Node's reader stops for ever at JSON that does not parse.
    #[test]
    fn bad_json_is_an_error_of_its_reader_only() {
        let event = decode(&[("event", "progress"), ("jobId", "1"), ("data", "{x")]);
        let QueueEvent::Progress { data, .. } = event else {
            panic!("{event:?}");
        };
        assert_eq!(data.as_str(), "{x");
        assert!(data.decode::<serde_json::Value>().is_err());
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
        // What is no UTF-8 is among the fields, and the event has it as text.
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
            QueueEvent::Progress { data, .. } => add("data", data.as_str()),
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
            // An entry may lack a name, and a name that is no text stays among the fields.
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
}
