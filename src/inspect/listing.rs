//! Jobs by their states, a page at a time.

use std::collections::HashSet;
use std::ops::RangeBounds;

use serde::Serialize;

use super::range::Indexes;
use crate::error::Result;
use crate::job::{JobId, JobRecord, JobState};
use crate::queue::Queue;
use crate::store::{Found, Place, Window, is_signal};

/// In which order the jobs of a state are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum JobOrder {
    /// The next to run first; of delayed jobs the earliest due, of active ones the earliest started,
    /// of ended ones the earliest ended, of those that wait for children the earliest added.
    #[default]
    Ascending,
    /// The other way round: newest first.
    Descending,
}

/// A job with the state that it was found in. In JSON it is the job with a member `state`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ListedJob {
    /// Where the job was when its id was read; it may have moved since.
    pub state: JobState,
    /// The job. What cannot be read is named in its [`problems`](JobRecord::problems).
    #[serde(flatten)]
    pub job: JobRecord,
}

/// A page of jobs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobPage {
    /// The jobs, state by state.
    pub jobs: Vec<ListedJob>,
    /// Dangling ids in the range: their jobs are gone, so that the page has fewer jobs than asked for.
    pub missing: Vec<JobId>,
    /// How many jobs there are in these states.
    pub total: u64,
}

/// Ids with their states, and how many there are in all.
struct Listed {
    ids: Vec<(JobState, JobId)>,
    total: u64,
}

/// Lists of jobs.
impl<D> Queue<D> {
    /// Reads the jobs of one or more states, state by state as they are named, each in `order`.
    ///
    /// The range holds for each state: `0..20` are its first twenty jobs, `..` all of them, and
    /// indexes below zero count from the end (`-5..`: the last five). A job is listed once. Where
    /// BullMQ 5 has paused the queue, the jobs it parked are among the waiting ones, where a resume puts
    /// them: in front.
    ///
    /// Up to 1,000 ids are read at one moment, more in steps, and the jobs after them: a page shows
    /// what is there while it is read. To go through very many jobs, use [`all_jobs`](Self::all_jobs),
    /// which does not hold them all and passes over none that stays.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a range that ends before it begins; connection
    /// errors. A job that does not decode is listed with its problems.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobState;
    /// use oxbull::inspect::JobOrder;
    ///
    /// let page = queue.jobs([JobState::Failed], 0..20, JobOrder::Descending).await?;
    /// for listed in &page.jobs {
    ///     println!("{}: {:?}", listed.job.id, listed.job.failed_reason);
    /// }
    /// println!("{} of {}", page.jobs.len(), page.total);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getJobs")]
    pub async fn jobs(
        &self,
        states: impl IntoIterator<Item = JobState>,
        range: impl RangeBounds<i64>,
        order: JobOrder,
    ) -> Result<JobPage> {
        let indexes = Indexes::of(&range)?;
        let listed = self.listed(states.into_iter().collect(), indexes, order);
        let Listed { ids, total } = listed.await?;
        let (states, ids): (Vec<_>, Vec<_>) = ids.into_iter().unzip();
        let found = self.store().records(&ids).await?;
        let mut page = JobPage {
            total,
            ..JobPage::default()
        };
        for ((state, id), found) in states.into_iter().zip(ids).zip(found) {
            match found {
                Found::Job(job) | Found::Unreadable(job) => {
                    page.jobs.push(ListedJob { state, job: *job });
                }
                Found::Missing => page.missing.push(id),
            }
        }
        Ok(page)
    }

    /// Reads ids as [`jobs`](Self::jobs) reads jobs, dangling ones included.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for a range that ends before it begins; connection
    /// errors.
    #[doc(alias = "getRanges")]
    pub async fn job_ids(
        &self,
        states: impl IntoIterator<Item = JobState>,
        range: impl RangeBounds<i64>,
        order: JobOrder,
    ) -> Result<Vec<JobId>> {
        let indexes = Indexes::of(&range)?;
        let listed = self.listed(states.into_iter().collect(), indexes, order);
        Ok(listed.await?.ids.into_iter().map(|(_, id)| id).collect())
    }

    async fn listed(
        &self,
        states: Vec<JobState>,
        indexes: Indexes,
        order: JobOrder,
    ) -> Result<Listed> {
        let places = places(&states, order);
        let of_places: Vec<Place> = places.iter().map(|(_, place)| *place).collect();
        let sizes = self.store().sizes(&of_places).await?;
        let total = sizes.iter().map(|size| size.jobs).sum();
        let ascending = order == JobOrder::Ascending;
        let mut windows = Vec::new();
        let mut of_windows = Vec::new();
        for group in places
            .iter()
            .zip(&sizes)
            .collect::<Vec<_>>()
            .chunk_by(|a, b| a.0.0 == b.0.0)
        {
            let jobs = group.iter().map(|(_, size)| size.jobs).sum();
            let Some((first, last)) = indexes.within(jobs) else {
                continue;
            };
            // The places of a state are one sequence, less the signals at their tails.
            let mut before = 0;
            for ((state, place), size) in group {
                let end = before + size.jobs;
                let (from, to) = (first.max(before), last.min(end.saturating_sub(1)));
                if from <= to && size.jobs > 0 {
                    let skipped = u64::from(ascending && size.signal);
                    windows.push(Window {
                        place: *place,
                        from: from - before + skipped,
                        to: to - before + skipped,
                        ascending,
                    });
                    of_windows.push(*state);
                }
                before = end;
            }
        }
        let found = self.store().ids(&windows).await?;
        let mut seen = HashSet::new();
        let ids = of_windows
            .into_iter()
            .zip(found)
            .flat_map(|(state, ids)| ids.into_iter().map(move |id| (state, id)))
            .filter(|(_, id)| !is_signal(id.as_bytes()) && seen.insert(id.clone()))
            .collect();
        Ok(Listed { ids, total })
    }
}

/// The places of states in the order of reading, each state once.
pub(super) fn places(states: &[JobState], order: JobOrder) -> Vec<(JobState, Place)> {
    let mut seen = HashSet::new();
    let mut places = Vec::new();
    for state in states {
        if !seen.insert(*state) {
            continue;
        }
        let of_state = Place::of(*state).iter().map(|place| (*state, *place));
        match order {
            JobOrder::Ascending => places.extend(of_state),
            JobOrder::Descending => places.extend(of_state.rev()),
        }
    }
    places
}
