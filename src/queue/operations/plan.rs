//! What each operation goes through.

use std::ops::ControlFlow;

use serde_json::{Map, Value as Json};

use crate::clock::Timestamp;
use crate::error::{Error, Refusal, Result};
use crate::job::JobState;
use crate::queue::RetryOptions;
use crate::queue::operations::run::{Run, Stopped};
use crate::queue::operations::{ActiveJobs, DrainScope, OperationReport, OperationStep, orphans};
use crate::store::{
    Clean, Cursor, Drain, Obliterate, ObliteratePart, Place, PromoteJobs, RetryJobs,
};
use crate::telemetry;

/// What an operation does.
#[derive(Debug)]
pub(super) enum Plan {
    Clean {
        state: JobState,
        /// How old jobs must be, in milliseconds.
        grace: i64,
        /// The newest time that is deleted.
        newest: Timestamp,
    },
    Drain(DrainScope),
    Obliterate(ActiveJobs),
    Retry {
        completed: bool,
        until: Timestamp,
        options: RetryOptions,
    },
    Promote,
    RemoveOrphans,
}

/// In this order parents are deleted before they could be released.
const ALL: [Place; 8] = [
    Place::Active,
    Place::WaitingChildren,
    Place::Delayed,
    Place::Completed,
    Place::Wait,
    Place::Paused,
    Place::Prioritized,
    Place::Failed,
];

/// How many deduplication ids one call looks at.
const IDS_MAX: usize = 200;

impl Plan {
    /// Runs the operation.
    pub(super) async fn run<F>(self, mut run: Run<'_, F>) -> Result<OperationReport>
    where
        F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
    {
        let outcome = match &self {
            Self::Clean { state, newest, .. } => clean(&mut run, *state, *newest).await,
            Self::Drain(scope) => drain(&mut run, *scope).await,
            Self::Obliterate(active) => obliterate(&mut run, *active).await,
            Self::Retry {
                completed,
                until,
                options,
            } => {
                let make = |walk| RetryJobs {
                    completed: *completed,
                    walk,
                    until: *until,
                    reset_made: options.resets_made(),
                    reset_started: options.resets_started(),
                };
                run.walk(make).await
            }
            Self::Promote => {
                let begun = run.store.clock().now();
                run.walk(|walk| PromoteJobs { walk, begun }).await
            }
            Self::RemoveOrphans => orphans::remove(&mut run).await,
        };
        match outcome {
            Ok(outcome) => Ok(run.end(outcome.is_ok())),
            Err(error) if run.dry || run.jobs() == 0 => Err(error),
            Err(error) => {
                let done = self.done();
                let least = if run.is_at_least() { "at least " } else { "" };
                Err(error.after(|| format!("{least}{} jobs were {done}", run.jobs())))
            }
        }
    }

    /// The span around the operation.
    pub(super) fn span(&self, queue: &str, limit: Option<u64>) -> telemetry::Operation {
        let options = |mut options: Map<String, Json>| {
            options.extend(limit.map(|limit| ("count".to_owned(), limit.into())));
            Json::Object(options)
        };
        let named = |name| telemetry::Operation::new(queue, name);
        match self {
            Self::Clean { state, grace, .. } => named("clean")
                .number("bullmq.queue.grace", *grace)
                .text("bullmq.job.type", state)
                .number("bullmq.queue.clean.limit", limit.unwrap_or(0)),
            Self::Drain(scope) => {
                let delayed = *scope == DrainScope::ReadyAndDelayed;
                named("drain").flag("bullmq.queue.drain.delay", delayed)
            }
            Self::Obliterate(_) => named("obliterate"),
            Self::Retry {
                completed, until, ..
            } => {
                let state = if *completed { "completed" } else { "failed" };
                let given = [
                    ("state".to_owned(), state.into()),
                    ("timestamp".to_owned(), until.as_millis().into()),
                ];
                telemetry::Operation::producer(queue, "retryJobs")
                    .text("bullmq.queue.options", options(given.into_iter().collect()))
            }
            Self::Promote => named("promoteJobs").text("bullmq.queue.options", options(Map::new())),
            Self::RemoveOrphans => named("removeOrphanedJobs"),
        }
    }

    /// What became of the jobs.
    fn done(&self) -> &'static str {
        match self {
            Self::Clean { .. } | Self::Drain(_) | Self::Obliterate(_) | Self::RemoveOrphans => {
                "deleted"
            }
            Self::Retry { .. } => "queued again",
            Self::Promote => "promoted",
        }
    }
}

async fn clean<F>(
    run: &mut Run<'_, F>,
    state: JobState,
    newest: Timestamp,
) -> Result<Result<(), Stopped>>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    // `wait` before `paused`: its last step writes the event even when nothing was deleted.
    for &place in Place::of(state).iter().rev() {
        let make = |walk| Clean {
            place,
            walk,
            newest,
        };
        if let Err(stopped) = run.walk(make).await? {
            return Ok(Err(stopped));
        }
    }
    Ok(Ok(()))
}

async fn drain<F>(run: &mut Run<'_, F>, scope: DrainScope) -> Result<Result<(), Stopped>>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    // In this order parents in other queues are released.
    let places: &[Place] = match scope {
        DrainScope::Ready => &[Place::Wait, Place::Paused, Place::Prioritized],
        DrainScope::ReadyAndDelayed => &[
            Place::Wait,
            Place::Paused,
            Place::Delayed,
            Place::Prioritized,
        ],
    };
    for &place in places {
        if let Err(stopped) = run.walk(|walk| Drain { place, walk }).await? {
            return Ok(Err(stopped));
        }
    }
    Ok(Ok(()))
}

/// Deletes a queue, and the error of a step says that the queue was paused.
async fn obliterate<F>(run: &mut Run<'_, F>, active: ActiveJobs) -> Result<Result<(), Stopped>>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    let with_active = active == ActiveJobs::Delete;
    run.ask(|run| part_of(run, &ObliteratePart::Begin, with_active))
        .await?;
    let outcome = obliterate_paused(run, with_active).await;
    let untold = !run.dry && run.jobs() == 0;
    outcome.map_err(|error| {
        if untold {
            error.after(|| "the queue was paused".to_owned())
        } else {
            error
        }
    })
}

async fn obliterate_paused<F>(
    run: &mut Run<'_, F>,
    with_active: bool,
) -> Result<Result<(), Stopped>>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    let store = run.store;
    for place in ALL {
        let part = &ObliteratePart::Jobs(place);
        let make = |walk| Obliterate {
            queue: store.keys().qualified(),
            part,
            walk,
            with_active,
        };
        if let Err(stopped) = run.walk(make).await? {
            return Ok(Err(stopped));
        }
    }
    if run.dry {
        return Ok(Ok(()));
    }
    let schedulers = &ObliteratePart::Schedulers;
    while run
        .ask(|run| part_of(run, schedulers, with_active))
        .await?
        .next
        .is_some()
    {}
    for suffix in ["de:", "dn:"] {
        let mut cursor = Some(b"0".to_vec());
        while let Some(from) = cursor {
            let (ids, next) = store.keys_page(suffix, &from).await?;
            for ids in ids.chunks(IDS_MAX) {
                let part = &ObliteratePart::Deduplication(ids.to_vec());
                run.ask(|run| part_of(run, part, with_active)).await?;
            }
            cursor = next;
        }
    }
    let end = &ObliteratePart::End;
    match run.ask(|run| part_of(run, end, with_active)).await {
        // The answer to an earlier try was lost; that one has deleted the settings.
        Err(Error::Indeterminate(cause)) if is_not_paused(cause.as_ref()) => Ok(Ok(())),
        end => end.map(|_| Ok(())),
    }
}

/// A step without jobs.
fn part_of<'a, F>(run: &Run<'a, F>, part: &'a ObliteratePart, with_active: bool) -> Obliterate<'a>
where
    F: FnMut(&OperationStep) -> ControlFlow<()> + Send,
{
    Obliterate {
        queue: run.store.keys().qualified(),
        part,
        walk: run.step(&Cursor::default()),
        with_active,
    }
}

fn is_not_paused(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(Error::QueueRefused {
            source: Refusal::NotPaused,
            ..
        })
    )
}
