//! The entries that the library itself reads, to find ends of jobs and to repeat calls.

use super::{EventFields, field};

/// An entry that the library acts on, borrowed from its fields. Ids are bytes, as Redis has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEvent<'a> {
    /// A job was stored.
    Added { job: &'a [u8] },
    /// A worker started a job.
    Active { job: &'a [u8] },
    /// A job completed; the result is JSON text.
    Completed {
        job: &'a [u8],
        return_value: &'a [u8],
    },
    /// A job failed for good.
    Failed { job: &'a [u8], reason: &'a [u8] },
    /// A job was removed by its id.
    Removed { job: &'a [u8] },
    /// Of two adds with one deduplication id, one was dropped.
    Deduplicated {
        kept: &'a [u8],
        dropped: &'a [u8],
        deduplication_id: &'a [u8],
    },
    /// Jobs were removed by a clean; the entry does not name them.
    Cleaned,
}

impl<'a> StreamEvent<'a> {
    /// Reads an entry; `None` for every other event, and where a field is missing.
    pub(crate) fn decode(fields: &'a EventFields) -> Option<Self> {
        let job = || fields.bytes(field::JOB);
        let optional = |name| fields.bytes(name).unwrap_or_default();
        Some(match fields.bytes(field::EVENT)? {
            b"added" => Self::Added { job: job()? },
            b"active" => Self::Active { job: job()? },
            b"completed" => Self::Completed {
                job: job()?,
                return_value: optional(field::RETURN_VALUE),
            },
            b"failed" => Self::Failed {
                job: job()?,
                reason: optional(field::FAILED_REASON),
            },
            b"removed" => Self::Removed { job: job()? },
            b"deduplicated" => Self::Deduplicated {
                kept: job()?,
                dropped: fields.bytes(field::DEDUPLICATED_JOB)?,
                deduplication_id: fields.bytes(field::DEDUPLICATION_ID)?,
            },
            b"cleaned" => Self::Cleaned,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pairs: &[(&str, &str)]) -> EventFields {
        let pairs = pairs.iter();
        EventFields::new(
            pairs
                .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
                .collect(),
        )
    }

    /// Waiters and replays must not act on an entry that does not name its job.
    #[test]
    fn entries_without_their_job_are_ignored() {
        for name in [
            "added",
            "active",
            "completed",
            "failed",
            "removed",
            "deduplicated",
        ] {
            assert_eq!(StreamEvent::decode(&entry(&[("event", name)])), None);
        }
        let cleaned = entry(&[("event", "cleaned"), ("count", "3")]);
        assert_eq!(StreamEvent::decode(&cleaned), Some(StreamEvent::Cleaned));
        let other = entry(&[("event", "progress"), ("jobId", "1")]);
        assert_eq!(StreamEvent::decode(&other), None);
        assert_eq!(StreamEvent::decode(&entry(&[("jobId", "1")])), None);
    }

    #[test]
    fn ends_carry_the_stored_value() {
        let completed = entry(&[
            ("event", "completed"),
            ("jobId", "1"),
            ("returnvalue", "{}"),
        ]);
        assert_eq!(
            StreamEvent::decode(&completed),
            Some(StreamEvent::Completed {
                job: b"1",
                return_value: b"{}",
            })
        );
        let failed = entry(&[
            ("event", "failed"),
            ("jobId", "1"),
            ("failedReason", "boom"),
        ]);
        assert_eq!(
            StreamEvent::decode(&failed),
            Some(StreamEvent::Failed {
                job: b"1",
                reason: b"boom",
            })
        );
    }
}
