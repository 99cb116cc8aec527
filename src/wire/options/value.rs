//! Values of stored options, read as JavaScript converts them.

use std::time::Duration;

use serde_json::Value;

/// Reads text, also that of a number, and of the only item of a list.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(list) => match list.as_slice() {
            [item @ (Value::String(_) | Value::Number(_))] => text_of(item),
            _ => None,
        },
        _ => None,
    }
}

/// Describes why a stored value was not read; long values are clipped.
pub(crate) fn problem(field: &str, reason: &str, stored: &str) -> String {
    const LONGEST: usize = 60;
    let more = if stored.chars().nth(LONGEST).is_some() {
        "..."
    } else {
        ""
    };
    let shown: String = stored.chars().take(LONGEST).collect();
    let shown: String = shown.escape_debug().collect();
    format!("{field}: {reason}: {shown}{more}")
}

/// Reads a finite number, also one written as text.
pub(crate) fn finite(value: &Value) -> Option<f64> {
    number_of(value).filter(|number| number.is_finite())
}

/// Reads a number as JavaScript converts values into one, but for empty text, which is none.
pub(super) fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number_in(text.trim()),
        Value::Bool(set) => Some(f64::from(*set)),
        Value::Array(list) => match list.as_slice() {
            [item @ (Value::Number(_) | Value::String(_))] => number_of(item),
            _ => None,
        },
        Value::Null | Value::Object(_) => None,
    }
}

fn number_in(text: &str) -> Option<f64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let number = u32::from_str_radix(digits, 16).ok().map(f64::from);
        return number.filter(|_| !digits.starts_with('+'));
    }
    match text {
        "Infinity" | "+Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        // Rust's names of numbers that are not finite are not numbers in JavaScript.
        _ if text.contains(|c: char| c.is_alphabetic() && !matches!(c, 'e' | 'E')) => None,
        _ => text.parse().ok(),
    }
}

/// Whole part of a number, negative ones as 0, larger ones as the maximum.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(crate) fn small(number: f64) -> u32 {
    number as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` saturates, which is what is wanted"
)]
pub(crate) fn whole(number: f64) -> i64 {
    number as i64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
pub(crate) fn duration(millis: f64) -> Duration {
    Duration::from_millis(millis as u64)
}

pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Bool(set) => *set,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Null => false,
        Value::Array(_) | Value::Object(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_of_javascript() {
        for (value, number) in [
            (json!(2.5), Some(2.5)),
            (json!(" 3 "), Some(3.0)),
            (json!("1e3"), Some(1000.0)),
            (json!("0x10"), Some(16.0)),
            (json!("Infinity"), Some(f64::INFINITY)),
            (json!([3]), Some(3.0)),
            (json!(true), Some(1.0)),
            (json!(""), None),
            (json!("inf"), None),
            (json!("NaN"), None),
            (json!("3x"), None),
            (json!("0x+1"), None),
            (json!({}), None),
            (json!([1, 2]), None),
            (json!(null), None),
        ] {
            assert_eq!(number_of(&value), number, "{value}");
        }
        assert_eq!(finite(&json!("Infinity")), None);
    }

    #[test]
    fn long_values_are_clipped() {
        let told = problem("opts.x", "is odd", &"\u{1f600}\n".repeat(50));
        assert!(told.starts_with("opts.x: is odd: "), "{told}");
        assert!(told.ends_with("..."), "{told}");
        assert!(told.chars().count() < 120 && !told.contains('\n'), "{told}");
    }
}
