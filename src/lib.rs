#![doc = include_str!("../README.md")]

pub mod client;
mod clock;
mod error;
mod events;
mod flow;
#[cfg(any(feature = "http-cache", feature = "http-rate-limit"))]
pub mod http;
mod id;
pub mod inspect;
mod job;
mod json;
pub mod kv;
mod metrics;
mod policy;
mod queue;
mod resp;
mod state;
mod store;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time_zone;
#[cfg(feature = "encryption")]
pub mod vault;
mod wire;
mod worker;

pub use client::{Client, ClientConfig};
pub use clock::{Clock, Timestamp};
pub use error::{BoxError, Error, Refusal, Result};
pub use events::{EventEntry, QueueEvents, QueueEventsBuilder};
pub use flow::{FlowAdded, FlowJob, FlowProducer};
pub use inspect::{Backlog, JobCounts, Logs};
pub use job::{
    AddOutcome, Added, AttemptError, Backoff, BackoffKind, CatchUp, ChildPolicy, ChildResults,
    Deduplication, Dependencies, Dependency, DependencyCounts, DependencyCursor, DependencyKind,
    DependencyPage, DependencyState, IfDelayed, Job, JobError, JobId, JobKey, JobOptions,
    JobOutcome, JobRateLimit, JobRecord, JobResult, JobState, Outcome, Overlap, Parent, ParentLink,
    Prefix, QueueName, RateLimitState, Recurrence, Retention, Schedule, SchedulerRecord, Telemetry,
};
#[cfg(feature = "metrics")]
pub use metrics::describe_metrics;
pub use queue::{
    ActiveJobs, BlockedParent, BlockedParents, BlockingChild, BlockingReason, BulkAdded,
    DeduplicationOwner, DrainScope, FlowLimits, FlowNode, NewJob, Operation, OperationReport,
    OperationStep, Queue, QueueBuilder, QueuePosition, RetryOptions, SchedulerOrder, Upserted,
};
pub use wire::{EventFields, EventId, PrevState, QueueEvent, RawJson};
pub use worker::{
    Availability, Cancellation, Context, FailedAttempt, Handler, IntoJobResult, JobCall, JobReply,
    JobService, ManualWorker, RepairedScheduler, ShutdownOptions, ShutdownReport, ShutdownSignals,
    Worker, WorkerBuilder, WorkerEvent, WorkerEvents, WorkerHealth, WorkerStart, WorkerTrouble,
};

/// The release of `tower` whose layers [`WorkerBuilder::layer`] takes.
pub use tower;
