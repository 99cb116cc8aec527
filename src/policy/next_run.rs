//! When a schedule runs next (`docs/protocol.md#next-iterations`).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{CatchUp, Recurrence, Schedule};

use super::cron::{Cron, DATABASE_VERSION, Seed, Zone};
use super::interval::Interval;

/// Largest time and interval, in milliseconds.
const MILLIS_MAX: i64 = 1 << 52;

/// The inputs of a computation that come from its surroundings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Timestamp,
    /// The process's time zone, for patterns without one.
    pub(crate) local_zone: &'a str,
    /// What `H` is drawn from in patterns without a seed.
    pub(crate) random: u32,
}

/// Refuses a schedule that BullMQ refuses, and those that make no sense.
///
/// # Errors
/// [`Error::Invalid`] names the option; what is wrong with a pattern is said as by BullMQ's parser.
pub(crate) fn check(schedule: &Schedule, moment: &Moment<'_>) -> Result<()> {
    if schedule.immediately && schedule.start.is_some() {
        let problem = "cannot be combined with immediately";
        return Err(Error::invalid("start", problem));
    }
    for (field, time) in [("start", schedule.start), ("end", schedule.end)] {
        if let Some(time) = time
            && !(0..=MILLIS_MAX).contains(&time.as_millis())
        {
            return Err(Error::invalid_value(
                field,
                time.as_millis(),
                format!("must be between 0 and {MILLIS_MAX} ms"),
            ));
        }
    }
    if let Some(end) = schedule.end
        && end < moment.now
    {
        return Err(Error::invalid_value(
            "end",
            end.as_millis(),
            "must not have passed",
        ));
    }
    if schedule.limit == Some(0) {
        return Err(Error::invalid("limit", "must be at least 1"));
    }
    if let Some(offset) = schedule.offset {
        whole_millis("offset", offset)?;
    }
    zone(schedule, moment)?;
    match &schedule.recurrence {
        Recurrence::Every(interval) => {
            if whole_millis("interval", *interval)? == 0 {
                let problem = "must be at least 1 ms";
                return Err(Error::invalid_value("interval", interval, problem));
            }
            if schedule.start > schedule.end && schedule.end.is_some() {
                return Err(Error::invalid("end", "must not be before the start"));
            }
        }
        Recurrence::Cron(pattern) => {
            cron(schedule, pattern, moment)?;
        }
    }
    Ok(())
}

/// The occurrence that an upsert begins with: of a pattern the next one, of an interval the one of a
/// scheduler that is new (Redis decides whether it is). `None`: there is none, and BullMQ
/// writes nothing then.
///
/// # Errors
/// Those of [`check`].
pub(crate) fn first_occurrence(
    schedule: &Schedule,
    moment: &Moment<'_>,
) -> Result<Option<Timestamp>> {
    check(schedule, moment)?;
    match &schedule.recurrence {
        Recurrence::Every(_) => {
            let interval = interval(schedule);
            Ok(interval.map(|interval| interval.first(schedule.start, moment.now)))
        }
        Recurrence::Cron(_) if schedule.immediately => Ok(Some(moment.now)),
        Recurrence::Cron(pattern) => cron_occurrence(schedule, pattern, moment, moment.now),
    }
}

/// The iteration that was activated, and what is stored of its scheduler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Previous {
    /// Its occurrence; for a pattern the job's `prevMillis`, for an interval the scheduler's score.
    pub(crate) occurrence: Timestamp,
    /// Its number since the latest upsert: the job's `repeat.count`.
    pub(crate) count: u64,
}

/// The occurrence after an iteration; `None` ends the chain.
///
/// # Errors
/// The stored pattern or time zone is not valid.
pub(crate) fn next_occurrence(
    schedule: &Schedule,
    moment: &Moment<'_>,
    previous: Previous,
) -> Result<Option<Timestamp>> {
    let over = schedule.limit.is_some_and(|limit| previous.count >= limit);
    let late = schedule.end.is_some_and(|end| moment.now > end);
    if over || (late && schedule.catch_up == CatchUp::Latest) {
        return Ok(None);
    }
    match &schedule.recurrence {
        Recurrence::Every(_) => {
            let occurrence = interval(schedule)
                .map(|interval| interval.after(previous.occurrence, moment.now, schedule.catch_up));
            // Compat: BullMQ looks at the end only when it makes an iteration, so that of an
            // interval the last one may be up to one interval late.
            let all = schedule.catch_up == CatchUp::All;
            Ok(occurrence
                .filter(|occurrence| !all || schedule.end.is_none_or(|end| *occurrence <= end)))
        }
        Recurrence::Cron(pattern) => {
            let base = match schedule.catch_up {
                CatchUp::Latest => previous.occurrence.max(moment.now),
                CatchUp::All => previous.occurrence,
            };
            cron_occurrence(schedule, pattern, moment, base)
        }
    }
}

/// Returns whether a pattern has an occurrence, by this process's time zone and zone data. True where that
/// cannot be predicted: for intervals, and for an `H` that is drawn anew each time.
///
/// # Errors
/// The stored pattern or time zone is not valid.
pub(crate) fn has_occurrence(
    schedule: &Schedule,
    moment: &Moment<'_>,
    occurrence: Timestamp,
) -> Result<bool> {
    // Around changes of clocks the occurrence that a walk finds depends on where it begins.
    const LEADS: [i64; 4] = [1_000, 1_800_000, 3_601_000, 7_200_000];
    let Recurrence::Cron(pattern) = &schedule.recurrence else {
        return Ok(true);
    };
    if schedule.hash_seed.is_none() && pattern.contains('H') {
        return Ok(true);
    }
    for lead in LEADS {
        let base = Timestamp::from_millis(occurrence.as_millis().saturating_sub(lead));
        if cron_occurrence(schedule, pattern, moment, base)? == Some(occurrence) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The version of the zone data.
pub(crate) fn zone_data() -> &'static str {
    DATABASE_VERSION
}

/// The arithmetic of an interval schedule; `None` for a pattern. The offset is the one that it
/// names: a worker that is late goes by the stored one, which only the scripts know.
fn interval(schedule: &Schedule) -> Option<Interval> {
    let Recurrence::Every(every) = schedule.recurrence else {
        return None;
    };
    let offset = schedule.offset.unwrap_or_default();
    Some(Interval::new(millis(every), millis(offset)))
}

fn cron_occurrence(
    schedule: &Schedule,
    pattern: &str,
    moment: &Moment<'_>,
    base: Timestamp,
) -> Result<Option<Timestamp>> {
    let zone = zone(schedule, moment)?;
    let base = schedule.start.map_or(base, |start| base.max(start));
    let occurrence = cron(schedule, pattern, moment)?
        .next_after(base.as_millis(), &zone)
        .map(Timestamp::from_millis);
    Ok(occurrence.filter(|occurrence| schedule.end.is_none_or(|end| *occurrence <= end)))
}

fn cron(schedule: &Schedule, pattern: &str, moment: &Moment<'_>) -> Result<Cron> {
    if pattern.is_empty() {
        return Err(Error::invalid("pattern", "must not be empty"));
    }
    let seed = match schedule.hash_seed.as_deref() {
        Some(seed) if !seed.is_empty() => Seed::Text(seed),
        _ => Seed::Random(moment.random),
    };
    Cron::parse(pattern, seed).map_err(|problem| {
        Error::invalid_value("pattern", pattern, format!("is not valid: {problem}"))
    })
}

fn zone(schedule: &Schedule, moment: &Moment<'_>) -> Result<Zone> {
    let name = schedule.time_zone.as_deref().unwrap_or("local");
    Zone::find(name, moment.local_zone)
        .ok_or_else(|| Error::invalid_value("time zone", name, "does not exist"))
}

fn whole_millis(field: &'static str, time: Duration) -> Result<i64> {
    if !time.subsec_nanos().is_multiple_of(1_000_000) {
        return Err(Error::invalid_value(
            field,
            time,
            "must be whole milliseconds",
        ));
    }
    match i64::try_from(time.as_millis()) {
        Ok(millis) if millis <= MILLIS_MAX => Ok(millis),
        _ => Err(Error::invalid_value(
            field,
            time,
            format!("must not be longer than {MILLIS_MAX} ms"),
        )),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_768_472_430_500; // 2026-01-15T10:20:30.5Z
    const MINUTE: i64 = 60_000;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn moment(now: i64) -> Moment<'static> {
        Moment {
            now: at(now),
            local_zone: "UTC",
            random: 1,
        }
    }

    fn previous(occurrence: i64, count: u64) -> Previous {
        Previous {
            occurrence: at(occurrence),
            count,
        }
    }

    fn next(schedule: &Schedule, now: i64, occurrence: i64, count: u64) -> Option<i64> {
        next_occurrence(schedule, &moment(now), previous(occurrence, count))
            .unwrap()
            .map(Timestamp::as_millis)
    }

    /// Runs that were missed while no worker ran are skipped, or executed one by one.
    #[test]
    fn missed_runs_are_passed_over_or_made_up_for() {
        let minute = NOW - NOW.rem_euclid(MINUTE);
        let occurrence = minute - 10 * MINUTE;
        for schedule in [
            Schedule::cron("* * * * *"),
            Schedule::every(Duration::from_secs(60)),
        ] {
            assert_eq!(next(&schedule, NOW, occurrence, 1), Some(minute + MINUTE));
            let all = schedule.catch_up(CatchUp::All);
            assert_eq!(next(&all, NOW, occurrence, 1), Some(occurrence + MINUTE));
        }
    }

    /// An iteration that was promoted before its time still has the occurrence after it as successor.
    #[test]
    fn early_iteration_does_not_repeat_its_occurrence() {
        let occurrence = NOW - NOW.rem_euclid(MINUTE) + 30 * MINUTE;
        let schedule = Schedule::cron("*/10 * * * *");
        assert_eq!(
            next(&schedule, NOW, occurrence, 1),
            Some(occurrence + 10 * MINUTE)
        );
    }

    /// What one process computes, another with the same zone data recognises, changes of clocks
    /// included; an hour next to it is not an occurrence.
    #[test]
    fn occurrences_are_recognised_by_whoever_has_the_same_zone_data() {
        const YEAR: i64 = 366 * 24 * 60 * MINUTE;
        for zone in [
            "UTC",
            "America/New_York",
            "America/Havana",
            "America/Sao_Paulo",
            "Africa/Casablanca",
            "Australia/Lord_Howe",
            "Pacific/Apia",
        ] {
            for pattern in [
                "30 2 * * *",
                "0 0 * * *",
                "30 1 * * *",
                "15 2,3 * * *",
                "0 0-3 * * *",
                "*/20 2 * * *",
                "0 */8 * * *",
                "0 9 * * 1",
                "5 4 3 2 1 *",
            ] {
                let schedule = Schedule::cron(pattern).time_zone(zone);
                // Sao Paulo had summer time until 2019.
                for begin in [NOW - 8 * YEAR, NOW] {
                    let mut base = begin;
                    while base < begin + YEAR {
                        let Some(occurrence) = next(&schedule, base, base, 1) else {
                            break;
                        };
                        let here =
                            has_occurrence(&schedule, &moment(base), at(occurrence)).unwrap();
                        assert!(here, "{pattern} in {zone} has {occurrence}");
                        base = occurrence;
                    }
                }
            }
            let nine = Schedule::cron("0 9 * * *").time_zone(zone);
            let occurrence = next(&nine, NOW, NOW, 1).unwrap();
            let beside = at(occurrence + 60 * MINUTE);
            assert!(!has_occurrence(&nine, &moment(NOW), beside).unwrap());
        }
        // Nothing can be predicted about these.
        let drawn = Schedule::cron("H H * * *");
        assert!(has_occurrence(&drawn, &moment(NOW), at(NOW)).unwrap());
        assert!(
            has_occurrence(
                &Schedule::every(Duration::from_secs(7)),
                &moment(NOW),
                at(1)
            )
            .unwrap()
        );
    }

    /// The limit counts iterations, and the end is the last moment of one.
    #[test]
    fn limit_and_end_end_the_chain() {
        let occurrence = NOW - NOW.rem_euclid(MINUTE);
        let every = Schedule::every(Duration::from_secs(60));
        let limited = every.clone().limit(3);
        assert!(next(&limited, NOW, occurrence, 2).is_some());
        assert_eq!(next(&limited, NOW, occurrence, 3), None);

        // Of an interval, the last one may come after the end, as long as the one before did not.
        let ending = every.end(at(NOW));
        assert_eq!(next(&ending, NOW, occurrence, 1), Some(occurrence + MINUTE));
        assert_eq!(next(&ending, NOW + 1, occurrence, 1), None);
        let pattern = Schedule::cron("* * * * *").end(at(occurrence + MINUTE));
        assert_eq!(
            next(&pattern, NOW, occurrence, 1),
            Some(occurrence + MINUTE)
        );
        assert_eq!(next(&pattern, NOW, occurrence + MINUTE, 2), None);
        // What was missed is made up for even after the end, but not beyond it.
        let all = pattern.catch_up(CatchUp::All);
        let late = occurrence + 10 * MINUTE;
        assert_eq!(next(&all, late, occurrence, 1), Some(occurrence + MINUTE));
        assert_eq!(next(&all, late, occurrence + MINUTE, 2), None);
    }

    /// Errors name the option, as the API does, and its value; a pattern's as its parser does.
    #[test]
    fn errors_name_the_option_and_its_value() {
        let text = |schedule: Schedule| check(&schedule, &moment(NOW)).unwrap_err().to_string();
        assert_eq!(
            text(Schedule::cron("60 * * * *")),
            "pattern is not valid: Constraint error, got value 60 expected range 0-59 (got \"60 * * * *\")"
        );
        assert_eq!(
            text(Schedule::cron("* * * * *").time_zone("Mars/Base")),
            "time zone does not exist (got \"Mars/Base\")"
        );
        assert_eq!(
            text(Schedule::cron("* * * * *").end(at(NOW - 1))),
            format!("end must not have passed (got {})", NOW - 1)
        );
    }
}
