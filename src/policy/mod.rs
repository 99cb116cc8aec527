//! Pure decisions: where a new job is placed, what becomes of an attempt, how long a retry waits,
//! when a schedule runs next. Neither clock nor randomness is read here; both are passed in.

pub(crate) mod backoff;
mod cron;
pub(crate) mod interval;
pub(crate) mod next_run;
mod placement;
mod settlement;

pub(crate) use placement::Placement;
pub(crate) use settlement::{
    AfterRefusal, Attempt, AttemptEnd, CustomWait, Ending, Keep, WorkerRules, after_refusal, settle,
};
