//! Advancing a schedule: the activation of an iteration makes the next one.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::Result;
use crate::job::{JobId, JobRecord, Recurrence};
use crate::store::{NextIteration, NextJob, NextOutcome, NextRepeatable, Store, Successor};
use crate::wire::{IterationId, Repetition};
use crate::worker::schedules::occurrences;

/// What the activation of an iteration led to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::worker) struct Advance {
    /// Why the schedule was not advanced although it should be.
    pub(in crate::worker) problem: Option<String>,
    /// How the iteration's occurrence differs from what this process computes: another one, with
    /// other zone data, made it.
    pub(in crate::worker) mismatch: Option<String>,
    /// An earlier iteration that still runs: this one must not.
    pub(in crate::worker) running: Option<JobId>,
    /// The iteration that follows, if this made it.
    pub(in crate::worker) made: Option<JobId>,
}

/// Makes the iteration that follows an activated job, if the job is the current iteration of a
/// scheduler (`docs/protocol.md#next-iterations`). Safe to repeat.
///
/// # Errors
///
/// Errors of the store; the next iteration may then exist or not.
pub(in crate::worker) async fn advance(
    store: &Store,
    job: &JobRecord,
    scheduler: &str,
) -> Result<Advance> {
    let now = store.clock().now();
    let (successor, mut obstacle) = match successor(job, scheduler, now) {
        Ok(successor) => (successor, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let activated = store
        .run(&NextIteration {
            scheduler: job.stored("rjk").unwrap_or(scheduler.as_bytes()),
            activated: &job.id,
            now,
            successor: successor.as_ref(),
        })
        .await?;
    let mut next = activated.next;
    if next == NextOutcome::Repeatable {
        (next, obstacle) = advance_repeatable(store, job, scheduler, now).await?;
    }
    let mismatch = match &next {
        NextOutcome::Made(_) => mismatch(job, now),
        _ => None,
    };
    let mut made = None;
    let problem = match next {
        NextOutcome::Made(id) => {
            made = Some(id);
            None
        }
        NextOutcome::NotCurrent => None,
        NextOutcome::Over => obstacle,
        NextOutcome::Duplicate(id) => Some(format!("a job {id} exists already")),
        NextOutcome::Unknown | NextOutcome::Repeatable => Some(
            "the queue does not know it; unless it was removed, its jobs have to be added again"
                .to_owned(),
        ),
    };
    Ok(Advance {
        problem: problem.map(|problem| {
            format!(
                "scheduler {scheduler} was not advanced by job {}: {problem}",
                job.id
            )
        }),
        mismatch: mismatch
            .map(|mismatch| format!("job {} of scheduler {scheduler}: {mismatch}", job.id)),
        running: activated.running,
        made,
    })
}

/// Compares the occurrence of an iteration, which may be another process's, with what this one computes.
fn mismatch(job: &JobRecord, now: Timestamp) -> Option<String> {
    let current = Repetition::of_iteration(&job.raw_options).ok()?;
    // The first one may run at once, off its pattern.
    if current.count <= 1 {
        return None;
    }
    occurrences::mismatch(&current.schedule, current.previous?, now)
}

/// Makes the job that follows one of a repeatable job of BullMQ 4. Also returns what prevented it.
async fn advance_repeatable(
    store: &Store,
    job: &JobRecord,
    key: &str,
    now: Timestamp,
) -> Result<(NextOutcome, Option<String>)> {
    let Some(id) = IterationId::of(&job.id) else {
        return Ok((NextOutcome::Unknown, None));
    };
    let (next, obstacle) = match next_repeatable(job, id, key, now) {
        Ok(next) => (next, None),
        Err(obstacle) => (None, Some(obstacle)),
    };
    let made = store
        .run(&NextRepeatable {
            key,
            activated: &job.id,
            occurrence: id.occurrence,
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
    let previous = current.previous.unwrap_or(id.occurrence);
    let occurrence =
        occurrences::of_repeatable(&current, previous, now).map_err(|error| error.to_string())?;
    Ok(occurrence.map(|occurrence| NextJob {
        id: id.next_repeatable(&job.name, key, occurrence),
        occurrence,
        due: Timestamp::from_millis(
            occurrence
                .as_millis()
                .saturating_add(current.repeatable_offset()),
        ),
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
    let occurrences =
        occurrences::following(&current.schedule, current.previous.unwrap_or(now), now)
            .map_err(|error| error.to_string())?;
    let every = match current.schedule.recurrence {
        Recurrence::Every(every) => Some(every),
        Recurrence::Cron(_) => None,
    };
    Ok(Some(Successor {
        occurrences,
        every,
        end: current.schedule.end,
        offset: current.schedule.offset.unwrap_or(Duration::ZERO),
        iteration: current.iteration(scheduler, current.count.saturating_add(1), now),
    }))
}
