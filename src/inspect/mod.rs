//! Looking at queues: what command lines and dashboards show, and search.
//!
//! Every read is a method of [`Queue`](crate::Queue). Reads change nothing, and none keeps Redis busy
//! for more than a few milliseconds, whatever the queue holds: what may be long is read in steps.
//! (Opening a queue writes its settings, unless told [not to](crate::QueueBuilder::skip_settings_update).)
//! Whatever other clients have stored is shown as far as it can be read, with its problems named.
//!
//! | question | answer |
//! |---|---|
//! | how many jobs, and how late? | [`counts`](crate::Queue::counts), [`counts_by_priority`](crate::Queue::counts_by_priority), [`delayed_before`](crate::Queue::delayed_before), [`backlog`](crate::Queue::backlog) |
//! | which jobs? | [`jobs`](crate::Queue::jobs), [`job_ids`](crate::Queue::job_ids), [`all_jobs`](crate::Queue::all_jobs), [`search`](crate::Queue::search) |
//! | what about this one? | [`job`](crate::Queue::job), [`state`](crate::Queue::state), [`ended`](crate::Queue::ended), [`logs`](crate::Queue::logs), [`newest_logs`](crate::Queue::newest_logs) |
//! | what of its children? | [`flow`](crate::Queue::flow), [`dependency_counts`](crate::Queue::dependency_counts), [`dependencies`](crate::Queue::dependencies), [`children_values`](crate::Queue::children_values), [`ignored_failures`](crate::Queue::ignored_failures), [`failed_children`](crate::Queue::failed_children) |
//! | what waits for ever? | [`blocked_parents`](crate::Queue::blocked_parents) |
//! | who works, and on what? | [`workers`](crate::Queue::workers), [`listeners`](crate::Queue::listeners), [`activity`](crate::Queue::activity) |
//! | how fast? | [`metrics`](crate::Queue::metrics), [`Exporter`] |
//! | how is it set up? | [`settings`](crate::Queue::settings) |

mod backlog;
mod counts;
mod export;
mod jobs;
mod listing;
mod logs;
mod metrics;
mod range;
mod search;
mod settings;
mod walk;
mod workers;

pub use backlog::Backlog;
pub use counts::JobCounts;
pub use export::Exporter;
pub use listing::{JobOrder, JobPage, ListedJob};
pub use logs::Logs;
pub use metrics::{JobMetrics, MetricKind};
pub use search::{Cursor, DataCondition, JobStream, Progress, Search};
pub use settings::QueueSettings;
pub use workers::{Activity, ConnectedListener, ConnectedWorker, RunningJob, WorkerActivity};
