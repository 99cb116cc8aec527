//! Numbers of queues and workers, for the recorder that the process has installed (feature `metrics`).
//! Without the feature, and without a recorder, they cost next to nothing.
//!
//! `docs/operations.md` lists them. Labels have few values: queues, outcomes, never ids or names of jobs.

use std::time::Duration;

#[cfg(feature = "metrics")]
mod names {
    pub(super) const JOBS: &str = "oxbull_jobs_total";
    pub(super) const ATTEMPTS: &str = "oxbull_attempts_started_total";
    pub(super) const DURATION: &str = "oxbull_job_duration_seconds";
    pub(super) const WAIT: &str = "oxbull_job_wait_seconds";
    pub(super) const RENEWALS: &str = "oxbull_lock_renewals_total";
    pub(super) const FETCHED: &str = "oxbull_fetch_batch_size";
    pub(super) const FINISHED: &str = "oxbull_finish_batch_size";
    pub(super) const ADDED: &str = "oxbull_add_batch_size";
    pub(super) const CONNECTIONS: &str = "oxbull_redis_connections_total";
}

/// Tells the process's recorder what each of the library's metrics is. To be called once the recorder
/// is installed.
///
/// # Examples
///
/// ```
/// // After the exporter of your choice has installed its recorder:
/// oxbull::describe_metrics();
/// ```
#[cfg(feature = "metrics")]
pub fn describe_metrics() {
    use metrics::{describe_counter, describe_histogram};
    use names::{ADDED, ATTEMPTS, CONNECTIONS, DURATION, FETCHED, FINISHED, JOBS, RENEWALS, WAIT};
    describe_counter!(JOBS, "Attempts that Redis knows to have ended, by outcome.");
    describe_counter!(ATTEMPTS, "Jobs handed to a handler.");
    describe_histogram!(DURATION, "How long attempts took.");
    describe_histogram!(WAIT, "From when a job could run to its first start.");
    describe_counter!(RENEWALS, "Locks renewed, lost, or not renewed in time.");
    describe_histogram!(FETCHED, "Jobs that one fetch has started.");
    describe_histogram!(FINISHED, "Results that one request has stored.");
    describe_histogram!(ADDED, "Jobs that one request has added.");
    describe_counter!(CONNECTIONS, "Connections to Redis that were opened.");
}

/// Counts a job that is handed to its handler, and how long it has `waited` if this is its first start.
pub(crate) fn started(queue: &str, waited: Option<Duration>) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!(names::ATTEMPTS, "queue" => label(queue)).increment(1);
        if let Some(waited) = waited {
            metrics::histogram!(names::WAIT, "queue" => label(queue)).record(waited);
        }
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (queue, waited);
}

/// Counts an attempt whose end is stored, by its outcome.
pub(crate) fn ended(queue: &str, outcome: &'static str, took: Duration) {
    #[cfg(feature = "metrics")]
    {
        metrics::counter!(names::JOBS, "queue" => label(queue), "outcome" => outcome).increment(1);
        metrics::histogram!(names::DURATION, "queue" => label(queue)).record(took);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (queue, outcome, took);
}

/// Counts locks that were to be renewed, by what became of them: `renewed`, `lost` or `failed`.
pub(crate) fn renewed(queue: &str, result: &'static str, locks: usize) {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::RENEWALS, "queue" => label(queue), "result" => result)
        .increment(u64::try_from(locks).unwrap_or(u64::MAX));
    #[cfg(not(feature = "metrics"))]
    let _ = (queue, result, locks);
}

/// Notes how much one request has finished and started.
pub(crate) fn advanced(queue: &str, finished: usize, fetched: usize) {
    #[cfg(feature = "metrics")]
    for (name, jobs) in [(names::FINISHED, finished), (names::FETCHED, fetched)] {
        batch(name, queue, jobs);
    }
    #[cfg(not(feature = "metrics"))]
    let _ = (queue, finished, fetched);
}

/// Notes how many jobs one request has added.
pub(crate) fn added(queue: &str, jobs: usize) {
    #[cfg(feature = "metrics")]
    batch(names::ADDED, queue, jobs);
    #[cfg(not(feature = "metrics"))]
    let _ = (queue, jobs);
}

/// Counts a connection that was opened: the first ones at the start, each further one after a loss.
pub(crate) fn connected() {
    #[cfg(feature = "metrics")]
    metrics::counter!(names::CONNECTIONS).increment(1);
}

/// A queue's name without the prefix of its keys.
#[cfg(feature = "metrics")]
fn label(queue: &str) -> String {
    queue.rsplit(':').next().unwrap_or(queue).to_owned()
}

/// Notes the size of a batch that is not empty.
#[cfg(feature = "metrics")]
fn batch(name: &'static str, queue: &str, jobs: usize) {
    if jobs > 0 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "batches have hundreds of jobs at most"
        )]
        metrics::histogram!(name, "queue" => label(queue)).record(jobs as f64);
    }
}
