//! What the event stream reports about the adds of an earlier call.

use std::collections::HashMap;

use super::{before, text};
use crate::clock::Timestamp;
use crate::store::stream::RawEvent;
use crate::wire::{EventId, StreamEvent};

/// What became of the adds of an earlier call, by the events up to one of them.
#[derive(Debug)]
pub(crate) struct AddHistory {
    /// The event up to which the stream was read.
    pub(crate) read_to: EventId,
    /// The earlier add of each job that was asked for: the first event about it counts.
    pub(crate) adds: HashMap<String, PastAdd>,
}

/// What an event reports about an add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PastAdd {
    /// The job was added.
    Added,
    /// It replaced another job.
    Replaced {
        other: String,
        deduplication: String,
    },
    /// It was not added: another job owns the deduplication id.
    Deduplicated {
        owner: String,
        deduplication: String,
    },
}

impl AddHistory {
    /// Begins with the events of a time.
    pub(in crate::store) fn since(since: Timestamp) -> Self {
        Self {
            read_to: before(since),
            adds: HashMap::new(),
        }
    }

    /// Records what an event reports about the jobs that were `asked` for.
    pub(in crate::store) fn record(&mut self, event: &RawEvent, asked: impl Fn(&str) -> bool) {
        let mut record = |id: &str, add: PastAdd| {
            if asked(id) {
                self.adds.entry(id.to_owned()).or_insert(add);
            }
        };
        match StreamEvent::decode(&event.fields) {
            Some(StreamEvent::Added { job }) => {
                if let Some(id) = text(job) {
                    record(id, PastAdd::Added);
                }
            }
            Some(StreamEvent::Deduplicated {
                kept,
                dropped,
                deduplication_id,
            }) => {
                let (Some(kept), Some(dropped), Some(deduplication)) =
                    (text(kept), text(dropped), text(deduplication_id))
                else {
                    return;
                };
                let deduplication = deduplication.to_owned();
                let replaced = PastAdd::Replaced {
                    other: dropped.to_owned(),
                    deduplication: deduplication.clone(),
                };
                record(kept, replaced);
                let owner = kept.to_owned();
                record(
                    dropped,
                    PastAdd::Deduplicated {
                        owner,
                        deduplication,
                    },
                );
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EventFields;

    fn entry(fields: &[&str]) -> RawEvent {
        let pairs = fields.chunks(2).map(|pair| {
            let bytes = |text: &str| text.as_bytes().to_vec().into_boxed_slice();
            (bytes(pair[0]), bytes(pair[1]))
        });
        RawEvent {
            id: EventId::new(7, 0),
            fields: EventFields::new(pairs.collect()),
        }
    }

    /// The first event about a job reports what its add did; later ones are about something else.
    #[test]
    fn first_event_of_a_job_counts() {
        let mut history = AddHistory::since(Timestamp::from_millis(7));
        assert_eq!(history.read_to, EventId::new(6, u64::MAX));
        let dedup = [
            "event",
            "deduplicated",
            "jobId",
            "a",
            "deduplicationId",
            "d",
            "deduplicatedJobId",
            "b",
        ];
        for fields in [
            &dedup[..],
            &["event", "added", "jobId", "a"],
            &["event", "added", "jobId", "c"],
        ] {
            history.record(&entry(fields), |id| id != "c");
        }
        let (other, owner, deduplication) = ("b".to_owned(), "a".to_owned(), "d".to_owned());
        let replaced = PastAdd::Replaced {
            other,
            deduplication: deduplication.clone(),
        };
        assert_eq!(history.adds.get("a"), Some(&replaced));
        assert_eq!(
            history.adds.get("b"),
            Some(&PastAdd::Deduplicated {
                owner,
                deduplication
            })
        );
        assert_eq!(history.adds.len(), 2);
    }
}
