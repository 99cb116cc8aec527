//! What the worker's handle asks of its pump.

use std::time::Duration;

use tokio::time::Instant;

use crate::worker::cancel::Cause;
use crate::worker::events::WorkerEvent;
use crate::worker::options::ShutdownOptions;

use super::shutdown::Step;
use super::{Command, Pump};

/// How many of the jobs that are cancelled a log line names.
const NAMED_MAX: usize = 10;

impl Pump {
    pub(super) fn handle_command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Pause(idle)) => {
                if self.pause.pause(idle) {
                    self.parts.reporter.events.send(|| WorkerEvent::Paused);
                }
            }
            Some(Command::Resume) => {
                if self.pause.resume() {
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
                let cause = Cause::Requested(self.shutdown.cancel_within());
                // The caller may have stopped waiting.
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

    fn close(&mut self, options: ShutdownOptions) {
        if !self.shutdown.has_begun() {
            tracing::info!(
                queue = %self.parts.options.queue,
                running = self.running.len(),
                finish_within = ?options.finish_within,
                "worker closing"
            );
            self.parts.reporter.events.send(|| WorkerEvent::Closing);
        }
        let step = self.shutdown.begin(options, Instant::now());
        self.take_step(step);
        self.advance_shutdown();
    }

    /// Goes on with the shutdown and the pause, by what runs.
    pub(super) fn advance_shutdown(&mut self) {
        let handlers = !self.running.is_empty();
        let step = self.shutdown.advance(Instant::now(), handlers);
        self.take_step(step);
        if self.is_idle() {
            self.pause.idle();
        }
    }

    fn take_step(&mut self, step: Option<Step>) {
        match step {
            None => {}
            Some(Step::Drop) => self.running.abort_all(),
            Some(Step::Cancel(wait)) => {
                let cancelled = self.running.cancel(None, Cause::Shutdown(wait));
                let named = self.running.some_ids(NAMED_MAX);
                tracing::warn!(
                    queue = %self.parts.options.queue,
                    jobs = cancelled,
                    among_them = named.join(", "),
                    "jobs still run; they are cancelled and released"
                );
            }
        }
    }
}
