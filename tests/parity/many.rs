//! Operations on many jobs, taken by each side.

use std::ops::ControlFlow;
use std::time::Duration;

use oxbull::{
    ActiveJobs, Error, JobId, JobState, Operation, Queue, Refusal, RetryOptions, Timestamp,
};
use oxbull_testkit::TestResult;
use serde_json::{Value, json};

use crate::node::Node;
use crate::step::{Place, Step};

/// An operation on many jobs. What it answers is the ids it took, in any order, where BullMQ tells them.
#[derive(Debug, Clone)]
pub(crate) enum Many {
    /// `limit` 0: all; `parked`: what version 5 parked is there too, which to BullMQ is another state.
    Clean {
        state: JobState,
        grace: u64,
        limit: u64,
        parked: bool,
    },
    Obliterate {
        force: bool,
    },
    Retry {
        completed: bool,
        until: i64,
    },
    Promote,
    /// Answers how many jobs were deleted.
    RemoveOrphans,
    ClearLogs {
        id: String,
        keep: u32,
    },
}

/// A clean of what nobody has parked.
pub(crate) fn clean(state: JobState, grace: u64, limit: u64) -> Step {
    let parked = false;
    Step::Many(Many::Clean {
        state,
        grace,
        limit,
        parked,
    })
}

/// The answer of a queue that has active jobs.
fn active() -> Value {
    json!({ "refused": "active jobs" })
}

fn sorted(mut ids: Vec<String>) -> Value {
    ids.sort();
    json!(ids)
}

impl Many {
    pub(crate) async fn by_node(&self, node: &Node, place: &Place) -> TestResult<Value> {
        let (method, params) = match self {
            Self::Clean {
                state,
                grace,
                limit,
                parked,
            } => {
                let mut ids = Vec::new();
                for state in [Some(state.as_str()), parked.then_some("paused")] {
                    let Some(state) = state else { continue };
                    let params = json!({ "grace": grace, "limit": limit, "type": state });
                    let found = node.call(place, "queue.clean", params).await?;
                    let found = found.as_array().into_iter().flatten();
                    ids.extend(found.filter_map(Value::as_str).map(str::to_owned));
                }
                return Ok(sorted(ids));
            }
            Self::Obliterate { force } => {
                let params = json!({ "opts": { "force": force } });
                return Ok(match node.ask(place, "queue.obliterate", params).await? {
                    Ok(_) => Value::Null,
                    Err(error) if error.message.contains("active jobs") => active(),
                    Err(error) => return Err(error.message.into()),
                });
            }
            Self::Retry { completed, until } => {
                let state = if *completed { "completed" } else { "failed" };
                let opts = json!({ "state": state, "timestamp": until });
                ("queue.retryJobs", json!({ "opts": opts }))
            }
            Self::Promote => ("queue.promoteJobs", json!({})),
            Self::RemoveOrphans => {
                let params = json!({ "method": "removeOrphanedJobs" });
                return node.call(place, "queue.call", params).await;
            }
            Self::ClearLogs { id, keep } => ("queue.clearLogs", json!({ "id": id, "keep": keep })),
        };
        node.call(place, method, params).await?;
        Ok(Value::Null)
    }

    pub(crate) async fn by_ox(&self, queue: &Queue) -> TestResult<Value> {
        let (operation, answers_ids) = match self {
            Self::Clean {
                state,
                grace,
                limit,
                ..
            } => {
                let mut clean = queue.clean(*state, Duration::from_millis(*grace));
                if *limit > 0 {
                    clean = clean.limit(*limit);
                }
                (clean, true)
            }
            Self::Obliterate { force } => {
                let active = if *force {
                    ActiveJobs::Delete
                } else {
                    ActiveJobs::Refuse
                };
                (queue.obliterate(active), false)
            }
            Self::Retry { completed, until } => {
                let (until, options) = (Some(Timestamp::from_millis(*until)), RetryOptions::new());
                let again = if *completed {
                    queue.rerun_jobs(until, options)
                } else {
                    queue.retry_jobs(until, options)
                };
                (again, false)
            }
            Self::Promote => (queue.promote_jobs(), false),
            Self::RemoveOrphans => {
                let report = queue.remove_orphaned_jobs().run().await?;
                return Ok(json!(report.jobs));
            }
            Self::ClearLogs { id, keep } => {
                queue.clear_logs(&JobId::existing(id), *keep).await?;
                return Ok(Value::Null);
            }
        };
        match ids_of(operation).await {
            Ok(ids) if answers_ids => Ok(sorted(ids)),
            Ok(_) => Ok(Value::Null),
            Err(Error::QueueRefused {
                source: Refusal::ActiveJobs,
                ..
            }) => Ok(active()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn ids_of(operation: Operation) -> oxbull::Result<Vec<String>> {
    let mut ids = Vec::new();
    let watch = |step: &oxbull::OperationStep| {
        ids.extend(step.jobs.iter().map(|id| id.as_str().to_owned()));
        ControlFlow::Continue(())
    };
    operation.run_with(watch).await?;
    Ok(ids)
}
