//! Every account once a day, at night where it is, and not all at the same moment.

use std::time::Duration;

use oxbull::{NewJob, Overlap, Queue, Schedule, Upserted};

use super::{AnalyticsRefresh, options};
use crate::graph::AccountId;

/// The name of the jobs.
const NAME: &str = "refresh";

const DAY: u64 = 24 * 3600;

/// When refreshes begin: from a time of the day on, spread over a window.
///
/// An account's second in the window is `fnv1a(accountId) mod window`, with the 32-bit FNV-1a hash
/// of the id's bytes. So every process computes the same time, every day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshWindow {
    start: u32,
    length: u32,
}

/// A window that does not fit into a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a refresh window must have 1 s or more and end before the day does")]
pub struct InvalidWindow;

impl Default for RefreshWindow {
    /// An hour from 02:00 on.
    fn default() -> Self {
        Self {
            start: 2 * 3600,
            length: 3600,
        }
    }
}

impl RefreshWindow {
    /// A window from a time after midnight on, both in whole seconds.
    ///
    /// # Errors
    /// [`InvalidWindow`] when it is empty or would reach into the next day.
    pub fn new(start: Duration, length: Duration) -> Result<Self, InvalidWindow> {
        let (start, length) = (start.as_secs(), length.as_secs());
        let end = start.checked_add(length).ok_or(InvalidWindow)?;
        if length == 0 || end > DAY {
            return Err(InvalidWindow);
        }
        let seconds = |time| u32::try_from(time).map_err(|_| InvalidWindow);
        Ok(Self {
            start: seconds(start)?,
            length: seconds(length)?,
        })
    }

    /// The cron pattern of an account, with seconds: `<second> <minute> <hour> * * *`.
    pub fn pattern(&self, account: &AccountId) -> String {
        let time = self.start + fnv1a(account.as_str()) % self.length;
        let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
        format!("{second} {minute} {hour} * * *")
    }
}

fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

/// The id of an account's scheduler. A colon in place of the hyphen would make the key of a
/// scheduler look like the key of one of its jobs, since account ids are digits.
pub fn scheduler_id(account: &AccountId) -> String {
    format!("analytics-{account}")
}

/// Why an account was not scheduled; nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// An account's zone must not depend on where a worker runs.
    #[error("the time zone must be the account's own, by its iana name")]
    Zone,
    /// The library refuses the zone, or Redis did not answer.
    #[error(transparent)]
    Queue(#[from] oxbull::Error),
}

/// The schedule of an account in its IANA time zone: [`Schedule::preview`] lists its times.
///
/// Where clocks go forward from 02:00 to 03:00, that day's run is an hour later, at the same
/// minute and second; where they are set back, it runs once. Where they go forward by less than an
/// hour (Lord Howe), accounts within the gap are left out that day.
///
/// # Errors
/// [`ScheduleError::Zone`] when the zone is empty or `local`. Other names are checked by the call
/// that uses the schedule.
pub fn schedule_of(
    account: &AccountId,
    zone: &str,
    window: &RefreshWindow,
) -> Result<Schedule, ScheduleError> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("local") {
        return Err(ScheduleError::Zone);
    }
    let schedule = Schedule::cron(window.pattern(account)).time_zone(zone);
    Ok(schedule.overlap(Overlap::Skip))
}

/// Has an account refreshed every day, at night in its time zone; replaces what was set up for it
/// before. Returns the first run.
///
/// A run is passed over while an earlier one of the same account still runs. Safe to repeat.
///
/// # Errors
/// [`ScheduleError`]; for an unknown zone it holds [`oxbull::Error::Invalid`].
///
/// # Examples
/// ```no_run
/// # async fn run(queue: oxbull::Queue<oxbull_workers::jobs::analytics_refresh::AnalyticsRefresh>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use oxbull_workers::graph::AccountId;
/// use oxbull_workers::jobs::analytics_refresh::{
///     AnalyticsRefresh, RefreshWindow, schedule_account, unschedule_account,
/// };
///
/// let account = AccountId::new("17841405822304914")?;
/// let data = AnalyticsRefresh::new(account.clone()).user("usr_1001");
/// schedule_account(&queue, data, "Europe/Madrid", &RefreshWindow::default()).await?;
/// unschedule_account(&queue, &account).await?;
/// # Ok(())
/// # }
/// ```
pub async fn schedule_account(
    queue: &Queue<AnalyticsRefresh>,
    data: AnalyticsRefresh,
    zone: &str,
    window: &RefreshWindow,
) -> Result<Option<Upserted>, ScheduleError> {
    let schedule = schedule_of(&data.account_id, zone, window)?;
    let id = scheduler_id(&data.account_id);
    let template = NewJob::new(NAME, data).options(options());
    Ok(queue.upsert_scheduler(id, &schedule, template).await?)
}

/// Ends an account's refreshes; one that runs or waits already is the last. Returns whether the
/// account was scheduled.
///
/// # Errors
/// Connection errors; safe to repeat.
pub async fn unschedule_account(
    queue: &Queue<AnalyticsRefresh>,
    account: &AccountId,
) -> oxbull::Result<bool> {
    queue.remove_scheduler(scheduler_id(account)).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn account(number: u64) -> AccountId {
        AccountId::new((17_841_400_000_000_000 + number).to_string()).unwrap()
    }

    /// The hash is part of what the backend computes too, so its published test values hold.
    #[test]
    fn hash_is_fnv1a() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }

    /// Ten thousand accounts in an hour are fewer than three a second; none has many more.
    #[test]
    fn ten_thousand_accounts_are_spread_over_the_window() {
        let window = RefreshWindow::default();
        let mut seconds = HashMap::new();
        for number in 0..10_000 {
            *seconds.entry(window.pattern(&account(number))).or_insert(0) += 1;
        }
        let most = seconds.values().max().unwrap();
        assert!(*most <= 15, "{most} accounts share a second");
        assert!(seconds.len() > 3000, "{} seconds are used", seconds.len());
    }

    /// A window over the end of the day would put accounts on the wrong one.
    #[test]
    fn windows_stay_within_a_day() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert!(RefreshWindow::new(hours(20), hours(4)).is_ok());
        assert!(RefreshWindow::new(hours(20), hours(5)).is_err());
        assert!(RefreshWindow::new(hours(2), Duration::ZERO).is_err());
        assert!(RefreshWindow::new(Duration::MAX, Duration::MAX).is_err());
        let moment = RefreshWindow::new(hours(2), Duration::from_secs(1)).unwrap();
        assert_eq!(moment.pattern(&account(7)), "0 0 2 * * *");
    }
}
