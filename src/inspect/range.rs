//! Ranges of indexes.

use std::ops::{Bound, RangeBounds};

use crate::error::{Error, Result};

/// Indexes from the first to the last included; below zero they count from the end, -1 is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Indexes {
    Empty,
    Between(i64, i64),
}

impl Indexes {
    /// Reads a range.
    pub(super) fn of(range: &impl RangeBounds<i64>) -> Result<Self> {
        let first = match range.start_bound() {
            Bound::Included(first) => *first,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last = match range.end_bound() {
            Bound::Included(last) => *last,
            // Nothing is in front of the first.
            Bound::Excluded(0) if first >= 0 => return Ok(Self::Empty),
            Bound::Excluded(end) if *end == first => return Ok(Self::Empty),
            Bound::Excluded(0) => {
                let problem = "must not end before 0 where it begins below 0; leave out the end";
                return Err(Error::invalid("range", problem));
            }
            Bound::Excluded(end) => end.saturating_sub(1),
            Bound::Unbounded => -1,
        };
        if (first < 0) == (last < 0) && last < first {
            let problem = format!("must not end at {last}, before it begins at {first}");
            return Err(Error::invalid("range", problem));
        }
        Ok(Self::Between(first, last))
    }

    /// Returns the first and the last index of `total` that are in the range.
    pub(super) fn within(self, total: u64) -> Option<(u64, u64)> {
        let Self::Between(first, last) = self else {
            return None;
        };
        let at = |index: i64| match u64::try_from(index) {
            Ok(index) => Some(index),
            Err(_) => total.checked_sub(index.unsigned_abs()),
        };
        let (first, last) = (at(first).unwrap_or(0), at(last)?.min(total.checked_sub(1)?));
        (first <= last).then_some((first, last))
    }

    /// Returns the two indexes as LRANGE takes them; `None` for none.
    pub(super) fn bounds(self) -> Option<(i64, i64)> {
        match self {
            Self::Empty => None,
            Self::Between(first, last) => Some((first, last)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_mean_what_they_do_in_rust_and_count_from_the_end_below_zero() {
        let of_five = |range: Result<Indexes>| range.unwrap().within(5);
        assert_eq!(of_five(Indexes::of(&(..))), Some((0, 4)));
        assert_eq!(of_five(Indexes::of(&(0..2))), Some((0, 1)));
        assert_eq!(of_five(Indexes::of(&(1..=2))), Some((1, 2)));
        assert_eq!(of_five(Indexes::of(&(3..))), Some((3, 4)));
        assert_eq!(of_five(Indexes::of(&(-2..))), Some((3, 4)));
        assert_eq!(of_five(Indexes::of(&(..-1))), Some((0, 3)));
        assert_eq!(of_five(Indexes::of(&(-9..=-4))), Some((0, 1)));
        assert_eq!(of_five(Indexes::of(&(7..9))), None);
        assert_eq!(of_five(Indexes::of(&(..=-6))), None);
        assert_eq!(of_five(Indexes::of(&(0..0))), None);
        assert_eq!(of_five(Indexes::of(&(-3..-3))), None);
        let all = Indexes::of(&(i64::MIN..=i64::MAX)).unwrap();
        assert_eq!((all.within(5), all.within(0)), (Some((0, 4)), None));
    }

    #[test]
    fn reversed_ranges_are_refused() {
        let bounds = |first, last| (Bound::Included(first), Bound::Included(last));
        for range in [bounds(5, 3), bounds(-1, -5)] {
            let error = Indexes::of(&range).unwrap_err().to_string();
            assert!(error.starts_with("range must not end at"), "{error}");
        }
        let to_zero = (Bound::Included(-5), Bound::Excluded(0));
        assert!(matches!(Indexes::of(&to_zero), Err(Error::Invalid { .. })));
    }
}
