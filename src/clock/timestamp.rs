//! Points in time, as they are stored.

use std::fmt;
use std::num::ParseIntError;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Milliseconds since the Unix epoch, the unit of every stored time (`docs/protocol.md`).
///
/// As text and in JSON it is that number, as in BullMQ. Arithmetic saturates: no sum overflows, and
/// the time since a later moment is zero. The present, by the server's clock, is
/// [`client.clock().now()`](crate::Clock::now).
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use oxbull::Timestamp;
///
/// let added = Timestamp::from_millis(1_795_408_930_777);
/// let due = added + Duration::from_secs(60);
/// assert_eq!(due - added, Duration::from_secs(60));
/// assert_eq!(added - due, Duration::ZERO);
/// assert_eq!(added.to_string().parse(), Ok(added));
/// assert_eq!(Timestamp::from(SystemTime::try_from(added)?), added);
/// # Ok::<(), oxbull::Error>(())
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Wraps milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the time from `earlier` to `self`, zero when `earlier` is later; the same as
    /// `self - earlier`.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, delta: Duration) -> Self {
        Self(self.0.saturating_add(millis(delta)))
    }
}

impl AddAssign<Duration> for Timestamp {
    fn add_assign(&mut self, delta: Duration) {
        *self = *self + delta;
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, delta: Duration) -> Self {
        Self(self.0.saturating_sub(millis(delta)))
    }
}

impl SubAssign<Duration> for Timestamp {
    fn sub_assign(&mut self, delta: Duration) {
        *self = *self - delta;
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Rounds down to whole milliseconds; what no stored time can be is the nearest one that can.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(millis(after)),
            Err(error) => {
                let before = error.duration();
                let up = i64::from(before.subsec_nanos() % 1_000_000 != 0);
                Self((-millis(before)).saturating_sub(up))
            }
        }
    }
}

/// Fails with [`Error::Invalid`] where the platform's clock cannot hold the time.
impl TryFrom<Timestamp> for SystemTime {
    type Error = Error;

    fn try_from(time: Timestamp) -> Result<Self, Error> {
        let distance = Duration::from_millis(time.0.unsigned_abs());
        let converted = if time.0 < 0 {
            UNIX_EPOCH.checked_sub(distance)
        } else {
            UNIX_EPOCH.checked_add(distance)
        };
        converted.ok_or_else(|| Error::invalid("timestamp", "is beyond the platform's clock"))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Reads milliseconds since the epoch.
impl FromStr for Timestamp {
    type Err = ParseIntError;

    fn from_str(millis: &str) -> Result<Self, ParseIntError> {
        millis.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp(i64::MAX) + Duration::MAX;
        assert_eq!(end.as_millis(), i64::MAX);
        assert_eq!(Timestamp(i64::MIN) - Duration::MAX, Timestamp(i64::MIN));
        assert_eq!(Timestamp(1) - Timestamp(5), Duration::ZERO);
        assert_eq!(Timestamp(5) - Timestamp(1), Duration::from_millis(4));
        assert_eq!(
            Timestamp(i64::MAX) - Timestamp(i64::MIN),
            Duration::from_millis(i64::MAX as u64)
        );
        let mut time = Timestamp(10);
        time += Duration::from_millis(5);
        time -= Duration::from_millis(7);
        assert_eq!(time, Timestamp(8));
    }

    #[test]
    fn times_of_the_platform_are_rounded_down() {
        let at = |nanos: i64| {
            let distance = Duration::from_nanos(nanos.unsigned_abs());
            if nanos < 0 {
                UNIX_EPOCH - distance
            } else {
                UNIX_EPOCH + distance
            }
        };
        for (nanos, millis) in [(0, 0), (1, 0), (1_999_999, 1), (-1, -1), (-1_000_000, -1)] {
            assert_eq!(Timestamp::from(at(nanos)), Timestamp(millis), "{nanos}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_time() {
        for bad in ["", "soon", "1.5", "2026-11-28"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Timestamp>("\"1\"").is_err());
    }

    proptest! {
        #[test]
        fn times_survive_a_trip_through_text_json_and_the_platform(
            millis in any::<i64>(),
            near in -(1i64 << 52)..1 << 52,
        ) {
            let time = Timestamp(millis);
            prop_assert_eq!(time.to_string().parse(), Ok(time));
            let json = serde_json::to_string(&time).unwrap();
            prop_assert_eq!(&json, &millis.to_string());
            prop_assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
            let time = Timestamp(near);
            prop_assert_eq!(Timestamp::from(SystemTime::try_from(time).unwrap()), time);
        }
    }
}
