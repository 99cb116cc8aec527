//! Taking the steps of an operation and adding up what they did.

use std::ops::ControlFlow;
use std::time::Duration;

use crate::client::CallError;
use crate::error::{Error, Result};
use crate::queue::operations::{OperationReport, OperationStep};
use crate::store::{Cursor, STEP_MAX, Store, Transition, Walk, WalkStep};

/// How long a step whose answer was lost is asked for again: Redis comes back from a restart or a
/// failover in that time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An operation that runs.
pub(super) struct Run<'a, F> {
    pub(super) store: &'a Store,
    pub(super) dry: bool,
    /// How many jobs may still be handled.
    left: Option<u64>,
    report: OperationReport,
    watch: F,
}

/// The operation ends before its end.
pub(super) struct Stopped;

impl<'a, F> Run<'a, F>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    pub(super) fn new(store: &'a Store, dry: bool, limit: Option<u64>, watch: F) -> Self {
        Self {
            store,
            dry,
            left: limit,
            report: OperationReport::default(),
            watch,
        }
    }

    /// How many jobs may still be handled; `None`: any number.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// The step that goes on from `from`.
    pub(super) fn step(&self, from: &Cursor) -> Walk {
        Walk {
            dry: self.dry,
            limit: self.left,
            from: from.clone(),
        }
    }

    /// Goes through a place until its end.
    pub(super) async fn walk<T>(&mut self, make: impl Fn(Walk) -> T) -> Result<Result<(), Stopped>>
    where
        T: Transition<Reply = WalkStep>,
    {
        let mut from = Cursor::default();
        loop {
            let step = self.ask(|run| make(run.step(&from))).await?;
            let next = step.next.clone();
            let flow = self.took(step);
            let Some(next) = next else {
                return Ok(flow);
            };
            from = next;
            if flow.is_err() {
                if from.unsaid > 0 {
                    // A step that may take nothing writes the event of those before.
                    self.left = Some(0);
                    self.ask(|run| make(run.step(&from))).await?;
                }
                return Ok(flow);
            }
        }
    }

    /// Takes one step, and asks for it again where its answer is lost.
    pub(super) async fn ask<T>(&mut self, make: impl Fn(&Self) -> T) -> Result<WalkStep>
    where
        T: Transition<Reply = WalkStep>,
    {
        let mut retry = self.store.connection().retry().within(TIMEOUT);
        let mut lost = false;
        loop {
            let error = match self.store.attempt(&make(self)).await {
                Ok(step) => return Ok(step),
                Err(error) => error,
            };
            let may_pass = error.may_pass();
            let error = match error {
                CallError::Unknown(error) => {
                    if !self.dry {
                        lost = true;
                        self.report.at_least = true;
                        self.left = self.left.map(|left| left.saturating_sub(STEP_MAX));
                    }
                    error
                }
                CallError::NotExecuted(error) | CallError::Answered(error) if lost => {
                    Error::Indeterminate(error.into())
                }
                CallError::NotExecuted(error) | CallError::Answered(error) => return Err(error),
            };
            if !may_pass || !retry.pause().await {
                return Err(error);
            }
        }
    }

    /// Counts a step and tells of it.
    pub(super) fn took(&mut self, step: WalkStep) -> Result<(), Stopped> {
        let handled = step.jobs.len() as u64;
        self.report.jobs += handled;
        self.report.looked_at += step.looked;
        self.left = self.left.map(|left| left.saturating_sub(handled));
        let told = OperationStep {
            jobs: step.jobs,
            report: self.report,
        };
        if (self.watch)(&told).is_break() || self.left == Some(0) {
            return Err(Stopped);
        }
        Ok(())
    }

    /// How many jobs were handled.
    pub(super) fn jobs(&self) -> u64 {
        self.report.jobs
    }

    /// Whether an answer was lost.
    pub(super) fn is_at_least(&self) -> bool {
        self.report.at_least
    }

    /// Ends the operation; `complete` when it was not stopped.
    pub(super) fn end(mut self, complete: bool) -> OperationReport {
        self.report.complete = complete;
        self.report
    }
}
