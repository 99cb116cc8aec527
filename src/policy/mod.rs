//! Pure decisions: where a new job is placed, what becomes of an attempt, how long a retry waits,
//! when a schedule runs next. Neither clock nor randomness is read here; both are passed in.

pub(crate) mod backoff;
mod conclusion;
mod cron;
pub(crate) mod interval;
pub(crate) mod next_run;
mod placement;
mod refusal;

pub(crate) use conclusion::{
    Attempt, AttemptOutcome, Conclusion, CustomWait, Keep, WorkerRules, conclude, preflight,
};
pub(crate) use placement::Placement;
pub(crate) use refusal::{AfterRefusal, after_refusal};
