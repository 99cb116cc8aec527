//! One field of a pattern: `*`, values, ranges, steps, names, `L`, `#`.

use super::hashed;

/// The fields, in the order of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Second,
    Minute,
    Hour,
    DayOfMonth,
    Month,
    DayOfWeek,
}

/// The names of months and weekdays, either of which BullMQ takes in both fields.
const NAMES: [(&str, &str); 19] = [
    ("jan", "1"),
    ("feb", "2"),
    ("mar", "3"),
    ("apr", "4"),
    ("may", "5"),
    ("jun", "6"),
    ("jul", "7"),
    ("aug", "8"),
    ("sep", "9"),
    ("oct", "10"),
    ("nov", "11"),
    ("dec", "12"),
    ("sun", "0"),
    ("mon", "1"),
    ("tue", "2"),
    ("wed", "3"),
    ("thu", "4"),
    ("fri", "5"),
    ("sat", "6"),
];

impl Kind {
    pub(super) const ALL: [Self; 6] = [
        Self::Second,
        Self::Minute,
        Self::Hour,
        Self::DayOfMonth,
        Self::Month,
        Self::DayOfWeek,
    ];

    /// The smallest and the largest value; 0 and 7 are both Sunday.
    pub(super) fn bounds(self) -> (u64, u64) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::DayOfWeek => (0, 7),
        }
    }

    /// The name that some messages use.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "dayOfMonth",
            Self::Month => "month",
            Self::DayOfWeek => "dayOfWeek",
        }
    }

    /// The name that the others use.
    fn class(self) -> &'static str {
        match self {
            Self::Second => "CronSecond",
            Self::Minute => "CronMinute",
            Self::Hour => "CronHour",
            Self::DayOfMonth => "CronDayOfMonth",
            Self::Month => "CronMonth",
            Self::DayOfWeek => "CronDayOfWeek",
        }
    }

    fn takes_last(self) -> bool {
        matches!(self, Self::DayOfMonth | Self::DayOfWeek)
    }

    fn range(self) -> String {
        let (min, max) = self.bounds();
        format!("{min}-{max}")
    }
}

/// A parsed field.
#[derive(Debug)]
pub(super) struct Parsed {
    kind: Kind,
    open: bool,
    last: bool,
    nth: Option<u8>,
    items: Vec<Item>,
}

/// A number, or a text that only `L` makes valid.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Value(u64),
    Text(String),
}

/// Reads a field. The text is rewritten step by step (names, then `*`, then `H`) before it is
/// taken apart, which also decides what odd mixtures such as `*-5` mean.
pub(super) fn parse(kind: Kind, text: &str, draw: f64) -> Result<Parsed, String> {
    let (value, nth) = match kind {
        Kind::DayOfWeek => occurrence(text)?,
        _ => (text, None),
    };
    let named = match kind {
        Kind::Month | Kind::DayOfWeek => names(value)?,
        _ => value.to_owned(),
    };
    if !has_only_known_letters(kind, &named) {
        return Err(format!("Invalid characters, got value: {named}"));
    }
    let spelled = named.replace(['*', '?'], &kind.range());
    let spelled = hashed::expand(kind, &spelled, draw)?;
    let mut items = Vec::new();
    for part in spelled.split(',') {
        if part.is_empty() {
            return Err("Invalid list value format".to_owned());
        }
        repetition(kind, part, &mut items)?;
    }
    Ok(Parsed {
        kind,
        open: matches!(text, "*" | "?"),
        last: kind.takes_last() && text.contains('L'),
        nth,
        items,
    })
}

/// Splits `1#2`: the second Monday.
fn occurrence(text: &str) -> Result<(&str, Option<u8>), String> {
    let Some((day, nth)) = text.split_once('#') else {
        return Ok((text, None));
    };
    if let Some(special) = text.matches([',', '-', '/']).next() {
        return Err(format!(
            "Constraint error, invalid dayOfWeek `#` and `{special}` special characters are incompatible"
        ));
    }
    match nth.parse() {
        Ok(nth @ 1..=5) => Ok((day, Some(nth))),
        _ => Err("Constraint error, invalid dayOfWeek occurrence number (#)".to_owned()),
    }
}

/// Replaces names by numbers, three letters at a time.
fn names(text: &str) -> Result<String, String> {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let word = rest
            .get(..3)
            .filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
        let taken = if let Some(word) = word {
            let word = word.to_ascii_lowercase();
            let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == word) else {
                return Err(format!("Validation error, cannot resolve alias \"{word}\""));
            };
            replaced.push_str(number);
            3
        } else {
            replaced.push(letter);
            letter.len_utf8()
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    Ok(replaced)
}

fn has_only_known_letters(kind: Kind, text: &str) -> bool {
    let known = |letter: char| {
        letter.is_ascii_digit()
            || matches!(letter, '?' | ',' | '*' | 'H' | '/' | '-')
            || (letter == 'L' && kind.takes_last())
    };
    // Compat: beside an `H` with a range or a step, any letter passes here, to fail as a value.
    let hashed = text.match_indices('H').any(|(at, _)| {
        let after = text.get(at + 1..).unwrap_or_default();
        hashed::range(after).is_some() || hashed::step(after).is_some()
    });
    hashed || (!text.is_empty() && text.chars().all(known))
}

/// Reads `a`, `a-b`, `a/n` or `a-b/n`.
fn repetition(kind: Kind, text: &str, items: &mut Vec<Item>) -> Result<(), String> {
    match text.split_once('/') {
        None => range(kind, text, 1.0, items),
        Some((_, step)) if step.contains('/') => Err(format!("Invalid repeat: {text}")),
        Some((from, step)) => {
            let step = number(step);
            if from.contains('-') {
                range(kind, from, step, items)
            } else {
                let (_, max) = kind.bounds();
                range(kind, &format!("{from}-{max}"), step, items)
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "bounds are small")]
fn range(kind: Kind, text: &str, step: f64, items: &mut Vec<Item>) -> Result<(), String> {
    let Some((low, high)) = text.split_once('-') else {
        return value(kind, text, items);
    };
    // A third part is ignored.
    let high = high.split('-').next().unwrap_or_default();
    let (low, high) = (number(low), number(high));
    let (min, max) = kind.bounds();
    if !(low >= min as f64 && high <= max as f64) {
        return Err(format!(
            "Constraint error, got range {}-{} expected range {min}-{max}",
            shown(low),
            shown(high)
        ));
    }
    if low > high {
        return Err(format!(
            "Invalid range: {low}-{high}, min({low}) > max({high})"
        ));
    }
    if step.is_nan() || step <= 0.0 {
        return Err(format!(
            "Constraint error, cannot repeat at every {} time.",
            shown(step)
        ));
    }
    let values = (min..=max).filter(|value| {
        let over = *value as f64 - low;
        over >= 0.0 && *value as f64 <= high && over % step == 0.0
    });
    let start = items.len();
    items.extend(values.map(Item::Value));
    let found = items.get(start..).unwrap_or_default();
    // A range up to 7 has Sunday under both numbers.
    if kind == Kind::DayOfWeek
        && found.contains(&Item::Value(7))
        && !found.contains(&Item::Value(0))
    {
        items.push(Item::Value(0));
    }
    Ok(())
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the bounds, which are small"
)]
fn value(kind: Kind, text: &str, items: &mut Vec<Item>) -> Result<(), String> {
    if kind.takes_last() && text.contains('L') {
        items.push(Item::Text(text.to_owned()));
        return Ok(());
    }
    let (min, max) = kind.bounds();
    let found = number(text);
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !(found >= min as f64 && found <= max as f64) {
        let got = if plain { shown(found) } else { text.to_owned() };
        return Err(format!(
            "Constraint error, got value {got} expected range {min}-{max}"
        ));
    }
    items.push(match found as u64 {
        _ if !plain => Item::Text(text.to_owned()),
        7 if kind == Kind::DayOfWeek => Item::Value(0),
        value => Item::Value(value),
    });
    Ok(())
}

/// Reads the digits that a text begins with, as JavaScript's `parseInt` does.
fn number(text: &str) -> f64 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1.0, digits),
        None => (1.0, text),
    };
    let end = digits
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(digits.len());
    let digits = digits.get(..end).unwrap_or_default();
    sign * digits.parse().unwrap_or(f64::NAN)
}

/// Writes a number as JavaScript does.
fn shown(number: f64) -> String {
    if number.is_finite() && number.abs() >= 1e21 {
        return format!("{number:e}").replace('e', "e+");
    }
    if number.is_infinite() {
        return "Infinity".to_owned();
    }
    number.to_string()
}

impl Parsed {
    /// Refuses texts that are not values, duplicates and a weekday's lone `L`.
    pub(super) fn check(&self) -> Result<(), String> {
        let class = self.kind.class();
        for item in &self.items {
            if let Item::Text(text) = item
                && !self.is_last(text)
            {
                let or_last = if self.kind.takes_last() {
                    " or chars L"
                } else {
                    ""
                };
                return Err(format!(
                    "{class} Validation error, got value {text} expected range {}{or_last}",
                    self.kind.range()
                ));
            }
        }
        let mut sorted: Vec<&Item> = self.items.iter().collect();
        sorted.sort();
        let twice = sorted.windows(2).find(|pair| pair.first() == pair.last());
        if let Some(item) = twice.and_then(|pair| pair.first()) {
            let found = match item {
                Item::Value(value) => value.to_string(),
                Item::Text(text) => text.clone(),
            };
            return Err(format!(
                "{class} Validation error, duplicate values found: {found}"
            ));
        }
        if self.kind == Kind::DayOfWeek && self.items.contains(&Item::Text("L".to_owned())) {
            return Err(format!("{class} Validation error, unexpected standalone L"));
        }
        Ok(())
    }

    fn is_last(&self, text: &str) -> bool {
        let digits = text.strip_suffix('L');
        self.kind.takes_last()
            && digits.is_some_and(|text| {
                text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit())
            })
    }

    /// The numbers, a bit each; Sunday is 0.
    pub(super) fn values(&self) -> u64 {
        let bits = self.items.iter().fold(0, |bits, item| match item {
            Item::Value(value) => bits | 1 << value,
            Item::Text(_) => bits,
        });
        match self.kind {
            Kind::DayOfWeek => (bits | bits >> 7) & 0x7f,
            _ => bits,
        }
    }

    /// The weekdays of `nL`, a bit each; of several digits the first counts.
    pub(super) fn last_weekdays(&self) -> u64 {
        self.items.iter().fold(0, |bits, item| match item {
            Item::Text(text) => text
                .chars()
                .next()
                .and_then(|digit| digit.to_digit(10))
                .map_or(bits, |day| bits | 1 << (day % 7)),
            Item::Value(_) => bits,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn has_last(&self) -> bool {
        self.last
    }

    pub(super) fn nth(&self) -> Option<u8> {
        self.nth
    }
}
