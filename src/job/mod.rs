//! What a job is: its identity, options, stored record and, while a worker runs it, the active
//! [`Job`].

mod active;
mod active_children;
mod added;
mod backoff;
mod deduplication;
mod dependencies;
mod id;
mod job_error;
mod job_outcome;
mod key;
mod name;
mod options;
mod outcome;
mod parent;
mod rate_limit;
mod record;
mod retention;
mod schedule;
mod scheduler;
mod state;
mod telemetry;

pub use crate::id::JobId;
pub use crate::state::JobState;
pub use active::Job;
pub(crate) use active::{Action, Actions};
pub use added::{AddOutcome, Added};
pub use backoff::{Backoff, BackoffKind};
pub use deduplication::{Deduplication, IfDelayed};
pub use dependencies::{
    ChildResults, Dependencies, Dependency, DependencyCounts, DependencyCursor, DependencyKind,
    DependencyPage, DependencyState,
};
pub(crate) use dependencies::{PageRequest, ReadDependencies};
pub use job_error::{AttemptError, JobError};
pub use job_outcome::JobOutcome;
pub use key::JobKey;
pub use name::{Prefix, QueueName};
pub use options::JobOptions;
pub(crate) use options::check_priority;
pub use outcome::{JobResult, Outcome};
pub use parent::{ChildPolicy, Parent};
pub use rate_limit::{JobRateLimit, RateLimitState};
pub use record::{JobRecord, ParentLink};
pub use retention::Retention;
pub use schedule::{CatchUp, Overlap, Recurrence, Schedule};
pub use scheduler::SchedulerRecord;
pub use telemetry::Telemetry;
