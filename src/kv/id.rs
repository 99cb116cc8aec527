//! Ids that become parts of keys.

use std::fmt::Write as _;

use crate::error::{Error, Result};

/// Longest id, in bytes.
const ID_MAX: usize = 128;

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'@')
}

/// Checks that an id cannot break a key: 1 to 128 letters, digits and `_ - . @ %`.
pub(crate) fn check_id(field: &'static str, id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    if id.len() > ID_MAX {
        return Err(Error::invalid(
            field,
            format!("must not be longer than {ID_MAX} bytes"),
        ));
    }
    if !id.bytes().all(|byte| is_plain(byte) || byte == b'%') {
        return Err(Error::invalid(
            field,
            "may have letters, digits and _ - . @ % only",
        ));
    }
    Ok(())
}

/// Escapes text to the characters of an id that the rate limits and the cache accept, such as an
/// IPv6 address: each byte that is not a letter, a digit or one of `_ - . @` becomes `%` and two
/// hex digits. Different texts stay different.
///
/// An id has at most 128 bytes: longer text, and text of more than 42 bytes that all need escaping,
/// is still refused. Hash such text instead.
///
/// # Examples
/// ```
/// assert_eq!(oxbull::kv::escape_id("::1"), "%3A%3A1");
/// ```
#[must_use]
pub fn escape_id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) {
            id.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(id, "%{byte:02X}").ok();
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever could end a part of a key, open a hash tag or act as a pattern is refused.
    #[test]
    fn ids_cannot_break_a_key() {
        for good in ["a", "user-7", "me@example.org", "A_b.c", "%3A"] {
            assert!(check_id("user id", good).is_ok(), "{good:?}");
        }
        let long = "x".repeat(129);
        for bad in [
            "", ":", "a:b", "{a}", "a\n", "a\0", "a b", "*", "[", "ä", &long,
        ] {
            let error = check_id("user id", bad).unwrap_err();
            assert!(matches!(
                error,
                Error::Invalid {
                    field: "user id",
                    ..
                }
            ));
            assert!(bad.len() < 2 || !error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn escaped_text_is_an_id_and_stays_different() {
        let texts = ["::1", "%3A%3A1", "ä", "a b", "{x}", "plain"];
        let ids: std::collections::BTreeSet<_> = texts.iter().map(|t| escape_id(t)).collect();
        assert_eq!(ids.len(), texts.len());
        assert!(ids.iter().all(|id| check_id("id", id).is_ok()));
        assert_eq!(escape_id("plain"), "plain");
    }
}
