//! The stages of a shutdown.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::after;
use crate::worker::options::ShutdownOptions;

/// How much longer than the handlers the pump waits for those that end in time.
const CANCEL_MARGIN: Duration = Duration::from_millis(100);

/// How far a worker is on its way to its end, and what became of its last jobs.
#[derive(Debug)]
pub(super) struct Shutdown {
    stage: Stage,
    options: ShutdownOptions,
    /// How many jobs were released to the queue.
    pub(super) released: usize,
    /// How many jobs were left to stalled recovery.
    pub(super) abandoned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// No job is started; handlers may finish.
    Finishing(Instant),
    /// Handlers are cancelled.
    Cancelling(Instant),
    /// Handlers are gone; the last results are on their way.
    Reporting(Instant),
}

/// What is to be done with the handlers that still run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Cancel them; they may clean up for this long.
    Cancel(Duration),
    /// Drop them.
    Drop,
}

impl Shutdown {
    pub(super) fn new(options: ShutdownOptions) -> Self {
        Self {
            stage: Stage::Running,
            options,
            released: 0,
            abandoned: 0,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.stage != Stage::Running
    }

    /// How long cancelled handlers may clean up.
    pub(super) fn cancel_within(&self) -> Duration {
        self.options.cancel_within
    }

    /// When the stage ends although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Running => None,
            Stage::Finishing(until) | Stage::Cancelling(until) | Stage::Reporting(until) => {
                Some(until)
            }
        }
    }

    /// Begins a shutdown, or hurries one that has begun: a second command can only make it shorter.
    pub(super) fn begin(&mut self, options: ShutdownOptions, now: Instant) -> Option<Step> {
        let until = after(now, options.finish_within);
        if self.stage == Stage::Running {
            self.options = options;
            self.stage = Stage::Finishing(until);
            return None;
        }
        let own = &mut self.options;
        own.cancel_within = own.cancel_within.min(options.cancel_within);
        own.report_within = own.report_within.min(options.report_within);
        match &mut self.stage {
            Stage::Running => {}
            Stage::Finishing(old) => *old = until.min(*old),
            Stage::Cancelling(_) if options.cancel_within.is_zero() => return Some(Step::Drop),
            Stage::Cancelling(old) => {
                *old = (after(now, options.cancel_within) + CANCEL_MARGIN).min(*old);
            }
            Stage::Reporting(old) => *old = after(now, options.report_within).min(*old),
        }
        None
    }

    /// Goes on to the next stage when this one is over; `handlers`: whether any runs.
    pub(super) fn advance(&mut self, now: Instant, handlers: bool) -> Option<Step> {
        if let Stage::Finishing(until) = self.stage
            && (now >= until || !handlers)
        {
            let wait = self.options.cancel_within;
            self.stage = Stage::Cancelling(after(now, wait) + CANCEL_MARGIN);
            if handlers {
                return Some(Step::Cancel(wait));
            }
        }
        if let Stage::Cancelling(until) = self.stage
            && (now >= until || !handlers)
        {
            self.stage = Stage::Reporting(after(now, self.options.report_within));
            // Those that are left: cancelled before this shutdown with more time, or waiting for
            // their backoff strategy.
            return handlers.then_some(Step::Drop);
        }
        None
    }

    /// Returns whether the worker has ended; `idle`: no handler runs and no result is on its way.
    pub(super) fn is_over(&self, now: Instant, idle: bool) -> bool {
        match self.stage {
            Stage::Running => false,
            Stage::Reporting(until) if now >= until => true,
            _ => idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn options(finish: u64, cancel: u64, report: u64) -> ShutdownOptions {
        ShutdownOptions::new()
            .finish_within(Duration::from_secs(finish))
            .cancel_within(Duration::from_secs(cancel))
            .report_within(Duration::from_secs(report))
    }

    #[test]
    fn handlers_finish_then_are_cancelled_then_are_dropped() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(options(9, 9, 9));
        assert!(!shutdown.has_begun() && shutdown.deadline().is_none());
        assert_eq!(shutdown.begin(options(10, 5, 3), now), None);
        assert_eq!(shutdown.advance(now + 9 * SECOND, true), None);
        let cancel = Some(Step::Cancel(5 * SECOND));
        assert_eq!(shutdown.advance(now + 10 * SECOND, true), cancel);
        assert_eq!(shutdown.advance(now + 15 * SECOND, true), None, "a margin");
        let at = now + 15 * SECOND + CANCEL_MARGIN;
        assert_eq!(shutdown.advance(at, true), Some(Step::Drop));
        assert!(!shutdown.is_over(at, false));
        assert!(shutdown.is_over(at, true));
        assert!(shutdown.is_over(at + 3 * SECOND, false), "time is up");
    }

    #[test]
    fn workers_without_handlers_end_once_their_results_have_left() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(options(10, 5, 3));
        assert!(!shutdown.is_over(now, true), "it has not begun");
        shutdown.begin(options(10, 5, 3), now);
        assert_eq!(shutdown.advance(now, false), None);
        assert_eq!(shutdown.deadline(), Some(now + 3 * SECOND));
        assert!(!shutdown.is_over(now, false));
        assert!(shutdown.is_over(now, true));
    }

    #[test]
    fn second_command_only_shortens_the_first() {
        let now = Instant::now();
        let mut shutdown = Shutdown::new(options(9, 9, 9));
        shutdown.begin(options(10, 5, 3), now);
        shutdown.begin(options(60, 5, 3), now);
        assert_eq!(shutdown.deadline(), Some(now + 10 * SECOND));
        shutdown.begin(options(2, 5, 3), now);
        assert_eq!(shutdown.deadline(), Some(now + 2 * SECOND));
        shutdown.begin(options(60, 60, 60), now);
        let cancel = Some(Step::Cancel(5 * SECOND));
        assert_eq!(shutdown.advance(now + 2 * SECOND, true), cancel);
        shutdown.begin(options(60, 1, 60), now + 2 * SECOND);
        let until = now + 3 * SECOND + CANCEL_MARGIN;
        assert_eq!(shutdown.deadline(), Some(until));
        let hurried = shutdown.begin(options(0, 0, 3), now + 2 * SECOND);
        assert_eq!(hurried, Some(Step::Drop));
        assert_eq!(shutdown.advance(until, true), Some(Step::Drop));
        assert_eq!(shutdown.deadline(), Some(until + 3 * SECOND));
        shutdown.begin(options(0, 0, 1), until);
        assert_eq!(shutdown.deadline(), Some(until + SECOND));
        shutdown.begin(options(60, 60, 60), until);
        assert_eq!(shutdown.deadline(), Some(until + SECOND));
    }
}
