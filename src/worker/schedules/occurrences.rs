//! The occurrences that the scripts may choose from: those of a pattern, since Lua evaluates none.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{CatchUp, Recurrence, Schedule};
use crate::policy::next_run::{self, Moment, Previous};
use crate::store::PatternOccurrences;
use crate::time_zone;
use crate::wire::Repetition;

/// Finds the occurrences that may follow one of a pattern; none for an interval, whose occurrences the scripts
/// compute from what is stored.
pub(super) fn following(
    schedule: &Schedule,
    previous: Timestamp,
    now: Timestamp,
) -> Result<PatternOccurrences> {
    if matches!(schedule.recurrence, Recurrence::Every(_)) {
        return Ok(PatternOccurrences::default());
    }
    let zone = time_zone::local();
    let next = |catch_up| {
        let schedule = schedule.clone().catch_up(catch_up);
        next_run::next_occurrence(&schedule, &moment(&zone, now), after(previous))
    };
    Ok(PatternOccurrences {
        latest: next(CatchUp::Latest)?,
        following: next(CatchUp::All)?,
    })
}

/// Finds the occurrence that follows one of a repeatable job of BullMQ 4; `None` when it is over. The occurrences
/// of its interval are the multiples since the epoch: start and offset do not move them.
pub(super) fn of_repeatable(
    current: &Repetition,
    previous: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let schedule = &current.schedule;
    if current.is_last() || schedule.end.is_some_and(|end| now > end) {
        return Ok(None);
    }
    let Recurrence::Every(every) = schedule.recurrence else {
        return Ok(following(schedule, previous, now)?.latest);
    };
    let every = i64::try_from(every.as_millis()).unwrap_or(i64::MAX).max(1);
    let base = previous.max(now).as_millis();
    let occurrence = base
        .saturating_sub(base.rem_euclid(every))
        .saturating_add(every);
    Ok(Some(Timestamp::from_millis(occurrence)))
}

/// Describes how an iteration's occurrence differs from what this process computes; `None` when it does
/// not.
pub(super) fn mismatch(
    schedule: &Schedule,
    occurrence: Timestamp,
    now: Timestamp,
) -> Option<String> {
    let local = time_zone::local();
    // A schedule that is not valid is reported where it is computed with.
    if next_run::has_occurrence(schedule, &moment(&local, now), occurrence).unwrap_or(true) {
        return None;
    }
    let zone = schedule.time_zone.as_deref();
    Some(format!(
        "its occurrence {occurrence} does not match its pattern in {} by zone data {} of this process: the \
         process that made it has another version, or another local zone if the schedule names none",
        zone.unwrap_or(&local),
        next_run::zone_data()
    ))
}

fn moment(local_zone: &str, now: Timestamp) -> Moment<'_> {
    Moment {
        now,
        local_zone,
        random: fastrand::u32(..),
    }
}

/// An iteration of which only the occurrence counts: limits are counted elsewhere.
fn after(occurrence: Timestamp) -> Previous {
    Previous {
        occurrence,
        count: 0,
    }
}
