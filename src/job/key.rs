//! The complete key of a job: queue and id.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::job::JobId;

/// A job of any queue, as flows name it: the complete key of the job's hash, `<prefix>:<queue>:<id>`
/// (`bull:thumbnails:42`).
///
/// Queue and id are told apart by the last colon, as BullMQ does. An id that has colons itself
/// therefore reads as its last part, and what comes before as part of the queue; the key as such is
/// right all the same.
///
/// # Examples
///
/// ```
/// use oxbull::JobKey;
///
/// let child = JobKey::from("bull:thumbnails:42");
/// assert_eq!(child.queue(), "bull:thumbnails");
/// assert_eq!((child.prefix(), child.queue_name()), ("bull", "thumbnails"));
/// assert_eq!(child.id().as_str(), "42");
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobKey(JobId);

impl JobKey {
    /// Names the job `id` of a queue by its qualified name (`bull:thumbnails`), prefix included.
    pub fn new(queue: impl AsRef<str>, id: &JobId) -> Self {
        Self::from_bytes([queue.as_ref().as_bytes(), b":", id.as_bytes()].concat())
    }

    /// Wraps a key as Redis has it.
    pub fn from_bytes(key: impl AsRef<[u8]>) -> Self {
        Self(JobId::from_bytes(key))
    }

    /// Returns the complete key; bytes that are not UTF-8 read as U+FFFD.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the complete key as Redis has it.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Returns the qualified name of the job's queue (`bull:thumbnails`).
    pub fn queue(&self) -> &str {
        self.as_str()
            .rsplit_once(':')
            .map_or("", |(queue, _)| queue)
    }

    /// Returns the prefix of the queue's keys (`bull`).
    pub fn prefix(&self) -> &str {
        self.queue()
            .rsplit_once(':')
            .map_or("", |(prefix, _)| prefix)
    }

    /// Returns the queue's name, without the prefix (`thumbnails`).
    pub fn queue_name(&self) -> &str {
        let queue = self.queue();
        queue.rsplit_once(':').map_or(queue, |(_, name)| name)
    }

    /// Returns the job's id.
    pub fn id(&self) -> JobId {
        let key = self.as_bytes();
        let colon = key.iter().rposition(|byte| *byte == b':');
        JobId::from_bytes(colon.map_or(key, |colon| key.get(colon + 1..).unwrap_or_default()))
    }
}

impl From<&str> for JobKey {
    fn from(key: &str) -> Self {
        Self::from_bytes(key)
    }
}

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_key_has_a_queue_and_an_id() {
        for (key, queue, prefix, name, id) in [
            ("bull:q:7", "bull:q", "bull", "q", "7"),
            ("{a}:b:q:x", "{a}:b:q", "{a}:b", "q", "x"),
            ("q:7", "q", "", "q", "7"),
            ("7", "", "", "", "7"),
            ("", "", "", "", ""),
        ] {
            let parsed = JobKey::from(key);
            let parts = (parsed.queue(), parsed.prefix(), parsed.queue_name());
            assert_eq!(parts, (queue, prefix, name), "{key}");
            assert_eq!(parsed.id().as_str(), id);
        }
        let cut = JobKey::new("bull:q", &JobId::from_bytes(b"a\xed\xa0\xbd"));
        assert_eq!(cut.as_bytes(), b"bull:q:a\xed\xa0\xbd");
        assert_eq!(cut.id().as_bytes(), b"a\xed\xa0\xbd");
    }
}
