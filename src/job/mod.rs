//! What a job is: its identity, options, stored record and, while a worker runs it, the active
//! [`Job`].

mod active;
mod added;
mod deduplication;
mod end;
mod id;
mod name;
mod options;
mod outcome;
mod rate_limit;
mod record;
mod schedule;
mod scheduler;
mod state;

pub use active::Job;
pub(crate) use active::{Action, Actions};
pub use added::{AddOutcome, Added};
pub use deduplication::{Deduplication, IfDelayed};
pub use end::JobEnd;
pub use id::JobId;
pub use name::{Prefix, QueueName};
pub(crate) use options::PRIORITY_MAX;
pub use options::{Backoff, BackoffKind, ChildPolicy, JobOptions, Parent, Retention, Telemetry};
pub use outcome::{AttemptError, JobError, JobResult, Outcome};
pub use rate_limit::{JobRateLimit, RateLimitState};
pub use record::{JobRecord, ParentLink};
pub use schedule::{CatchUp, Overlap, Recurrence, Schedule};
pub use scheduler::SchedulerRecord;
pub use state::JobState;
