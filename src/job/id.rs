//! Checked names: queues, key prefixes and job ids.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::{Error, Result};

/// Longest queue name and prefix, in bytes.
const NAME_MAX: usize = 128;
/// Longest job id that this crate creates, in bytes.
pub(super) const ID_MAX: usize = 512;

/// Ids that would collide with a key of the queue (`docs/protocol.md#job-ids`).
const RESERVED: &[&str] = &[
    "wait",
    "active",
    "paused",
    "prioritized",
    "pc",
    "delayed",
    "waiting-children",
    "completed",
    "failed",
    "id",
    "meta",
    "events",
    "marker",
    "stalled",
    "stalled-check",
    "limiter",
    "repeat",
    "de",
    "dn",
    "metrics",
    "delay",
    "priority",
    "batches",
];
/// First parts of three-part ids that would collide with keys of a queue.
const RESERVED_FAMILIES: &[&str] = &["repeat", "de", "dn", "metrics"];
/// Suffixes of a job's own sub-keys.
const SUBKEYS: &[&str] = &[
    "lock",
    "logs",
    "dependencies",
    "processed",
    "failed",
    "unsuccessful",
];

pub(super) fn check_text(field: &'static str, text: &str, max: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if text.len() > max {
        return Err(Error::invalid(
            field,
            format!("must not be longer than {max} bytes"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must not contain control characters"));
    }
    Ok(())
}

/// The name of a queue: not empty, no `:` (`docs/protocol.md#key-names`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// Checks and wraps a queue name.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the name is empty, longer than 128 bytes, or contains `:` or
    /// control characters.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(Error::invalid("queue name", "must be provided"));
        }
        if name.contains(':') {
            return Err(Error::invalid("queue name", "cannot contain :"));
        }
        check_text("queue name", name, NAME_MAX)?;
        Ok(Self(name.into()))
    }

    /// Wraps a name that is checked before it is used.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(name.into())
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first part of every key of a queue, `bull` by default; may carry a hash tag such as
/// `{bull}` (`docs/protocol.md#key-names`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(Arc<str>);

impl Prefix {
    /// Checks and wraps a prefix.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the prefix is empty, longer than 128 bytes, or contains control
    /// characters.
    pub fn new(prefix: impl AsRef<str>) -> Result<Self> {
        let prefix = prefix.as_ref();
        check_text("prefix", prefix, NAME_MAX)?;
        Ok(Self(prefix.into()))
    }

    /// Returns the prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self("bull".into())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of a job within its queue.
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

/// An id that is no UTF-8: what Redis holds, and how it reads.
struct Inexact {
    bytes: Box<[u8]>,
    text: Box<str>,
}

impl JobId {
    /// Checks an id for a new job (`docs/protocol.md#job-ids`).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the id is empty, longer than 512 bytes, contains control
    /// characters, looks like an integer, starts with `0:`, has colons but not exactly three
    /// parts, or would collide with a key of the queue.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = Self::existing(id);
        id.check_new()?;
        Ok(id)
    }

    /// Makes an id that no other job has: a version 7 UUID, sortable by time.
    pub fn unique() -> Self {
        Self::existing(uuid::Uuid::now_v7().to_string())
    }

    /// Wraps the id of a job that exists already, whoever made it. Anything goes, since other
    /// clients have other rules.
    pub fn existing(id: impl AsRef<str>) -> Self {
        Self(Repr::Text(id.as_ref().into()))
    }

    /// Wraps the id of a job that exists already, as Redis has it: JavaScript can make ids that
    /// are no UTF-8, by cutting text inside a surrogate pair.
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

    /// Returns the id as text; bytes that are no UTF-8 read as U+FFFD.
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

    /// Says whether a job's own keys end with this.
    pub(crate) fn is_subkey(suffix: &str) -> bool {
        SUBKEYS.contains(&suffix)
    }

    /// Applies the rules for new ids to an id that may come from elsewhere.
    pub(crate) fn check_new(&self) -> Result<()> {
        const FIELD: &str = "job id";
        if matches!(self.0, Repr::Bytes(_)) {
            return Err(Error::invalid(FIELD, "must be UTF-8"));
        }
        let id = self.as_str();
        check_text(FIELD, id, ID_MAX)?;
        if id == "0" || id.starts_with("0:") {
            return Err(Error::invalid(FIELD, "cannot be '0' or start with '0:'"));
        }
        if is_integer_like(id) {
            return Err(Error::invalid(FIELD, "cannot be an integer"));
        }
        let parts: Vec<&str> = id.split(':').collect();
        if parts.len() != 1 && parts.len() != 3 {
            return Err(Error::invalid(
                FIELD,
                "cannot contain : except as two separators of three parts",
            ));
        }
        let first = parts.first().copied().unwrap_or_default();
        let last = parts.last().copied().unwrap_or_default();
        let reserved = RESERVED.contains(&id)
            || parts.len() == 3 && (RESERVED_FAMILIES.contains(&first) || SUBKEYS.contains(&last));
        if reserved {
            return Err(Error::invalid(
                FIELD,
                format!("{id} is reserved for a key of the queue"),
            ));
        }
        Ok(())
    }
}

/// Says whether JavaScript reads the text as a number that prints the same, which BullMQ refuses.
fn is_integer_like(id: &str) -> bool {
    if id == "NaN" {
        return true;
    }
    let digits = id.strip_prefix('-').unwrap_or(id);
    if digits.is_empty() || digits.len() > 21 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return false;
    }
    // "-0" prints as "0"; larger numbers must survive the trip through a double.
    id != "-0"
        && id
            .parse::<f64>()
            .is_ok_and(|number| number.abs() < 1e21 && format!("{number}") == id)
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

    #[test]
    fn ids_follow_the_rules_of_the_protocol() {
        for good in [
            "cust",
            "a:b:c",
            ":a:",
            "x y",
            "é",
            "a/b",
            "05",
            "+5",
            "-0",
            "1.5",
            "1e3",
            " 5",
            "0x10",
            "9007199254740993",
        ] {
            assert!(JobId::new(good).is_ok(), "{good} must be accepted");
        }
        for bad in [
            "",
            "0",
            "0:a:b",
            "5",
            "-5",
            "9007199254740991",
            "NaN",
            "a:b",
            "a:b:c:d",
            "a\nb",
        ] {
            assert!(JobId::new(bad).is_err(), "{bad} must be refused");
        }
    }

    #[test]
    fn ids_that_are_keys_of_the_queue_are_refused() {
        for id in RESERVED {
            assert!(JobId::new(id).is_err(), "{id}");
        }
        for id in [
            "metrics:completed:data",
            "repeat:x:1",
            "de:a:b",
            "dn:a:b",
            "a:b:lock",
            "a:b:logs",
        ] {
            assert!(JobId::new(id).is_err(), "{id}");
        }
    }

    /// Redis gives bytes; they must come back, and two ids that read alike are not one.
    #[test]
    fn ids_that_are_no_text_keep_their_bytes() {
        let high = JobId::from_bytes(b"a\xed\xa0\xbd");
        let low = JobId::from_bytes(b"a\xed\xb8\x80");
        assert_eq!(high.as_str(), low.as_str());
        assert_ne!(high, low);
        assert!(high < low);
        assert_ne!(high, JobId::existing(high.as_str()));
        assert_eq!(high.as_bytes(), b"a\xed\xa0\xbd");
        assert!(high.check_new().is_err());
        let text = JobId::from_bytes("é");
        assert_eq!(text, JobId::existing("é"));
        let ids: std::collections::HashSet<JobId> = [high, low, text].into();
        assert!(ids.contains(&JobId::from_bytes("é")));
        assert_eq!(ids.len(), 3);
        assert_eq!(size_of::<JobId>(), size_of::<Arc<str>>());
    }

    #[test]
    fn queue_names_and_prefixes_are_checked() {
        assert!(QueueName::new("a b").is_ok());
        assert!(QueueName::new("").is_err());
        assert!(QueueName::new("a:b").is_err());
        assert!(Prefix::new("{bull}").is_ok());
        assert!(Prefix::new("my:app").is_ok());
        assert!(Prefix::new("").is_err());
    }
}
