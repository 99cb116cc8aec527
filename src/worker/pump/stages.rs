//! Commands of the worker's handle, and the stages of a shutdown.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::after;
use crate::worker::events::WorkerEvent;
use crate::worker::execute::Cause;
use crate::worker::options::ShutdownOptions;

use super::{Command, Pump};

/// How many of the jobs that are cancelled a log line names.
const NAMED_MAX: usize = 10;

/// How far the worker is on its way to its end.
pub(super) enum Stage {
    Running,
    /// No job is started; handlers may finish.
    Finishing(Instant),
    /// Handlers are cancelled.
    Cancelling(Instant),
    /// Handlers are gone; the last results are on their way.
    Reporting(Instant),
}

impl Stage {
    /// When the stage ends although nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Running => None,
            Self::Finishing(until) | Self::Cancelling(until) | Self::Reporting(until) => {
                Some(*until)
            }
        }
    }
}

impl Pump {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running)
    }

    pub(super) fn is_over(&self) -> bool {
        match self.stage {
            Stage::Running => false,
            Stage::Reporting(until) if Instant::now() >= until => true,
            _ => self.is_idle(),
        }
    }

    /// Says whether no handler runs, no result waits and no call is on its way.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.outbox.is_empty() && self.advancing == 0
    }

    pub(super) fn handle_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Pause(done)) => {
                if !self.paused {
                    self.paused = true;
                    self.parts.reporter.events.send(|| WorkerEvent::Paused);
                }
                self.pausing.push(done);
            }
            Some(Command::Resume) => {
                if self.paused {
                    self.paused = false;
                    // Nobody waits for the end of a pause that is over.
                    self.notify_paused();
                    self.gate.wake();
                    self.parts.reporter.events.send(|| WorkerEvent::Resumed);
                }
            }
            Some(Command::Concurrency(slots)) => {
                if self.slots.resize(slots) {
                    self.gate.wake();
                }
            }
            Some(Command::Cancel(id, cancelled)) => {
                let cause = Cause::Requested(self.shutdown.cancel_within);
                // Whoever asked may have stopped waiting.
                cancelled.send(self.running.cancel(id.as_ref(), cause)).ok();
            }
            Some(Command::Close(options)) => self.close(options),
            // The handle was dropped: end at once, releasing the jobs.
            None => {
                self.handle_dropped = true;
                self.close(
                    ShutdownOptions::new()
                        .finish_within(Duration::ZERO)
                        .cancel_within(Duration::ZERO),
                );
            }
        }
    }

    pub(super) fn close(&mut self, options: ShutdownOptions) {
        if self.is_running() {
            tracing::info!(
                queue = %self.parts.options.queue,
                running = self.running.len(),
                finish_within = ?options.finish_within,
                "worker closing"
            );
            self.parts.reporter.events.send(|| WorkerEvent::Closing);
        }
        let until = after(Instant::now(), options.finish_within);
        match self.stage {
            // A second command can only make it shorter.
            Stage::Finishing(old) => self.stage = Stage::Finishing(old.min(until)),
            Stage::Running => self.stage = Stage::Finishing(until),
            Stage::Cancelling(_) if options.cancel_within.is_zero() => self.running.abort_all(),
            Stage::Cancelling(_) | Stage::Reporting(_) => {}
        }
        self.shutdown = options;
        self.advance_stage();
    }

    pub(super) fn advance_stage(&mut self) {
        let now = Instant::now();
        if let Stage::Finishing(until) = self.stage
            && (now >= until || self.running.is_empty())
        {
            let cause = Cause::Shutdown(self.shutdown.cancel_within);
            let cancelled = self.running.cancel(None, cause);
            if cancelled > 0 {
                let named = self.running.some_ids(NAMED_MAX);
                tracing::warn!(
                    queue = %self.parts.options.queue,
                    jobs = cancelled,
                    among_them = named.join(", "),
                    "jobs still run; they are cancelled and released"
                );
            }
            // A moment more than the handlers have, for those that end in time.
            let until = after(now, self.shutdown.cancel_within) + Duration::from_millis(100);
            self.stage = Stage::Cancelling(until);
        }
        if let Stage::Cancelling(until) = self.stage
            && (now >= until || self.running.is_empty())
        {
            // Those that are left: cancelled before this shutdown with more time, or waiting for
            // their backoff strategy.
            self.running.abort_all();
            self.stage = Stage::Reporting(after(now, self.shutdown.report_within));
        }
        if self.paused && self.is_idle() {
            self.notify_paused();
        }
    }

    /// Ends the waits of those who paused the worker.
    fn notify_paused(&mut self) {
        for done in self.pausing.drain(..) {
            // Whoever paused may have stopped waiting.
            done.send(()).ok();
        }
    }
}
