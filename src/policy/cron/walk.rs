//! The next run after an instant: a walk through local time, with Node's answers where clocks
//! change (`docs/protocol.md#cron-patterns`).
//!
//! BullMQ's parser goes to the next month, day, hour, minute and second that may match, and in a
//! zone whose clocks change the way there decides what it finds. So the walk takes the same
//! steps; a search over matching local times would be simpler, and differ on those days.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Span};

use super::{Cron, Days, Zone};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 366 * DAY;

/// Where JavaScript's calendar ends, in milliseconds from the epoch.
const FARTHEST: u64 = 8_640_000_000_000_000;

/// Steps after which a pattern is taken for one that never matches.
const STEPS: usize = 9_999;

impl Cron {
    /// Finds the first matching second strictly after `base`, in milliseconds since the epoch;
    /// `None` for a pattern that never matches, after a bounded search.
    pub(crate) fn next_after(&self, base: i64, zone: &Zone) -> Option<i64> {
        if base.unsigned_abs() > FARTHEST {
            return None;
        }
        match self.search(base, zone)? {
            Search::Found(at) => Some(at),
            // Where clocks are put back by half an hour, the start of the hour may lie before the
            // change, and the walk does not get over it. BullMQ finds nothing there, which ends
            // the schedule, or a time that has passed, over and over; ours goes on from behind
            // the change.
            Search::GaveUp(at) if at - base < YEAR => {
                match self.search(base.max(at + HOUR), zone)? {
                    Search::Found(at) => Some(at),
                    Search::GaveUp(_) => None,
                }
            }
            Search::GaveUp(_) => None,
        }
    }

    fn search(&self, base: i64, zone: &Zone) -> Option<Search> {
        let begun = base.rem_euclid(SECOND) > 0;
        let start = base - base.rem_euclid(SECOND);
        let mut walk = Walk {
            cron: self,
            place: Place::at(if begun { start + SECOND } else { start }, zone)?,
            skipped: 0,
            landed: None,
            repeated: None,
        };
        for _ in 0..STEPS {
            if walk.is_there()? {
                if walk.place.at > base {
                    return Some(Search::Found(walk.place.at));
                }
                if walk.place.at < start {
                    break;
                }
                walk.step(SECOND)?;
            }
        }
        Some(Search::GaveUp(walk.place.at))
    }
}

/// Where a walk ended.
enum Search {
    Found(i64),
    GaveUp(i64),
}

/// A walk, and what it has passed of changes of the clocks.
struct Walk<'a> {
    cron: &'a Cron,
    place: Place<'a>,
    /// The hours that clocks were just put forward over, a bit each, and the one they show now.
    skipped: u64,
    landed: Option<i8>,
    /// The hour that clocks were just put back to.
    repeated: Option<i8>,
}

impl Walk<'_> {
    /// Returns whether this place matches, or else goes one step on.
    fn is_there(&mut self) -> Option<bool> {
        let local = self.place.local()?;
        let (hour, minute, second) = (local.hour(), local.minute(), local.second());
        if !has(self.cron.months, local.month()) {
            self.place.go_to_next_month()?;
        } else if !self.cron.days.matches(local.date()) {
            self.place.go_to_next_day()?;
        } else if !self.hour_matches(hour) {
            self.leave_hour(hour)?;
        } else if !has(self.cron.minutes, minute) {
            if let Some(next) = after(self.cron.minutes, minute) {
                self.place.add_shown(i64::from(next - minute) * MINUTE)?;
            } else {
                self.step(HOUR)?;
                self.go_to_first_minute()?;
            }
            self.go_to_first_second()?;
        } else if !has(self.cron.seconds, second) {
            if let Some(next) = after(self.cron.seconds, second) {
                self.place.add_shown(i64::from(next - second) * SECOND)?;
            } else {
                self.step(MINUTE)?;
                self.go_to_first_second()?;
            }
        } else {
            return Some(true);
        }
        Some(false)
    }

    /// An hour also matches in place of one that was skipped; one that is shown again does not.
    fn hour_matches(&self, hour: i8) -> bool {
        if has(self.cron.hours, hour) {
            self.repeated != Some(hour)
        } else {
            self.landed == Some(hour) && self.cron.hours & self.skipped != 0
        }
    }

    fn leave_hour(&mut self, hour: i8) -> Option<()> {
        if has(self.cron.hours, hour) {
            self.repeated = None;
            return self.step(HOUR);
        }
        self.landed = None;
        let Some(next) = after(self.cron.hours, hour) else {
            return self.place.go_to_next_day();
        };
        if self.place.is_day_of_change()? {
            let today = self.place.local()?.date();
            for _ in hour..next {
                self.step(HOUR)?;
                let local = self.place.local()?;
                if local.date() != today {
                    self.landed = None;
                }
                if local.date() != today || local.hour() >= next {
                    break;
                }
            }
        } else {
            self.place.add_shown(i64::from(next - hour) * HOUR)?;
        }
        self.go_to_first_minute()?;
        self.go_to_first_second()
    }

    /// Goes to the start of the next hour, minute or second in real time, and notes whether the
    /// clocks changed; for a pattern of every hour they need not be looked at.
    fn step(&mut self, unit: i64) -> Option<()> {
        let before = self.place.local()?;
        self.place.go(self.place.at + unit)?;
        self.place.go_to_start_of(unit)?;
        if self.cron.hours.count_ones() == 24 {
            return Some(());
        }
        let now = self.place.local()?;
        let hours = (now.hour() - before.hour()).rem_euclid(24);
        if hours == 0 && now.minute() == 0 && now.second() == 0 {
            self.repeated = Some(now.hour());
        } else if hours > 1 && now > before {
            self.skipped = (1..hours)
                .map(|over| (before.hour() + over) % 24)
                .fold(0, |bits, hour| bits | 1 << hour);
            self.landed = Some(now.hour());
        }
        Some(())
    }

    fn go_to_first_minute(&mut self) -> Option<()> {
        let minute = self.place.local()?.minute();
        let first = after(self.cron.minutes, -1)?;
        self.place.add_shown(i64::from(first - minute) * MINUTE)
    }

    fn go_to_first_second(&mut self) -> Option<()> {
        let second = self.place.local()?.second();
        let first = after(self.cron.seconds, -1)?;
        self.place.add_shown(i64::from(first - second) * SECOND)
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
    u32::try_from(value).is_ok_and(|value| values.checked_shr(value).unwrap_or(0) & 1 == 1)
}

/// The smallest value above `value`.
fn after(values: u64, value: i8) -> Option<i8> {
    (value + 1..64).find(|next| has(values, *next))
}

/// An instant and what the zone's clocks show then.
struct Place<'a> {
    zone: &'a Zone,
    /// Milliseconds since the epoch.
    at: i64,
    /// How far the clocks are ahead of UTC, in milliseconds.
    offset: i64,
}

impl<'a> Place<'a> {
    fn at(at: i64, zone: &'a Zone) -> Option<Self> {
        let offset = zone.offset(at)?;
        Some(Self { zone, at, offset })
    }

    fn shown(&self) -> i64 {
        self.at.saturating_add(self.offset)
    }

    fn local(&self) -> Option<DateTime> {
        EPOCH
            .checked_add(SignedDuration::from_millis(self.shown()))
            .ok()
    }

    fn go_to_next_month(&mut self) -> Option<()> {
        let next = self.local()?.checked_add(Span::new().months(1)).ok()?;
        let millis = next.duration_since(EPOCH).as_millis();
        self.show(i64::try_from(millis).ok()?)?;
        let days = i64::from(self.local()?.day() - 1);
        self.show(self.shown() - self.shown().rem_euclid(DAY) - days * DAY)
    }

    fn go_to_next_day(&mut self) -> Option<()> {
        self.add_shown(DAY)?;
        self.go_to_start_of(DAY)
    }

    fn go_to_start_of(&mut self, unit: i64) -> Option<()> {
        self.show(self.shown() - self.shown().rem_euclid(unit))
    }

    /// Returns whether clocks change between the start and the end of this day.
    fn is_day_of_change(&self) -> Option<bool> {
        let mut start = Self { ..*self };
        start.go_to_start_of(DAY)?;
        let mut end = Self { ..start };
        end.add_shown(DAY)?;
        end.go(end.at - 1)?;
        Some(start.offset != end.offset)
    }

    fn add_shown(&mut self, millis: i64) -> Option<()> {
        self.show(self.shown() + millis)
    }

    /// Goes to where clocks show this time: of two places the one with the offset of now; of
    /// none, as long after the gap's end as the time is after its start.
    fn show(&mut self, local: i64) -> Option<()> {
        let first = self.zone.offset(local - self.offset)?;
        if first == self.offset {
            return self.go(local - first);
        }
        let second = self.zone.offset(local - first)?;
        self.go(local - first.min(second))
    }

    fn go(&mut self, at: i64) -> Option<()> {
        self.at = at;
        self.offset = self.zone.offset(at)?;
        Some(())
    }
}

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
