//! Repairing schedulers whose current iteration will not run: its job was deleted by hand, or ended
//! without a successor. A schedule that ended as it should is left alone.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::store::{
    CheckSchedulers, IterationState, Repair, RepairScheduler, Starts, StoppedScheduler, Store,
};
use crate::wire::Repetition;
use crate::worker::schedules::{RepairedScheduler, occurrences};

/// How often the events are read on for one scheduler.
const READS_MAX: usize = 20;

/// What a check did.
#[derive(Debug, Default)]
pub(in crate::worker) struct Repairs {
    pub(in crate::worker) repaired: Vec<RepairedScheduler>,
    /// Schedulers that stay without an iteration, and why.
    pub(in crate::worker) problems: Vec<String>,
}

impl Repairs {
    /// Ends a check early, with what it has done so far if that is anything.
    fn cut_short(mut self, error: Error) -> Result<Self> {
        if self.repaired.is_empty() && self.problems.is_empty() {
            return Err(error);
        }
        self.problems
            .push(format!("not all schedulers were checked: {error}"));
        Ok(self)
    }
}

/// Checks all schedulers of the queue, unless some worker has within the interval.
///
/// # Errors
///
/// Errors of the store before anything was found; the next check continues.
pub(in crate::worker) async fn repair(store: &Store, interval: Duration) -> Result<Repairs> {
    let mut repairs = Repairs::default();
    let mut starts = Starts::default();
    let mut skip = 0;
    loop {
        let now = store.clock().now();
        let check = CheckSchedulers {
            now,
            interval,
            skip,
        };
        let page = match store.run(&check).await {
            Ok(page) => page,
            Err(error) => return repairs.cut_short(error),
        };
        for stopped in page.stopped {
            let problem = match repair_one(store, &stopped, now, &mut starts).await {
                Ok(Ok(repaired)) => {
                    repairs.repaired.extend(repaired);
                    continue;
                }
                Ok(Err(error)) if error.is_transient() => return repairs.cut_short(error),
                // One that cannot be repaired must not keep the others from it.
                Ok(Err(error)) => error.to_string(),
                Err(problem) => problem,
            };
            let id = &stopped.scheduler.id;
            repairs
                .problems
                .push(format!("scheduler {id} has no next iteration: {problem}"));
        }
        match page.next {
            Some(next) => skip = next,
            None => return Ok(repairs),
        }
    }
}

/// Makes an iteration for one scheduler; the outer error says why it cannot be made.
async fn repair_one(
    store: &Store,
    stopped: &StoppedScheduler,
    now: Timestamp,
    starts: &mut Starts,
) -> Result<Result<Option<RepairedScheduler>>, String> {
    let scheduler = &stopped.scheduler;
    if let Some(problem) = scheduler.problems.first() {
        return Err(problem.clone());
    }
    let finished = stopped.state == IterationState::Finished;
    // An occurrence that is still to come gets its job back; so does one that no state has.
    let same = match stopped.state {
        IterationState::Finished => false,
        IterationState::Gone => scheduler.next > now,
        IterationState::Stranded => true,
    };
    let occurrences =
        |from: &Repetition| occurrences::following(&from.schedule, scheduler.next, now);
    let inherited = stopped.options.as_deref().and_then(|options| {
        let current = Repetition::of_iteration(options).ok()?;
        Some((occurrences(&current).ok()?, current))
    });
    let (occurrences, current) = if let Some(inherited) = inherited {
        inherited
    } else {
        // The definition knows less, but enough.
        let current = Repetition::of_definition(scheduler)?;
        (
            occurrences(&current).map_err(|error| error.to_string())?,
            current,
        )
    };
    if scheduler.iterations.is_none() && scheduler.raw_data.is_none() && !finished {
        return Err("its data was in a job that no longer exists".to_owned());
    }
    if !same && current.is_last() {
        return Ok(Ok(None));
    }
    let count = current.count.saturating_add(u64::from(!same));
    let iteration = current.iteration(&scheduler.id, count, now);
    let current = format!("repeat:{}:{}", scheduler.id, scheduler.next);
    for _ in 0..READS_MAX {
        let made = store
            .run(&RepairScheduler {
                scheduler: &scheduler.id,
                occurrence: scheduler.next,
                state: stopped.state,
                now,
                same,
                occurrences,
                iteration: &iteration,
                events: starts.after().map(|after| (after, starts.has(&current))),
            })
            .await;
        match made {
            Ok(Repair::Behind) => {
                if let Err(error) = starts.read(store).await {
                    return Ok(Err(error));
                }
            }
            Ok(Repair::Nothing) => return Ok(Ok(None)),
            Ok(Repair::Made(id)) => {
                let scheduler = scheduler.id.clone();
                return Ok(Ok(Some(RepairedScheduler { scheduler, id })));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Err("events come faster than they can be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error in the middle of a check must not hide what was done before.
    #[test]
    fn check_that_is_cut_short_reports_what_it_did() {
        let nothing = Repairs::default().cut_short(Error::Closed);
        assert!(matches!(nothing, Err(Error::Closed)));
        let one = Repairs {
            repaired: vec![RepairedScheduler {
                scheduler: "s".to_owned(),
                id: crate::job::JobId::existing("repeat:s:1"),
            }],
            problems: Vec::new(),
        };
        let cut = one.cut_short(Error::Closed).unwrap();
        assert_eq!(cut.repaired.len(), 1);
        assert!(cut.problems[0].starts_with("not all schedulers were checked"));
    }
}
