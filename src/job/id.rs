//! Rules for the ids of new jobs (`docs/protocol.md#job-ids`).

use crate::error::{Error, Result};
use crate::id::JobId;
use crate::job::name::check_text;

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

impl JobId {
    /// Checks an id for a new job (`docs/protocol.md#job-ids`).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the id is empty, longer than 512 bytes, contains control
    /// characters, looks like an integer, starts with `0:`, has colons but not exactly two,
    /// or would collide with a key of the queue.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = Self::existing(id);
        id.check_new()?;
        Ok(id)
    }

    /// Returns whether a job's own keys end with this.
    pub(crate) fn is_subkey(suffix: &str) -> bool {
        SUBKEYS.contains(&suffix)
    }

    /// Whether this is a key of the queue itself, so that no job can have the id.
    pub(crate) fn is_queue_key(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }

    /// Applies the rules for new ids to an id that may come from elsewhere.
    pub(crate) fn check_new(&self) -> Result<()> {
        const FIELD: &str = "job id";
        if !self.is_text() {
            return Err(Error::invalid(FIELD, "must be UTF-8"));
        }
        let id = self.as_str();
        check_text(FIELD, id, ID_MAX)?;
        if id == "0" || id.starts_with("0:") {
            return Err(Error::invalid_value(
                FIELD,
                id,
                "must not be '0' or start with '0:'",
            ));
        }
        if is_integer_like(id) {
            return Err(Error::invalid_value(FIELD, id, "must not be an integer"));
        }
        let parts: Vec<&str> = id.split(':').collect();
        if parts.len() != 1 && parts.len() != 3 {
            return Err(Error::invalid_value(
                FIELD,
                id,
                "must not contain : except as two separators of three parts",
            ));
        }
        let first = parts.first().copied().unwrap_or_default();
        let last = parts.last().copied().unwrap_or_default();
        let reserved = RESERVED.contains(&id)
            || parts.len() == 3 && (RESERVED_FAMILIES.contains(&first) || SUBKEYS.contains(&last));
        if reserved {
            return Err(Error::invalid_value(
                FIELD,
                id,
                "is reserved for a key of the queue",
            ));
        }
        Ok(())
    }
}

/// Returns whether JavaScript reads the text as a number that prints the same, which BullMQ refuses.
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
}
