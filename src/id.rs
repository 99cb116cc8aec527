//! Ids of jobs, as Redis has them. The rules for new ids are in `job/id.rs`.

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a job within its queue.
///
/// Text converts into the id of a job that exists ([`existing`](Self::existing)), because the ids
/// that Redis counts (`42`) are none that a caller may choose. Whatever adds a job applies the rules
/// for new ids ([`new`](Self::new)).
///
/// JavaScript can make ids that are not UTF-8, by cutting text inside a surrogate pair. Ids compare,
/// order and hash by the bytes that Redis has; as text, in `Display` and in JSON such bytes read as
/// U+FFFD, so that an id of that kind does not survive a trip through text.
///
/// # Examples
///
/// ```
/// use oxbull::JobId;
///
/// let id = JobId::new("post-1842")?;
/// assert_eq!(id.as_str(), "post-1842");
/// // Ids that would overwrite a key of the queue, or that the counter may hand out, are refused.
/// assert!(JobId::new("wait").is_err());
/// assert!(JobId::new("42").is_err());
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(Clone)]
pub struct JobId(Repr);

#[derive(Clone)]
enum Repr {
    Text(Arc<str>),
    Bytes(Arc<Inexact>),
}

/// An id that is not UTF-8: what Redis holds, and how it reads.
struct Inexact {
    bytes: Box<[u8]>,
    text: Box<str>,
}

impl JobId {
    /// Makes an id that no other job has: a version 7 UUID, sortable by time.
    pub fn unique() -> Self {
        Self::existing(uuid::Uuid::now_v7().to_string())
    }

    /// Wraps the id of a job that exists already, whoever made it. Any text is accepted, since other
    /// clients have other rules.
    pub fn existing(id: impl AsRef<str>) -> Self {
        Self(Repr::Text(id.as_ref().into()))
    }

    /// Wraps the id of a job that exists already, as Redis has it: the bytes may not be UTF-8.
    pub fn from_bytes(id: impl AsRef<[u8]>) -> Self {
        let id = id.as_ref();
        Self(match String::from_utf8_lossy(id) {
            Cow::Borrowed(text) => Repr::Text(text.into()),
            Cow::Owned(text) => Repr::Bytes(Arc::new(Inexact {
                bytes: id.into(),
                text: text.into(),
            })),
        })
    }

    /// Returns the id as text; bytes that are not UTF-8 read as U+FFFD.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Text(text) => text,
            Repr::Bytes(id) => &id.text,
        }
    }

    /// Returns the id as Redis has it.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Text(text) => text.as_bytes(),
            Repr::Bytes(id) => &id.bytes,
        }
    }

    /// Returns whether Redis has the id as UTF-8.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self.0, Repr::Text(_))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JobId").field(&self.as_str()).finish()
    }
}

impl AsRef<str> for JobId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for JobId {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Finds ids in maps by their bytes. There is no `Borrow<str>`, since different ids may read alike.
impl Borrow<[u8]> for JobId {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The id of a job that exists, as [`JobId::existing`].
impl From<&str> for JobId {
    fn from(id: &str) -> Self {
        Self::existing(id)
    }
}

/// The id of a job that exists, as [`JobId::existing`].
impl From<String> for JobId {
    fn from(id: String) -> Self {
        Self(Repr::Text(id.into()))
    }
}

impl From<&Self> for JobId {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}

/// The id of a job that exists, as [`JobId::existing`].
impl FromStr for JobId {
    type Err = Infallible;

    fn from_str(id: &str) -> Result<Self, Infallible> {
        Ok(Self::existing(id))
    }
}

impl PartialEq<str> for JobId {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for JobId {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The id of a job that exists, as [`JobId::existing`].
impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

// Two ids that read alike are two ids where their bytes differ.

impl PartialEq for JobId {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for JobId {}

impl PartialOrd for JobId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for JobId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for JobId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Redis stores bytes: they must be kept, and two ids that look alike as text are different.
    #[test]
    fn ids_that_are_no_text_keep_their_bytes() {
        let high = JobId::from_bytes(b"a\xed\xa0\xbd");
        let low = JobId::from_bytes(b"a\xed\xb8\x80");
        assert_eq!(high.as_str(), low.as_str());
        assert_ne!(high, low);
        assert!(high < low);
        assert_ne!(high, JobId::existing(high.as_str()));
        assert_eq!(high.as_bytes(), b"a\xed\xa0\xbd");
        assert!(!high.is_text());
        let text = JobId::from_bytes("é");
        assert_eq!(text, JobId::existing("é"));
        let ids: std::collections::HashSet<JobId> = [high, low, text].into();
        assert!(ids.contains(&JobId::from_bytes("é")));
        assert_eq!(ids.len(), 3);
        assert_eq!(size_of::<JobId>(), size_of::<Arc<str>>());
    }

    /// An id that a dashboard was given names the same job when it is sent back, also one from the
    /// counter.
    #[test]
    fn ids_survive_a_trip_through_text_and_json() {
        for id in ["42", "post-1842", "repeat:x:1", "é\n"] {
            let id = JobId::existing(id);
            assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
            let json = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<JobId>(&json).unwrap(), id);
        }
        assert!(serde_json::from_str::<JobId>("42").is_err());
        let cut = JobId::from_bytes(b"a\xed\xa0\xbd");
        let shown = serde_json::to_value(&cut).unwrap();
        assert_eq!(shown, "a\u{fffd}\u{fffd}\u{fffd}");
        assert_ne!(JobId::from(cut.as_str()), cut);
    }

    #[test]
    fn ids_are_found_in_maps_by_their_bytes() {
        let ids = std::collections::HashSet::from([JobId::from("42"), JobId::from_bytes(b"\xff")]);
        assert!(ids.contains("42".as_bytes()));
        assert!(ids.contains(b"\xff".as_slice()));
        assert!(!ids.contains("\u{fffd}".as_bytes()));
        assert_eq!(JobId::from("42"), "42");
    }
}
