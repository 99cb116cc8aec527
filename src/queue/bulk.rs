//! Adding many jobs, and what became of each.

use std::collections::VecDeque;

use serde::Serialize;

use super::{NewJob, Queue, batcher};
use crate::error::{Chain, Error, Result};
use crate::job::Added;
use crate::store::{NewRecord, cut};
use crate::telemetry;

/// What became of each job of a [bulk add](Queue::add_bulk), in the order given.
///
/// [`into_result`](Self::into_result) treats the add as a whole. To handle jobs one by one, iterate over
/// it, or look at its [`results`](Self::results) or [`failures`](Self::failures).
///
/// # Examples
///
/// ```no_run
/// # async fn run(queue: oxbull::Queue<u32>) -> oxbull::Result<()> {
/// use oxbull::NewJob;
///
/// let jobs = (0..1000).map(|n| NewJob::new("resize", n));
/// let added = queue.add_bulk(jobs).await?.into_result()?;
/// println!("{} jobs were added", added.len());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "jobs of the bulk add may have failed"]
pub struct BulkAdded(Vec<Result<Added>>);

impl BulkAdded {
    /// How many jobs were given.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no job was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the result of each job.
    pub fn results(&self) -> &[Result<Added>] {
        &self.0
    }

    /// Returns the jobs that failed: their place in the order given, from 0, and why.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &Error)> {
        let results = self.0.iter().enumerate();
        results.filter_map(|(place, result)| result.as_ref().err().map(|error| (place, error)))
    }

    /// Returns what was added if no job failed.
    ///
    /// # Errors
    ///
    /// The error of the first job that failed, in an [`Error::Incomplete`] when others were added.
    pub fn into_result(self) -> Result<Vec<Added>> {
        let given = self.0.len();
        let failed = self.failures().count();
        let added: Result<Vec<_>> = self.0.into_iter().collect();
        added.map_err(|error| match given - failed {
            0 => error,
            added => error.after(|| format!("{added} of {given} jobs were added")),
        })
    }
}

impl IntoIterator for BulkAdded {
    type Item = Result<Added>;
    type IntoIter = std::vec::IntoIter<Result<Added>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<D> Queue<D> {
    /// Adds many jobs, in the order given, in as few calls as their size allows. Each job is
    /// added or refused independently.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::Encode`] for the first job that breaks a rule: then
    /// nothing was sent. All other errors are in the [`BulkAdded`], by job.
    ///
    /// # Cancel safety
    ///
    /// Any number of the jobs may be added although the call was dropped.
    pub async fn add_bulk(&self, jobs: impl IntoIterator<Item = NewJob<D>>) -> Result<BulkAdded>
    where
        D: Serialize,
    {
        let jobs: Vec<_> = jobs.into_iter().collect();
        let span = telemetry::add_bulk(self.name().as_str(), jobs.iter().map(NewJob::name));
        let prepared = jobs.into_iter().map(|job| {
            let (name, data, options) = job.into_parts();
            self.prepare(name, &data, options, &span)
        });
        let mut waiting = match prepared.collect::<Result<VecDeque<_>>>() {
            Ok(waiting) => waiting,
            Err(error) => {
                telemetry::failed(&span, &Chain(&error));
                return Err(error);
            }
        };
        let mut results = Vec::with_capacity(waiting.len());
        // One call after the other: a call that is repeated, after a lost script or connection,
        // would otherwise come behind the next one, and its jobs behind those given later.
        while !waiting.is_empty() {
            let batch = cut(&mut waiting, NewRecord::size);
            results.extend(batcher::enqueue(self.store(), batch).await);
        }
        let added = BulkAdded(results);
        if let Some((_, error)) = added.failures().next() {
            telemetry::failed(&span, &Chain(error));
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{AddOutcome, JobId};

    fn added(id: &str) -> Added {
        Added {
            id: JobId::existing(id),
            outcome: AddOutcome::Added,
        }
    }

    /// A caller who propagates the error must learn that some jobs are there all the same.
    #[test]
    fn one_failure_fails_the_whole_and_says_what_was_added() {
        let bulk = BulkAdded(vec![Ok(added("a")), Err(Error::Closed), Ok(added("b"))]);
        let places: Vec<_> = bulk.failures().map(|(place, _)| place).collect();
        assert_eq!((bulk.len(), places), (3, vec![1]));
        let error = bulk.into_result().unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
        let text = format!("{error:?}");
        assert!(text.contains("2 of 3 jobs were added"), "{text}");

        let none = BulkAdded(vec![Err(Error::Closed)]);
        assert!(matches!(none.into_result(), Err(Error::Closed)));
        let all = BulkAdded(vec![Ok(added("a")), Ok(added("b"))]).into_result();
        assert_eq!(all.unwrap().len(), 2);
    }
}
