//! The occurrences of a fixed interval (`docs/protocol.md#interval-occurrences`).
//!
//! `lua/` decides them in Redis, where the last occurrence is; this is the model that its answer is
//! tested against; previews use it too.

use crate::clock::Timestamp;
use crate::job::CatchUp;

/// An interval of at least 1 ms and its offset from the multiples of it since the epoch, 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interval {
    every: i64,
    offset: i64,
}

impl Interval {
    /// Both in milliseconds. A producer goes by the offset that its schedule names, a worker by the
    /// stored one.
    pub(crate) fn new(every: i64, offset: i64) -> Self {
        Self {
            every: every.max(1),
            offset: offset.max(0),
        }
    }

    /// The occurrence of a scheduler that has none yet, or whose interval changed.
    pub(crate) fn first(self, start: Option<Timestamp>, now: Timestamp) -> Timestamp {
        match start {
            Some(start) => start.max(now),
            None if self.offset > 0 => self.on_grid_after(now),
            None => now,
        }
    }

    /// The occurrence after `last`.
    pub(crate) fn after(self, last: Timestamp, now: Timestamp, catch_up: CatchUp) -> Timestamp {
        let next = Timestamp::from_millis(last.as_millis().saturating_add(self.every));
        match catch_up {
            CatchUp::Latest if next < now => self.on_grid_after(now),
            CatchUp::Latest | CatchUp::All => next,
        }
    }

    /// The first of the shifted multiples after `now`, counting from the multiple before it.
    fn on_grid_after(self, now: Timestamp) -> Timestamp {
        let now = now.as_millis();
        let occurrence = now
            .saturating_sub(now.rem_euclid(self.every))
            .saturating_add(self.offset);
        Timestamp::from_millis(if occurrence > now {
            occurrence
        } else {
            occurrence.saturating_add(self.every)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// The numbers of the specification's check.
    #[test]
    fn occurrences_are_those_of_the_protocol() {
        let first = |every, offset, start: Option<i64>, now| {
            let occurrence = Interval::new(every, offset).first(start.map(at), at(now));
            occurrence.as_millis()
        };
        let now = 1_795_409_018_149;
        assert_eq!(first(60_000, 10_000, None, now), 1_795_409_050_000);
        assert_eq!(first(60_000, 0, None, now), now);
        assert_eq!(first(60_000, 0, Some(now + 12_345), now), now + 12_345);
        assert_eq!(first(60_000, 0, Some(now - 12_345), now), now);
        assert_eq!(first(10_000, 25_000, None, now) % 10_000, 5_000);

        // First at …149222, 3310 ms late: the worker goes on at the stored offset.
        let interval = Interval::new(1000, 222);
        let (begun, late) = (1_795_409_149_222, 1_795_409_149_222 + 3_310);
        let next = interval.after(at(begun), at(late), CatchUp::Latest);
        assert_eq!(next.as_millis(), begun + 4000);
        let next = interval.after(next, next, CatchUp::Latest);
        assert_eq!(next.as_millis(), begun + 5000);
    }

    proptest! {
        /// A late run skips what was missed, returns to the phase, and never goes back.
        #[test]
        fn late_runs_keep_their_phase(
            every in 1i64..10_000_000, offset in 0i64..10_000_000,
            last in 0i64..2_000_000_000_000, late in 0i64..100_000_000_000,
        ) {
            let interval = Interval::new(every, offset % every);
            let now = at(last + late);
            let next = interval.after(at(last), now, CatchUp::Latest);
            prop_assert!(next > at(last));
            if late <= every {
                prop_assert_eq!(next.as_millis(), last + every);
            } else {
                prop_assert!(next > now && next.as_millis() <= now.as_millis() + every);
                prop_assert_eq!(next.as_millis() % every, offset % every);
            }
        }

        /// Catching up on everything leaves no occurrence out, whatever the time is.
        #[test]
        fn all_runs_are_one_interval_apart(every in 1i64..10_000_000, last: u32, now: u32) {
            let next = Interval::new(every, 7).after(at(last.into()), at(now.into()), CatchUp::All);
            prop_assert_eq!(next.as_millis(), i64::from(last) + every);
        }

        /// A first occurrence is never in the past, and within an interval where there is an offset.
        #[test]
        fn first_occurrences_are_not_in_the_past(
            every in 1i64..10_000_000, offset in 0i64..10_000_000, now in 0i64..2_000_000_000_000,
            start in proptest::option::of(0i64..2_000_000_000_000),
        ) {
            let interval = Interval::new(every, offset % every);
            let occurrence = interval.first(start.map(at), at(now));
            prop_assert!(occurrence >= at(now));
            if start.is_none() {
                prop_assert!(occurrence.as_millis() <= now + every);
            }
        }
    }

    /// Numbers that another client stored do not overflow.
    #[test]
    fn extremes_do_not_overflow() {
        for every in [i64::MIN, 0, 1, i64::MAX] {
            for time in [i64::MIN, -1, 0, i64::MAX] {
                let interval = Interval::new(every, i64::MAX);
                interval.first(None, at(time));
                interval.after(at(time), at(0), CatchUp::Latest);
                interval.after(at(0), at(time), CatchUp::All);
            }
        }
    }
}
