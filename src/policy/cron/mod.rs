//! Cron patterns exactly as BullMQ reads them (`docs/protocol.md#cron-patterns`).
//!
//! Where two processes of one queue disagree about the next run, they make two jobs of one. So
//! the dialect, its messages and its answers around clock changes are those of BullMQ's parser;
//! of the libraries for cron only the time zones are of use here (see [`zone`]).

mod field;
mod hashed;
mod walk;
mod zone;

use field::{Kind, Parsed};

pub(crate) use zone::{DATABASE_VERSION, Zone};

/// Longest pattern, in UTF-16 units as JavaScript counts.
const LONGEST: usize = 1024;

/// A parsed pattern: what each field allows, a bit per value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
}

/// Which days of a month match. Only a plain `*` or `?` leaves a field open; if both are
/// restricted, either may match.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Days {
    any_day: bool,
    of_month: u64,
    last_of_month: bool,
    any_weekday: bool,
    of_week: u64,
    last_of_week: u64,
    /// Which of the month's days of that name, 1 to 5; `None`: all.
    nth: Option<u8>,
}

impl Cron {
    /// Parses a pattern. `seed` decides what `H` stands for: the schedule's own, or else the
    /// caller's random number.
    ///
    /// # Errors
    /// BullMQ's message.
    pub(crate) fn parse(pattern: &str, seed: Seed<'_>) -> Result<Self, String> {
        if pattern.encode_utf16().count() > LONGEST {
            return Err(format!(
                "Invalid cron expression, too long, expected at most {LONGEST} characters"
            ));
        }
        let pattern = alias(pattern).unwrap_or(pattern);
        let texts: Vec<&str> = pattern
            .split(is_space)
            .filter(|text| !text.is_empty())
            .collect();
        let Some(missing) = Kind::ALL.len().checked_sub(texts.len().max(1)) else {
            return Err("Invalid cron expression, too many fields".to_owned());
        };
        let text = |kind: Kind| match (kind as usize).checked_sub(missing) {
            Some(at) => texts.get(at).copied().unwrap_or_default(),
            None if kind == Kind::Second => "0",
            None => "*",
        };
        // The order decides which number each field draws, and whose error comes first.
        let mut draws = seed.draws();
        let mut parse = |kind: Kind| field::parse(kind, text(kind), draws.next());
        let second = parse(Kind::Second)?;
        let minute = parse(Kind::Minute)?;
        let hour = parse(Kind::Hour)?;
        let month = parse(Kind::Month)?;
        let day = parse(Kind::DayOfMonth)?;
        let weekday = parse(Kind::DayOfWeek)?;
        Self::from_fields(&[second, minute, hour, day, month, weekday])
    }

    fn from_fields(fields: &[Parsed; 6]) -> Result<Self, String> {
        for field in fields {
            field.check()?;
        }
        let [second, minute, hour, day, month, weekday] = fields;
        let cron = Self {
            seconds: second.values(),
            minutes: minute.values(),
            hours: hour.values(),
            months: month.values(),
            days: Days {
                any_day: day.is_open(),
                of_month: day.values(),
                last_of_month: day.has_last(),
                any_weekday: weekday.is_open(),
                of_week: weekday.values(),
                last_of_week: weekday.last_weekdays(),
                nth: weekday.nth(),
            },
        };
        if cron.names_missing_day() {
            return Err("Invalid explicit day of month definition".to_owned());
        }
        Ok(cron)
    }

    /// Returns whether the only month is too short for all the days, as with `31 2`.
    fn names_missing_day(&self) -> bool {
        let days = &self.days;
        let longest = match self.months {
            FEBRUARY => 29,
            month if month.is_power_of_two() && month & SHORT_MONTHS != 0 => 30,
            _ => 31,
        };
        days.any_weekday && !days.last_of_month && days.of_month & ((2 << longest) - 1) == 0
    }
}

const FEBRUARY: u64 = 1 << 2;
const SHORT_MONTHS: u64 = 1 << 4 | 1 << 6 | 1 << 9 | 1 << 11;

/// What `H` is drawn from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Seed<'a> {
    /// A text, the same for every run.
    Text(&'a str),
    /// A random number.
    Random(u32),
}

impl Seed<'_> {
    fn draws(self) -> hashed::Draws {
        match self {
            Self::Text(text) if !text.is_empty() => hashed::Draws::of(text),
            Self::Text(_) => hashed::Draws::new(0),
            Self::Random(number) => hashed::Draws::new(number),
        }
    }
}

/// The pattern that a name stands for.
fn alias(name: &str) -> Option<&'static str> {
    Some(match name {
        "@yearly" | "@annually" => "0 0 0 1 1 *",
        "@monthly" => "0 0 0 1 * *",
        "@weekly" => "0 0 0 * * 0",
        "@daily" => "0 0 0 * * *",
        "@hourly" => "0 0 * * * *",
        "@minutely" => "0 * * * * *",
        "@secondly" => "* * * * * *",
        "@weekdays" => "0 0 0 * * 1-5",
        "@weekends" => "0 0 0 * * 0,6",
        _ => return None,
    })
}

/// White space as JavaScript has it.
fn is_space(letter: char) -> bool {
    letter == '\u{feff}' || (letter.is_whitespace() && letter != '\u{85}')
}

#[cfg(test)]
mod tests;
