//! The slots that the scripts may choose from: those of a pattern, since Lua reads none.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{CatchUp, Recurrence, Schedule};
use crate::policy::next_run::{self, Moment, Previous};
use crate::scheduler::local_zone::local_zone;
use crate::store::{FirstSlot, PatternSlots};
use crate::wire::Repetition;

/// Checks a schedule and says where its first iteration goes; `None` when there is no run to come.
pub(super) fn first(schedule: &Schedule, now: Timestamp) -> Result<Option<FirstSlot>> {
    let zone = local_zone();
    let moment = moment(&zone, now);
    let Some(slot) = next_run::first_slot(schedule, &moment)? else {
        return Ok(None);
    };
    Ok(Some(match schedule.recurrence {
        Recurrence::Every(every) => FirstSlot::Interval {
            every,
            start: schedule.start,
            offset: schedule.offset.unwrap_or_default(),
            all: schedule.catch_up == CatchUp::All,
        },
        Recurrence::Cron(_) => FirstSlot::Pattern {
            slot,
            later: next_run::next_slot(schedule, &moment, after(slot))?,
        },
    }))
}

/// Finds the slots that may follow one of a pattern; none for an interval, whose slots the scripts
/// compute from what is stored.
pub(super) fn following(
    schedule: &Schedule,
    previous: Timestamp,
    now: Timestamp,
) -> Result<PatternSlots> {
    if matches!(schedule.recurrence, Recurrence::Every(_)) {
        return Ok(PatternSlots::default());
    }
    let zone = local_zone();
    let next = |catch_up| {
        let schedule = schedule.clone().catch_up(catch_up);
        next_run::next_slot(&schedule, &moment(&zone, now), after(previous))
    };
    Ok(PatternSlots {
        latest: next(CatchUp::Latest)?,
        following: next(CatchUp::All)?,
    })
}

/// Finds the slot that follows one of a repeatable job of BullMQ 4; `None` when it is over. The slots
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
    let slot = base
        .saturating_sub(base.rem_euclid(every))
        .saturating_add(every);
    Ok(Some(Timestamp::from_millis(slot)))
}

/// Says what is odd about an iteration's slot: that this process would not have computed it.
pub(super) fn doubt(schedule: &Schedule, slot: Timestamp, now: Timestamp) -> Option<String> {
    let local = local_zone();
    // A schedule that is not valid is reported by whoever computes with it.
    if next_run::has_slot(schedule, &moment(&local, now), slot).unwrap_or(true) {
        return None;
    }
    let zone = schedule.time_zone.as_deref();
    Some(format!(
        "its slot {slot} is none of its pattern in {}, by zone data {} of this process: whoever made \
         it has another version, or another zone where the schedule names none",
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

/// An iteration of which only the slot counts: limits are counted elsewhere.
fn after(slot: Timestamp) -> Previous {
    Previous { slot, count: 0 }
}
