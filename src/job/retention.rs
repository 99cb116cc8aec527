//! How long ended jobs are kept.

use std::time::Duration;

/// What happens to a job once it has ended (`docs/protocol.md#retention`).
/// BullMQ's `true` is [`Remove`](Self::Remove), `false` [`KeepAll`](Self::KeepAll), a number
/// [`KeepLast`](Self::KeepLast).
///
/// # Examples
///
/// ```
/// use oxbull::{JobOptions, Retention};
/// use std::time::Duration;
///
/// let day = Retention::Bounded {
///     age: Some(Duration::from_secs(24 * 3600)),
///     count: Some(1000),
///     limit: None,
/// };
/// let options = JobOptions::new().remove_on_complete(day).remove_on_fail(Retention::KeepLast(5000));
/// # drop(options);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// Keeps every job.
    KeepAll,
    /// Deletes the job at once.
    Remove,
    /// Keeps the newest jobs of the set, this many.
    KeepLast(u64),
    /// Keeps jobs within bounds; an absent bound does not apply.
    Bounded {
        /// How many of the newest jobs to keep.
        count: Option<u64>,
        /// How long to keep a job; whole seconds.
        age: Option<Duration>,
        /// How many jobs one job's end may delete by age. Default: 1,000.
        limit: Option<u64>,
    },
}
