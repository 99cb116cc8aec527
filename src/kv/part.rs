//! What may stand between the separators of a key.

use crate::error::{Error, Result};

/// Longest part of a key that this crate makes, in bytes.
const PART_MAX: usize = 128;

/// Checks one part of a key: no separator, brace, wildcard or control character can be in it.
pub(super) fn check(field: &'static str, text: &str) -> Result<()> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@');
    if text.is_empty() || text.len() > PART_MAX || !text.bytes().all(fits) {
        return Err(Error::invalid(
            field,
            format!("must be 1 to {PART_MAX} of A-Z a-z 0-9 _ - . @"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_would_break_a_key_are_refused() {
        for good in ["1", "a.b@c-d_e", &"x".repeat(PART_MAX)] {
            assert!(check("part", good).is_ok(), "{good}");
        }
        let long = "x".repeat(PART_MAX + 1);
        for bad in [
            "", ":", "a:b", "{a}", "a b", "a*", "a\n", "a\0", "ä", "a/b", &long,
        ] {
            assert!(check("part", bad).is_err(), "{bad:?}");
        }
    }
}
