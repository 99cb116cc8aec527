//! How long ended jobs are kept.

use std::time::Duration;

/// What happens to a job once it has ended (`docs/protocol.md#retention`).
/// BullMQ's `true` is [`Remove`](Self::Remove), `false` [`KeepAll`](Self::KeepAll), a number
/// [`KeepLast`](Self::KeepLast).
///
/// # Examples
///
/// ```
/// use oxbull::{JobOptions, Retention};
/// use std::time::Duration;
///
/// let day = Retention::bounded().age(Duration::from_secs(24 * 3600)).count(1000);
/// let options = JobOptions::new().remove_on_complete(day).remove_on_fail(Retention::KeepLast(5000));
/// # drop(options);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// Keeps every job.
    KeepAll,
    /// Deletes the job at once.
    Remove,
    /// Keeps the newest jobs of the set, this many.
    KeepLast(u64),
    /// Keeps jobs within bounds; an absent bound does not apply.
    Bounded {
        /// How many of the newest jobs to keep.
        count: Option<u64>,
        /// How long to keep a job; whole seconds.
        age: Option<Duration>,
        /// How many jobs one job's end may delete by age. Default: 1,000.
        limit: Option<u64>,
    },
}

impl Retention {
    /// Keeps every job until [`age`](Self::age) or [`count`](Self::count) sets a bound.
    ///
    /// # Examples
    ///
    /// ```
    /// use oxbull::Retention;
    /// use std::time::Duration;
    ///
    /// let week = Retention::bounded().age(Duration::from_secs(7 * 24 * 3600)).limit(100);
    /// let newest = Retention::bounded().count(50);
    /// # drop((week, newest));
    /// ```
    pub const fn bounded() -> Self {
        Self::Bounded {
            count: None,
            age: None,
            limit: None,
        }
    }

    /// Sets how long to keep a job; whole seconds. Other variants become the same bounds:
    /// [`KeepLast`](Self::KeepLast) its count, [`Remove`](Self::Remove) a count of 0.
    #[must_use]
    pub const fn age(self, age: Duration) -> Self {
        let (count, _, limit) = self.bounds();
        Self::Bounded {
            count,
            age: Some(age),
            limit,
        }
    }

    /// Sets how many of the newest jobs to keep; as [`age`](Self::age).
    #[must_use]
    pub const fn count(self, count: u64) -> Self {
        let (_, age, limit) = self.bounds();
        Self::Bounded {
            count: Some(count),
            age,
            limit,
        }
    }

    /// Sets how many jobs one job's end may delete by age; as [`age`](Self::age).
    #[must_use]
    pub const fn limit(self, limit: u64) -> Self {
        let (count, age, _) = self.bounds();
        Self::Bounded {
            count,
            age,
            limit: Some(limit),
        }
    }

    const fn bounds(&self) -> (Option<u64>, Option<Duration>, Option<u64>) {
        match *self {
            Self::KeepAll => (None, None, None),
            Self::Remove => (Some(0), None, None),
            Self::KeepLast(count) => (Some(count), None, None),
            Self::Bounded { count, age, limit } => (count, age, limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_takes_bounds() {
        let hour = Duration::from_secs(3600);
        let bounded = |count| Retention::Bounded {
            count,
            age: Some(hour),
            limit: Some(7),
        };
        for (start, count) in [
            (Retention::KeepAll, None),
            (Retention::bounded(), None),
            (Retention::Remove, Some(0)),
            (Retention::KeepLast(5), Some(5)),
            (Retention::KeepLast(5).count(6), Some(6)),
        ] {
            assert_eq!(start.age(hour).limit(7), bounded(count));
        }
    }
}
