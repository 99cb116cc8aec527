//! The next run after an instant: a walk through local time, with Node's answers where clocks
//! change (spec: schedulers §4.3).
//!
//! BullMQ's parser steps to the start of the next month, day, hour, minute or second that may
//! match. In a zone whose clocks change, the way there decides what is found, so the walk takes
//! the same steps; a table of matching local times would be simpler, and differ on those days.

use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time};

use super::{Cron, Days, Zone};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// Steps after which a pattern is taken for one that never matches.
const STEPS: usize = 9_999;

impl Cron {
    /// Finds the first matching second strictly after `base`, in milliseconds since the epoch;
    /// `None` for a pattern that never matches, after a bounded search.
    pub(crate) fn next_after(&self, base: i64, zone: &Zone) -> Option<i64> {
        let mut walk = Walk::from(base, zone)?;
        // The hour that clocks were just put forward to, and the one they were put back to.
        let (mut skipped_to, mut repeated) = (None, None);
        for _ in 0..STEPS {
            let local = walk.local()?;
            let hour = local.hour();
            let step = if !has(self.months, local.month()) {
                walk.to_next_month()?;
                continue;
            } else if !self.days.matches(local.date()) {
                walk.to_next_day()?;
                continue;
            } else if !has(self.hours, hour) && skipped_to != Some(hour) {
                skipped_to = None;
                HOUR
            } else if !has(self.hours, hour) && !has(self.hours, hour - 1) {
                walk.to_next(HOUR)?;
                continue;
            } else if has(self.hours, hour) && repeated == Some(hour) {
                repeated = None;
                HOUR
            } else if !has(self.minutes, local.minute()) {
                MINUTE
            } else if !has(self.seconds, local.second()) || walk.at == base {
                SECOND
            } else {
                return Some(walk.at);
            };
            walk.to_next(step)?;
            // A pattern for every hour goes on in real time.
            if self.hours.count_ones() < 24 {
                let now = walk.local()?;
                match now.hour() - hour {
                    2 => skipped_to = Some(now.hour()),
                    0 if now.minute() == 0 && now.second() == 0 => repeated = Some(now.hour()),
                    _ => {}
                }
            }
        }
        None
    }
}

impl Days {
    fn matches(&self, date: Date) -> bool {
        let from_end = date.days_in_month() - date.day();
        let by_day = has(self.of_month, date.day()) || (self.last_of_month && from_end == 0);
        let weekday = date.weekday().to_sunday_zero_offset();
        let nth = u8::try_from((date.day() + 6) / 7).ok();
        let by_weekday = (has(self.of_week, weekday)
            || (has(self.last_of_week, weekday) && from_end < 7))
            && (self.nth.is_none() || self.nth == nth);
        match (self.any_day, self.any_weekday) {
            (true, true) => true,
            (true, false) => by_weekday,
            (false, true) => by_day,
            (false, false) => by_day || by_weekday,
        }
    }
}

fn has(values: u64, value: i8) -> bool {
    u32::try_from(value)
        .ok()
        .and_then(|value| values.checked_shr(value))
        .is_some_and(|values| values & 1 == 1)
}

/// A place in time and what the zone's clocks show there.
struct Walk<'a> {
    zone: &'a Zone,
    /// Milliseconds since the epoch.
    at: i64,
    /// How far local time is ahead.
    offset: i64,
}

impl<'a> Walk<'a> {
    fn from(at: i64, zone: &'a Zone) -> Option<Self> {
        let offset = zone.offset(at)?;
        Some(Self { zone, at, offset })
    }

    fn local_millis(&self) -> i64 {
        self.at.saturating_add(self.offset)
    }

    fn local(&self) -> Option<DateTime> {
        civil(self.local_millis())
    }

    fn to_next_month(&mut self) -> Option<()> {
        let local = self.local()?;
        let next = local.checked_add(jiff::Span::new().months(1)).ok()?;
        self.show(millis(next))?;
        let first = self.local()?.date().first_of_month();
        self.show(millis(first.to_datetime(Time::midnight())))
    }

    fn to_next_day(&mut self) -> Option<()> {
        self.show(self.local_millis() + DAY)?;
        self.to_start_of(DAY)
    }

    /// Goes to the start of the next hour, minute or second, and never back in time.
    fn to_next(&mut self, unit: i64) -> Option<()> {
        let before = self.at;
        self.go(before + unit)?;
        self.to_start_of(unit)?;
        if self.at < before || (unit == HOUR && self.at == before) {
            self.go(self.at + HOUR)?;
        }
        Some(())
    }

    fn to_start_of(&mut self, unit: i64) -> Option<()> {
        let local = self.local_millis();
        self.show(local - local.rem_euclid(unit))
    }

    fn go(&mut self, at: i64) -> Option<()> {
        self.at = at;
        self.offset = self.zone.offset(at)?;
        Some(())
    }

    /// Goes to where clocks show this time: of two places the one with the offset of now, of
    /// none the time as long after the gap as it is after the gap's start.
    fn show(&mut self, local: i64) -> Option<()> {
        let first = self.zone.offset(local - self.offset)?;
        if first == self.offset {
            return self.go(local - first);
        }
        let second = self.zone.offset(local - first)?;
        self.go(local - first.min(second))
    }
}

fn civil(millis: i64) -> Option<DateTime> {
    DateTime::constant(1970, 1, 1, 0, 0, 0, 0)
        .checked_add(SignedDuration::from_millis(millis))
        .ok()
}

fn millis(local: DateTime) -> i64 {
    let since = local.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
