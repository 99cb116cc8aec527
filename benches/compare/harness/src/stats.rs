//! Medians, spreads and ratios.

use serde::Serialize;

/// What several rounds of one number come to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// The middle one; the mean of the two in the middle.
    pub(crate) median: f64,
    /// The least.
    pub(crate) min: f64,
    /// The greatest.
    pub(crate) max: f64,
}

impl Summary {
    /// Sums up; nothing without a number.
    pub(crate) fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut all: Vec<f64> = numbers.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        let upper = *all.get(middle)?;
        let median = if all.len().is_multiple_of(2) {
            f64::midpoint(upper, *all.get(middle.checked_sub(1)?)?)
        } else {
            upper
        };
        Some(Self {
            median,
            min: *all.first()?,
            max: *all.last()?,
        })
    }
}

/// `ours` over `theirs`; nothing where that says nothing.
pub(crate) fn ratio(ours: f64, theirs: f64) -> Option<f64> {
    let ratio = ours / theirs;
    ratio.is_finite().then_some(ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(median: f64, min: f64, max: f64) -> Summary {
        Summary { median, min, max }
    }

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(Summary::of([9.0, 1.0, 2.0]), Some(summary(2.0, 1.0, 9.0)));
        assert_eq!(
            Summary::of([4.0, 1.0, 2.0, 9.0]),
            Some(summary(3.0, 1.0, 9.0))
        );
        assert_eq!(Summary::of([5.0]), Some(summary(5.0, 5.0, 5.0)));
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn ratios_of_nothing_are_none() {
        assert_eq!(ratio(3.0, 2.0), Some(1.5));
        assert_eq!(ratio(1.0, 0.0), None);
        assert_eq!(ratio(0.0, 0.0), None);
    }
}
