//! Carrying a schedule on: the activation of an iteration makes the next one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobRecord, Recurrence};
use crate::scheduler::slots;
use crate::store::{Made, NextIteration, NextJob, NextRepeatable, Store, Successor};
use crate::wire::{IterationId, Repetition};

/// What came of the activation of an iteration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Why the schedule was not carried on although it should be.
    pub(crate) problem: Option<String>,
    /// What is odd about the iteration's slot: its maker computes with other zone data.
    pub(crate) doubt: Option<String>,
    /// An earlier iteration that still runs: this one must not.
    pub(crate) running: Option<JobId>,
}

/// Makes the iteration that follows an activated job, if the job is the current iteration of a
/// scheduler (`docs/protocol.md#next-iterations`). Safe to repeat.
///
/// # Errors
///
/// Whatever the store answers; the next iteration may then be there or not.
pub(crate) async fn carry_on(store: &Store, job: &JobRecord, scheduler: &str) -> Result<Carried> {
    let now = store.clock().now();
    let (successor, mut obstacle) = match successor(job, scheduler, now) {
        Ok(successor) => (successor, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let followed = store
        .run(&NextIteration {
            scheduler: job.stored("rjk").unwrap_or(scheduler.as_bytes()),
            activated: &job.id,
            now,
            successor: successor.as_ref(),
        })
        .await?;
    let mut next = followed.next;
    if next == Made::Repeatable {
        (next, obstacle) = carry_on_repeatable(store, job, scheduler, now).await?;
    }
    let doubt = match &next {
        Made::Iteration(_) => doubt(job, now),
        _ => None,
    };
    let problem = match next {
        Made::Iteration(_) | Made::NotCurrent => None,
        Made::Ended => obstacle,
        Made::Duplicate(id) => Some(format!("a job {id} exists already")),
        Made::Unknown | Made::Repeatable => Some(
            "the queue does not know it; unless it was removed, its jobs have to be added anew"
                .to_owned(),
        ),
    };
    Ok(Carried {
        problem: problem.map(|problem| {
            format!(
                "scheduler {scheduler} was not carried on by job {}: {problem}",
                job.id
            )
        }),
        doubt: doubt.map(|doubt| format!("job {} of scheduler {scheduler}: {doubt}", job.id)),
        running: followed.running,
    })
}

/// Compares the slot of an iteration, which may be another process's, with what this one computes.
fn doubt(job: &JobRecord, now: Timestamp) -> Option<String> {
    let current = Repetition::of_iteration(&job.raw_options).ok()?;
    // The first one may run at once, off its pattern.
    if current.count <= 1 {
        return None;
    }
    slots::doubt(&current.schedule, current.previous?, now)
}

/// Makes the job that follows one of a repeatable job of BullMQ 4. Says what hindered it.
async fn carry_on_repeatable(
    store: &Store,
    job: &JobRecord,
    key: &str,
    now: Timestamp,
) -> Result<(Made, Option<String>)> {
    let Some(id) = IterationId::of(&job.id) else {
        return Ok((Made::Unknown, None));
    };
    let (next, obstacle) = match next_repeatable(job, id, key, now) {
        Ok(next) => (next, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let made = store
        .run(&NextRepeatable {
            key,
            activated: &job.id,
            slot: id.slot,
            now,
            next: next.as_ref(),
        })
        .await?;
    Ok((made, obstacle))
}

/// Describes the next job of a repeatable job; `None` when the schedule is over.
fn next_repeatable(
    job: &JobRecord,
    id: IterationId<'_>,
    key: &str,
    now: Timestamp,
) -> Result<Option<NextJob>, String> {
    let current = Repetition::of_iteration(&job.raw_options)?;
    let previous = current.previous.unwrap_or(id.slot);
    let slot = slots::of_repeatable(&current, previous, now).map_err(|error| error.to_string())?;
    Ok(slot.map(|slot| NextJob {
        id: id.next_repeatable(&job.name, key, slot),
        slot,
        due: Timestamp::from_millis(slot.as_millis().saturating_add(current.repeatable_offset())),
        iteration: current.next_repeatable(now),
    }))
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
