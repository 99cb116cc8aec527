//! Arming schedulers again whose current iteration will not run: its job was deleted by hand, or
//! ended without a successor. A schedule that ended as it should is left alone.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::scheduler::{Rearmed, slots};
use crate::store::{
    CheckSchedulers, Halted, IterationState, RearmScheduler, RearmedAs, Starts, Store,
};
use crate::wire::Repetition;

/// How often the events are read on for one scheduler.
const READS_MAX: usize = 20;

/// What a check did.
#[derive(Debug, Default)]
pub(crate) struct Healed {
    pub(crate) rearmed: Vec<Rearmed>,
    /// Schedulers that stay without an iteration, and why.
    pub(crate) problems: Vec<String>,
}

impl Healed {
    /// Ends a check early. What it has done is told all the same.
    fn cut_short(mut self, error: Error) -> Result<Self> {
        if self.rearmed.is_empty() && self.problems.is_empty() {
            return Err(error);
        }
        self.problems
            .push(format!("not all schedulers were checked: {error}"));
        Ok(self)
    }
}

/// Checks all schedulers of the queue, unless somebody has within the interval.
///
/// # Errors
///
/// Whatever the store answers before anything was found; the next check goes on.
pub(crate) async fn heal(store: &Store, interval: Duration) -> Result<Healed> {
    let mut healed = Healed::default();
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
            Err(error) => return healed.cut_short(error),
        };
        for halted in page.halted {
            let problem = match rearm(store, &halted, now, &mut starts).await {
                Ok(Ok(rearmed)) => {
                    healed.rearmed.extend(rearmed);
                    continue;
                }
                Ok(Err(error)) if error.is_transient() => return healed.cut_short(error),
                // One that cannot be armed must not keep the others from it.
                Ok(Err(error)) => error.to_string(),
                Err(problem) => problem,
            };
            let id = &halted.scheduler.id;
            healed
                .problems
                .push(format!("scheduler {id} has no next iteration: {problem}"));
        }
        match page.next {
            Some(next) => skip = next,
            None => return Ok(healed),
        }
    }
}

/// Makes an iteration for one scheduler; the outer error says why it cannot be made.
async fn rearm(
    store: &Store,
    halted: &Halted,
    now: Timestamp,
    starts: &mut Starts,
) -> Result<Result<Option<Rearmed>>, String> {
    let scheduler = &halted.scheduler;
    if let Some(problem) = scheduler.problems.first() {
        return Err(problem.clone());
    }
    let finished = halted.state == IterationState::Finished;
    // A slot that is still to come gets its job back; so does one that no state has.
    let same = match halted.state {
        IterationState::Finished => false,
        IterationState::Gone => scheduler.next > now,
        IterationState::Stranded => true,
    };
    let slots = |from: &Repetition| slots::following(&from.schedule, scheduler.next, now);
    let inherited = halted.options.as_deref().and_then(|options| {
        let current = Repetition::of_iteration(options).ok()?;
        Some((slots(&current).ok()?, current))
    });
    let (slots, current) = if let Some(inherited) = inherited {
        inherited
    } else {
        // The definition knows less, but enough.
        let current = Repetition::of_definition(scheduler)?;
        (slots(&current).map_err(|error| error.to_string())?, current)
    };
    if scheduler.iterations.is_none() && scheduler.raw_data.is_none() && !finished {
        return Err("its data was in the job that is gone".to_owned());
    }
    if !same && current.is_last() {
        return Ok(Ok(None));
    }
    let count = current.count.saturating_add(u64::from(!same));
    let iteration = current.iteration(&scheduler.id, count, now);
    let current = format!("repeat:{}:{}", scheduler.id, scheduler.next);
    for _ in 0..READS_MAX {
        let made = store
            .run(&RearmScheduler {
                scheduler: &scheduler.id,
                slot: scheduler.next,
                state: halted.state,
                now,
                same,
                slots,
                iteration: &iteration,
                events: starts.after().map(|after| (after, starts.has(&current))),
            })
            .await;
        match made {
            Ok(RearmedAs::Behind) => {
                if let Err(error) = starts.read(store).await {
                    return Ok(Err(error));
                }
            }
            Ok(RearmedAs::Nothing) => return Ok(Ok(None)),
            Ok(RearmedAs::Made(id)) => {
                let scheduler = scheduler.id.clone();
                return Ok(Ok(Some(Rearmed { scheduler, id })));
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    Err("events come faster than they can be read".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error in the middle of a check hides nothing of what was done before.
    #[test]
    fn check_that_is_cut_short_tells_what_it_did() {
        let nothing = Healed::default().cut_short(Error::Closed);
        assert!(matches!(nothing, Err(Error::Closed)));
        let one = Healed {
            rearmed: vec![Rearmed {
                scheduler: "s".to_owned(),
                id: crate::job::JobId::existing("repeat:s:1"),
            }],
            problems: Vec::new(),
        };
        let told = one.cut_short(Error::Closed).unwrap();
        assert_eq!(told.rearmed.len(), 1);
        assert!(told.problems[0].starts_with("not all schedulers were checked"));
    }
}
