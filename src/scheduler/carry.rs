//! Carrying a schedule on: the activation of an iteration makes the next one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobRecord, Recurrence};
use crate::scheduler::slots;
use crate::store::{Made, NextIteration, Store, Successor};
use crate::wire::Repetition;

/// What came of the activation of an iteration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Why the schedule was not carried on although it should be.
    pub(crate) problem: Option<String>,
    /// An earlier iteration that still runs: this one must not.
    pub(crate) running: Option<JobId>,
}

/// Makes the iteration that follows an activated job, if the job is the current iteration of a
/// scheduler (spec: schedulers §5). Safe to repeat.
///
/// # Errors
///
/// Whatever the store answers; the next iteration may then be there or not.
pub(crate) async fn carry_on(store: &Store, job: &JobRecord, scheduler: &str) -> Result<Carried> {
    let now = store.clock().now();
    let (successor, obstacle) = match successor(job, scheduler, now) {
        Ok(successor) => (successor, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let followed = store
        .run(&NextIteration {
            scheduler,
            activated: &job.id,
            now,
            successor: successor.as_ref(),
        })
        .await?;
    let problem = match followed.next {
        Made::Iteration(_) | Made::NotCurrent => None,
        Made::Ended => obstacle,
        Made::Duplicate(id) => Some(format!("a job {id} exists already")),
        Made::Legacy => Some("a repeatable job of this version is not carried on".to_owned()),
    };
    Ok(Carried {
        problem: problem
            .map(|problem| format!("scheduler {scheduler} was not carried on: {problem}")),
        running: followed.running,
    })
}

/// Describes the next iteration; `None` when the schedule is over.
fn successor(
    job: &JobRecord,
    scheduler: &str,
    now: Timestamp,
) -> Result<Option<Successor>, String> {
    let current = Repetition::of_iteration(&job.raw_options)?;
    if current.is_last() {
        return Ok(None);
    }
    let slots = slots::following(&current.schedule, current.previous.unwrap_or(now), now)
        .map_err(|error| error.to_string())?;
    let every = match current.schedule.recurrence {
        Recurrence::Every(every) => Some(every),
        Recurrence::Cron(_) => None,
    };
    Ok(Some(Successor {
        slots,
        every,
        end: current.schedule.end,
        offset: current.schedule.offset.unwrap_or(Duration::ZERO),
        iteration: current.iteration(scheduler, current.count.saturating_add(1), now),
    }))
}
