//! Where a new job goes (`docs/protocol.md#adding-jobs`).

use crate::job::JobOptions;

/// The place of a new job in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Behind the jobs that wait.
    Wait,
    /// Before the jobs that wait.
    Next,
    /// Among the jobs with a priority.
    Prioritized,
    /// Among the jobs that wait for a time.
    Delayed,
    /// Among the parents that wait for their children.
    Children,
}

impl Placement {
    /// Chooses the place of a job without children: a delay goes before a priority, a priority before `lifo`.
    pub(crate) fn of(options: &JobOptions) -> Self {
        if options.delay.is_some_and(|delay| delay.as_millis() > 0) {
            Self::Delayed
        } else if options.priority.is_some_and(|priority| priority > 0) {
            Self::Prioritized
        } else if options.lifo == Some(true) {
            Self::Next
        } else {
            Self::Wait
        }
    }

    /// Returns the word that `lua/enqueue.lua` uses.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Next => "next",
            Self::Prioritized => "prioritized",
            Self::Delayed => "delayed",
            Self::Children => "children",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Only the most specific option decides, whatever else is set.
        #[test]
        fn delay_beats_priority_beats_lifo(delay in 0u64..3, priority in 0u32..3, lifo: bool) {
            let mut options = JobOptions::new()
                .delay(Duration::from_millis(delay))
                .priority(priority);
            options.lifo = Some(lifo);
            let expected = match (delay, priority, lifo) {
                (1.., _, _) => Placement::Delayed,
                (0, 1.., _) => Placement::Prioritized,
                (0, 0, true) => Placement::Next,
                (0, 0, false) => Placement::Wait,
            };
            prop_assert_eq!(Placement::of(&options), expected);
        }
    }

    #[test]
    fn delay_below_a_millisecond_is_no_delay() {
        let options = JobOptions::new().delay(Duration::from_micros(900));
        assert_eq!(Placement::of(&options), Placement::Wait);
    }
}
