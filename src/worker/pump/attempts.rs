//! The pump's attempts: begun in tasks of their own, and collected when these end.

use std::sync::Arc;

use tokio::time::Instant;

use crate::policy::{AttemptOutcome, Conclusion};
use crate::worker::attempt::{Attempt, Concluded, Exit};
use crate::worker::cancel::Canceller;
use crate::worker::panic::panicked;

use super::Pump;
use super::running::Left;

impl Pump {
    /// Runs an attempt in a task of its own; its lock is renewed from now on.
    pub(super) fn begin(&mut self, attempt: Attempt) {
        let cancellation = Canceller::default();
        self.parts
            .leases
            .hold(attempt.activation(), cancellation.clone());
        self.parts.reporter.started(&attempt);
        let runner = Arc::clone(&self.parts.runner);
        let task = runner.run(attempt.clone(), cancellation.clone());
        self.running.spawn(attempt, cancellation, task);
    }

    /// Concludes an attempt once more, in a task that keeps its slot: a backoff strategy may take time.
    pub(super) fn conclude_again(&mut self, attempt: Attempt, end: AttemptOutcome) {
        let runner = Arc::clone(&self.parts.runner);
        let task = runner.conclude(attempt.clone(), end);
        self.running.spawn(attempt, Canceller::default(), task);
    }

    /// Gives a job back whose handler has not run.
    pub(super) fn release(&mut self, attempt: Attempt) {
        let activation = attempt.activation();
        self.parts
            .leases
            .hold(activation.clone(), Canceller::default());
        self.parts.leases.mark_finished(&activation);
        self.outbox.push(Concluded::not_run(attempt));
    }

    pub(super) fn collect_exits(&mut self) {
        while let Some(left) = self.running.try_join_next() {
            self.take_exit(left);
        }
    }

    /// Puts the result of an attempt that left its task into the outbox.
    pub(super) fn take_exit(&mut self, (attempt, exit): Left) {
        let activation = attempt.activation();
        self.parts.leases.mark_finished(&activation);
        match exit {
            Ok(Exit::Concluded(concluded)) => {
                self.respect(&concluded);
                self.outbox.push(concluded);
            }
            Ok(Exit::LockLost) => {
                self.parts.leases.release([&activation]);
                self.gate.wake();
            }
            Err(error) => match error.try_into_panic() {
                // Not the handler, whose panics are caught before.
                Ok(panic) => {
                    self.conclude_again(attempt, AttemptOutcome::failed(panicked(&*panic)));
                }
                // Dropped at the end of a shutdown.
                Err(_) => self
                    .outbox
                    .push(Concluded::new(attempt, Conclusion::Release)),
            },
        }
    }

    /// Starts no job for as long as the end of an attempt says.
    fn respect(&mut self, concluded: &Concluded) {
        let now = Instant::now();
        if let Some(wait) = concluded.limit {
            self.gate.limit_by_handler(self.calls.made(), wait, now);
        }
        let failure = concluded.failure.as_ref();
        if let Some(error) = failure.and_then(|failure| failure.outage.as_ref()) {
            self.gate.handler_failed(now);
            self.parts
                .health
                .handler_failed(format!("redis could not serve a handler: {error}"));
        }
    }
}
