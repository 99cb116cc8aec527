//! What a schedule will do.

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::Schedule;
use crate::policy::next_run::{self, Moment, Previous};
use crate::time_zone;

impl Schedule {
    /// Lists the next `count` runs of this schedule if it were set up at `from` and every run were
    /// on time: time zone, changes of clocks, start, end and limit included. Fewer come when the
    /// schedule ends before. Nothing is asked of Redis.
    ///
    /// Without a [`hash_seed`](Self::hash_seed), `H` is drawn again for every run here too.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) says what is wrong with the schedule: the errors
    /// of setting it up.
    ///
    /// # Examples
    ///
    /// Clocks go forward in New York on 8 March 2026, at 2:00, so 2:30 becomes 3:30:
    ///
    /// ```
    /// use oxbull::{Schedule, Timestamp};
    ///
    /// let saturday_noon = Timestamp::from_millis(1_772_902_800_000); // 2026-03-07 17:00 UTC
    /// let nightly = Schedule::cron("30 2 * * *").time_zone("America/New_York");
    /// let runs = nightly.preview(saturday_noon, 2)?;
    /// assert_eq!(runs[0].as_millis(), 1_772_955_000_000); // 2026-03-08 07:30 UTC
    /// assert_eq!(runs[1].as_millis(), 1_773_037_800_000); // 2026-03-09 06:30 UTC
    ///
    /// assert!(Schedule::cron("61 * * * *").preview(saturday_noon, 1).is_err());
    /// # Ok::<(), oxbull::Error>(())
    /// ```
    pub fn preview(&self, from: Timestamp, count: usize) -> Result<Vec<Timestamp>> {
        let local_zone = time_zone::local();
        let moment = |now| Moment {
            now,
            local_zone: &local_zone,
            random: fastrand::u32(..),
        };
        let mut runs = Vec::new();
        let mut next = next_run::first_occurrence(self, &moment(from))?;
        for made in 1.. {
            let Some(occurrence) = next.filter(|_| runs.len() < count) else {
                break;
            };
            runs.push(occurrence);
            let previous = Previous {
                occurrence,
                count: made,
            };
            next = next_run::next_occurrence(self, &moment(occurrence), previous)?;
        }
        Ok(runs)
    }

    /// Returns the version of the tz database that schedules are computed with, such as `2026f`. It
    /// is compiled in. That of Node.js is in `process.versions.tz`; where the versions differ,
    /// so may the times of a pattern in a zone whose rules have changed.
    pub fn zone_data_version() -> &'static str {
        next_run::zone_data()
    }
}
