//! Finding jobs by what is stored of them.

mod condition;
mod filter;
mod stream;

use std::fmt;
use std::ops::{Bound, RangeBounds};

use super::listing::JobOrder;
use super::walk::Walk;
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobId, JobState};
use crate::queue::{Queue, named};

pub use super::walk::{Cursor, Progress};
pub use condition::DataCondition;
pub use stream::JobStream;

pub(super) use filter::Filter;

/// What a [search](Queue::search) looks for: jobs of the named states for which all of the criteria
/// hold. Default: all jobs.
///
/// # Examples
///
/// ```no_run
/// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
/// use oxbull::JobState;
/// use oxbull::inspect::Search;
///
/// let search = Search::new()
///     .states([JobState::Failed])
///     .name_prefix("publish.")
///     .failed_reason_contains("timeout")
///     .data(r#"$.account == "42""#.parse()?)
///     .ignore_case();
/// let mut found = queue.search(search)?;
/// while let Some(listed) = found.next().await {
///     let progress = found.progress();
///     println!("{} ({} of {})", listed?.job.id, progress.scanned, progress.total);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use]
pub struct Search {
    states: Vec<JobState>,
    order: JobOrder,
    filter: Filter,
    cursor: Option<Cursor>,
}

// What is looked for may be as secret as the data.
impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search")
            .field("states", &self.states)
            .field("order", &self.order)
            .finish_non_exhaustive()
    }
}

impl Default for Search {
    fn default() -> Self {
        Self {
            states: JobState::ALL.to_vec(),
            order: JobOrder::default(),
            filter: Filter::default(),
            cursor: None,
        }
    }
}

impl Search {
    /// Looks for all jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the states, which are searched in this order. Default: all of them.
    pub fn states(mut self, states: impl IntoIterator<Item = JobState>) -> Self {
        self.states = states.into_iter().collect();
        self
    }

    /// Sets the order within each state. Default: [`JobOrder::Ascending`].
    pub fn order(mut self, order: JobOrder) -> Self {
        self.order = order;
        self
    }

    /// Looks for the job of this id, which is read directly.
    pub fn id(mut self, id: impl Into<JobId>) -> Self {
        self.filter.id = Some(id.into());
        self
    }

    /// Looks for jobs of exactly this name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.filter.name = Some(name.into());
        self
    }

    /// Looks for jobs whose names begin so.
    pub fn name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.filter.name_prefix = Some(prefix.into());
        self
    }

    /// Looks for jobs whose last attempt failed with this in its reason.
    pub fn failed_reason_contains(mut self, text: impl Into<String>) -> Self {
        self.filter.failed_reason = Some(text.into());
        self
    }

    /// Adds a condition on the data. Jobs whose data is not JSON are no match, and
    /// [counted](Progress::unreadable).
    pub fn data(mut self, condition: DataCondition) -> Self {
        self.filter.data.push(condition);
        self
    }

    /// Looks for jobs that were added in this time, as their [`timestamp`](crate::JobRecord::timestamp)
    /// says.
    pub fn added(mut self, times: impl RangeBounds<Timestamp>) -> Self {
        self.filter.added = Some(bounds(&times, |time| time.as_millis()));
        self
    }

    /// Looks for jobs that were last started in this time.
    pub fn processed(mut self, times: impl RangeBounds<Timestamp>) -> Self {
        self.filter.processed = Some(bounds(&times, |time| time.as_millis()));
        self
    }

    /// Looks for jobs that ended in this time.
    pub fn finished(mut self, times: impl RangeBounds<Timestamp>) -> Self {
        self.filter.finished = Some(bounds(&times, |time| time.as_millis()));
        self
    }

    /// Looks for jobs of which so many attempts have ended.
    pub fn attempts_made(mut self, attempts: impl RangeBounds<u32>) -> Self {
        self.filter.attempts_made = Some(bounds(&attempts, |attempts| i64::from(*attempts)));
        self
    }

    /// Ignores the case of letters wherever something is to be contained.
    pub fn ignore_case(mut self) -> Self {
        self.filter.fold = true;
        self
    }

    /// Goes on where another search with the same states and order has come to. Of what that has given,
    /// this gives again what has moved since, its last step where not all of it had been taken, and the
    /// jobs of a list from whose middle all of the last eight that it read have left.
    pub fn resume(mut self, cursor: Cursor) -> Self {
        self.cursor = Some(cursor);
        self
    }
}

/// The first and the last number of a range.
fn bounds<T>(range: &impl RangeBounds<T>, number: impl Fn(&T) -> i64) -> (i64, i64) {
    let first = match range.start_bound() {
        Bound::Included(first) => number(first),
        Bound::Excluded(before) => number(before).saturating_add(1),
        Bound::Unbounded => i64::MIN,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => number(last),
        Bound::Excluded(end) => number(end).saturating_sub(1),
        Bound::Unbounded => i64::MAX,
    };
    (first, last)
}

/// Going through jobs.
impl<D> Queue<D> {
    /// Goes through all jobs of one or more states, state by state as they are named, each in `order`.
    /// It reads them in steps as they are asked for; to stop, drop the stream.
    ///
    /// Jobs come, move and leave meanwhile. A job that keeps its place in a state from the first to the
    /// last read is given, and no job is given twice. A job that moves is given once or not at all: at
    /// most in the state where it was found first. Dangling ids are [counted](JobStream::progress).
    ///
    /// # Errors
    ///
    /// Connection errors, as the last item; [`cursor`](JobStream::cursor) says where to go on. A job
    /// that does not decode is given with its problems.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobState;
    /// use oxbull::inspect::JobOrder;
    ///
    /// let mut jobs = queue.all_jobs([JobState::Completed], JobOrder::Ascending);
    /// while let Some(listed) = jobs.next().await {
    ///     println!("{}", serde_json::json!(listed?));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn all_jobs(
        &self,
        states: impl IntoIterator<Item = JobState>,
        order: JobOrder,
    ) -> JobStream {
        let states: Vec<JobState> = states.into_iter().collect();
        let store = self.store().clone();
        JobStream::new(Walk::new(store, Filter::default(), (&states, order)))
    }

    /// Searches jobs, as [`all_jobs`](Self::all_jobs) goes through them. Redis only reads: per step
    /// 500 ids and of each job the fields that the criteria need; what matches is read whole.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a time or number range that ends before it begins, for the id of a key of
    /// the queue, and for a cursor of another search. The stream as that of
    /// [`all_jobs`](Self::all_jobs).
    pub fn search(&self, search: Search) -> Result<JobStream> {
        let mut filter = search.filter;
        filter.check()?;
        filter.id = filter.id.map(named).transpose()?;
        let mut walk = Walk::new(self.store().clone(), filter, (&search.states, search.order));
        if let Some(cursor) = search.cursor {
            walk.resume(cursor)?;
        }
        Ok(JobStream::new(walk))
    }
}

impl Filter {
    /// Refuses what cannot match anything.
    fn check(&self) -> Result<()> {
        for (name, range) in [
            ("time added", self.added),
            ("time processed", self.processed),
            ("time finished", self.finished),
            ("attempts made", self.attempts_made),
        ] {
            if range.is_some_and(|(first, last)| last < first) {
                return Err(Error::invalid(name, "must not end before it begins"));
            }
        }
        Ok(())
    }
}
