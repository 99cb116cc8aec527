//! `H`: a value drawn from a seed, so that many schedules spread over the hour.

use std::fmt::Write as _;

use super::field::Kind;

/// The numbers that one seed yields, from 0 up to 1: one for each field.
#[derive(Debug)]
pub(super) struct Draws(u32);

impl Draws {
    /// Begins with a number.
    pub(super) fn new(seed: u32) -> Self {
        Self(seed)
    }

    /// Begins with the FNV-1a hash of a text's UTF-16 units.
    pub(super) fn of(text: &str) -> Self {
        let hash = text.encode_utf16().fold(2_166_136_261, |hash: u32, unit| {
            (hash ^ u32::from(unit)).wrapping_mul(16_777_619)
        });
        Self(hash)
    }

    /// Draws the next number (the generator is Mulberry32).
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x6d2b_79f5);
        let mut mixed = (self.0 ^ (self.0 >> 15)).wrapping_mul(self.0 | 1);
        mixed ^= mixed.wrapping_add((mixed ^ (mixed >> 7)).wrapping_mul(mixed | 0x3d));
        f64::from(mixed ^ (mixed >> 14)) / 4_294_967_296.0
    }
}

/// Writes what each `H`, `H/n`, `H(a-b)` and `H(a-b)/n` of a field stands for; all of them share
/// the field's one draw.
pub(super) fn expand(kind: Kind, text: &str, draw: f64) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('H') {
        expanded.push_str(before);
        let (range, after) = match range(after) {
            Some((range, after)) => (Some(range), after),
            None => (None, after),
        };
        let (step, after) = match step(after) {
            Some((step, after)) => (Some(step), after),
            None => (None, after),
        };
        let hash = Hashed { kind, range, draw };
        match step {
            Some(step) => hash.write_steps(step, &mut expanded)?,
            None => hash.write_one(&mut expanded)?,
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Reads `/n`.
pub(super) fn step(text: &str) -> Option<(u64, &str)> {
    digits(text.strip_prefix('/')?)
}

/// Reads `(a-b)`.
pub(super) fn range(text: &str) -> Option<((u64, u64), &str)> {
    let (low, text) = digits(text.strip_prefix('(')?)?;
    let (high, text) = digits(text.strip_prefix('-')?)?;
    Some(((low, high), text.strip_prefix(')')?))
}

/// Reads digits; a number that no field has room for is as good as the largest.
fn digits(text: &str) -> Option<(u64, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.is_empty() {
        return None;
    }
    Some((digits.parse().unwrap_or(u64::MAX), rest))
}

struct Hashed {
    kind: Kind,
    range: Option<(u64, u64)>,
    draw: f64,
}

impl Hashed {
    fn write_one(&self, to: &mut String) -> Result<(), String> {
        let (low, high) = self.bounds()?;
        write!(to, "{}", low + self.drawn(high - low + 1)).ok();
        Ok(())
    }

    /// Writes the values that leave the drawn remainder, or one value if none does.
    fn write_steps(&self, step: u64, to: &mut String) -> Result<(), String> {
        if step == 0 {
            return Err("Invalid step: 0, must be positive".to_owned());
        }
        let (low, high) = self.bounds()?;
        let remainder = self.drawn(step);
        let mut values = (low..=high).filter(|value| {
            value
                .checked_sub(remainder)
                .is_some_and(|over| over.is_multiple_of(step))
        });
        let Some(first) = values.next() else {
            return self.write_one(to);
        };
        write!(to, "{first}").ok();
        for value in values {
            write!(to, ",{value}").ok();
        }
        Ok(())
    }

    /// The range, within what the field allows.
    fn bounds(&self) -> Result<(u64, u64), String> {
        let (min, max) = self.kind.bounds();
        let Some((low, high)) = self.range else {
            return Ok((min, max));
        };
        if low > high {
            return Err(format!("Invalid range: {low}-{high}, min > max"));
        }
        if low.max(min) > high.min(max) {
            let field = self.kind.name();
            return Err(format!(
                "Invalid range: {low}-{high}, no usable value in the {field} field"
            ));
        }
        Ok((low.max(min), high.min(max)))
    }

    /// A whole number below `count`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as JavaScript computes it: from 0 up to `count`"
    )]
    fn drawn(&self, count: u64) -> u64 {
        (self.draw * count as f64).floor() as u64
    }
}
