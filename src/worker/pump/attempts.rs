//! Attempts: from a job that was started to the result that is sent, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::Id;
use tokio::time::Instant;

use crate::job::{BackoffKind, JobRecord, Outcome};
use crate::policy::{self, Attempt, AttemptEnd, CustomWait, Ending};
use crate::store::{Ended, LockToken};
use crate::worker::call::Fate;
use crate::worker::events::WorkerEvent;
use crate::worker::execute::{Cancellation, Exit};
use crate::worker::panic::panicked;

use super::Pump;
use super::stages::Stage;

/// A job in its handler.
pub(super) struct Running {
    pub(super) record: Arc<JobRecord>,
    pub(super) token: LockToken,
    pub(super) cancellation: Cancellation,
    pub(super) since: Instant,
}

/// What there is to tell about an attempt once its fate is known.
pub(super) struct Story {
    pub(super) took: Duration,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Completed,
    Failed { retries: bool },
    SteppedBack,
}

impl Pump {
    pub(super) fn collect_exits(&mut self) {
        while let Some(exit) = self.handlers.try_join_next_with_id() {
            self.take_exit(exit);
        }
    }

    /// Turns an attempt that left its handler into a result.
    pub(super) fn take_exit(&mut self, exit: Result<(Id, Exit), tokio::task::JoinError>) {
        let (id, exit) = match exit {
            Ok(exit) => exit,
            Err(error) => {
                let id = error.id();
                let exit = match error.try_into_panic() {
                    Ok(panic) => Exit::Ended(AttemptEnd::Failed(panicked(&*panic))),
                    Err(_) => Exit::GivenBack,
                };
                (id, exit)
            }
        };
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        let key = (running.record.id.clone(), running.record.attempts_started);
        self.parts.held.ending(&key);
        let end = match exit {
            Exit::Ended(end) => end,
            Exit::GivenBack => AttemptEnd::Returned(Outcome::Release),
            Exit::LockLost => {
                self.parts.held.release([&key]);
                self.look = true;
                return;
            }
        };
        if let AttemptEnd::Returned(Outcome::RateLimited(wait)) = &end {
            self.limited = Some(self.calls_made);
            self.limit(Instant::now(), *wait);
        }
        let ending = self.settle(&running.record, &end);
        let kind = match &ending {
            Ending::Complete { .. } => Kind::Completed,
            Ending::Fail { .. } => Kind::Failed { retries: false },
            Ending::Retry { .. } | Ending::Backoff { .. } => Kind::Failed { retries: true },
            Ending::Park { .. } | Ending::Release | Ending::WaitForChildren => Kind::SteppedBack,
        };
        self.stories.insert(
            key,
            Story {
                took: running.since.elapsed(),
                kind,
            },
        );
        self.results
            .push(ended(&running.record, &running.token, ending));
    }

    pub(super) fn settle(&self, record: &JobRecord, end: &AttemptEnd) -> Ending {
        let options = &self.parts.options;
        let custom = match (
            end,
            record.options.backoff.as_ref().map(|backoff| &backoff.kind),
        ) {
            (AttemptEnd::Failed(error), Some(BackoffKind::Custom(name))) => {
                options.strategies.get(name).map(|strategy| {
                    strategy(record.attempts_made.saturating_add(1), error)
                        .map_or(CustomWait::GiveUp, CustomWait::Retry)
                })
            }
            _ => None,
        };
        policy::settle(
            Attempt {
                job: record,
                rules: &options.rules,
            },
            end,
            self.parts.caller.store.clock().now(),
            fastrand::f64(),
            custom,
        )
    }

    /// Starts an attempt, or gives its job back where there is no place for it any more.
    pub(super) fn start(&mut self, record: JobRecord, token: &LockToken) {
        let key = (record.id.clone(), record.attempts_started);
        let cancellation = Cancellation::default();
        self.parts
            .held
            .hold(key.clone(), token.clone(), cancellation.clone());
        let room = self.handlers.len() + self.results.len() < self.concurrency;
        if !matches!(self.stage, Stage::Running) || self.paused || !room {
            self.parts.held.ending(&key);
            self.stories.insert(
                key,
                Story {
                    took: Duration::ZERO,
                    kind: Kind::SteppedBack,
                },
            );
            self.results.push(ended(&record, token, Ending::Release));
            return;
        }
        let record = Arc::new(record);
        self.parts.events.tell(|| WorkerEvent::Active {
            id: record.id.clone(),
            name: record.name.as_str().into(),
            attempt: record.attempts_started,
        });
        let attempt =
            self.parts
                .runner
                .clone()
                .run(Arc::clone(&record), token.clone(), cancellation.clone());
        let handle = self.handlers.spawn(attempt);
        self.running.insert(
            handle.id(),
            Running {
                record,
                token: token.clone(),
                cancellation,
                since: Instant::now(),
            },
        );
    }

    /// Frees the slot of a result whose fate is known, and tells whoever listens.
    pub(super) fn tell_fate(&mut self, result: Ended, fate: Fate) {
        let key = (result.job.clone(), result.starts);
        self.parts.held.release([&key]);
        let story = self.stories.remove(&key);
        let id = result.job;
        match fate {
            Fate::Stored => {
                let Some(Story { took, kind }) = story else {
                    return;
                };
                self.parts.events.tell(|| match (kind, result.ending) {
                    (Kind::Completed, Ending::Complete { value, .. }) => WorkerEvent::Completed {
                        id,
                        result: value.into(),
                        took,
                    },
                    (
                        Kind::Failed { retries },
                        Ending::Fail { reason, .. }
                        | Ending::Retry { reason, .. }
                        | Ending::Backoff { reason, .. },
                    ) => WorkerEvent::Failed {
                        id,
                        reason: reason.into(),
                        retries,
                        took,
                    },
                    _ => WorkerEvent::SteppedBack { id },
                });
            }
            Fate::Refused(reason) => {
                self.refused(&id, result.starts, result.stalls, &result.token, reason);
            }
            Fate::Unknown => {
                if let Some(skipped) = self.unknowns.admit() {
                    tracing::warn!(
                        queue = %self.parts.options.queue,
                        job = %id,
                        skipped,
                        "answer was lost and the job has moved on; its result may not be stored"
                    );
                }
            }
            Fate::Abandoned(error) => {
                self.abandoned += 1;
                self.trouble(
                    "a result could not be stored; its job will be recovered",
                    &error,
                );
            }
        }
    }

    pub(super) fn refused(
        &mut self,
        id: &crate::job::JobId,
        starts: u32,
        stalls: u32,
        token: &LockToken,
        reason: crate::error::Refusal,
    ) {
        use crate::error::Refusal;
        self.parts.events.tell(|| WorkerEvent::Refused {
            id: id.clone(),
            reason,
        });
        // The job is still ours: it cannot complete while children are pending or have failed,
        // so the attempt failed (spec: processing §20).
        if matches!(
            reason,
            Refusal::PendingDependencies | Refusal::FailedChildren
        ) {
            self.results.push(Ended {
                job: id.clone(),
                token: token.clone(),
                starts,
                stalls,
                ending: Ending::Fail {
                    reason: reason.to_string(),
                    traces: serde_json::json!([format!("Error: {reason}")]).to_string(),
                    keep: policy::Keep::ALL,
                    attempts: 0,
                },
            });
            return;
        }
        if let Some(skipped) = self.refusals.admit() {
            tracing::warn!(
                queue = %self.parts.options.queue,
                job = %id,
                %reason,
                skipped,
                "result refused; nothing of it is stored"
            );
        }
    }
}

fn ended(record: &JobRecord, token: &LockToken, ending: Ending) -> Ended {
    Ended {
        job: record.id.clone(),
        token: token.clone(),
        starts: record.attempts_started,
        stalls: record.stalled,
        ending,
    }
}
