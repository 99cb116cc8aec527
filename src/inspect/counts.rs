//! How many jobs there are.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::{JobState, check_priority};
use crate::queue::Queue;
use crate::store::Counts;
#[cfg(feature = "opentelemetry")]
use crate::telemetry;

/// How many priorities are counted at once.
const PRIORITIES_MAX: usize = 1_000;

/// The states in the order in which BullMQ writes their counts.
pub(super) const STATES: [JobState; 7] = [
    JobState::Active,
    JobState::Completed,
    JobState::Delayed,
    JobState::Failed,
    JobState::Prioritized,
    JobState::Waiting,
    JobState::WaitingChildren,
];

/// How many jobs are in each state, at one moment. In JSON they have the names of the states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct JobCounts {
    /// Ready to run, those parked by a BullMQ 5 client during a pause included.
    pub waiting: u64,
    /// Ready to run after those, by priority.
    pub prioritized: u64,
    /// Waiting for a time.
    pub delayed: u64,
    /// Being run.
    pub active: u64,
    /// Waiting for children.
    pub waiting_children: u64,
    /// Completed and kept.
    pub completed: u64,
    /// Failed and kept.
    pub failed: u64,
}

impl JobCounts {
    /// Returns the count of one state.
    pub fn of(&self, state: JobState) -> u64 {
        match state {
            JobState::Waiting => self.waiting,
            JobState::Prioritized => self.prioritized,
            JobState::Delayed => self.delayed,
            JobState::Active => self.active,
            JobState::WaitingChildren => self.waiting_children,
            JobState::Completed => self.completed,
            JobState::Failed => self.failed,
        }
    }

    /// Returns how many jobs are in any of these states; naming one twice changes nothing.
    pub fn of_all(&self, states: impl IntoIterator<Item = JobState>) -> u64 {
        let states: BTreeSet<JobState> = states.into_iter().collect();
        states.into_iter().map(|state| self.of(state)).sum()
    }

    /// Returns how many jobs have not started yet: those that are waiting, prioritized, delayed, and
    /// waiting for children.
    pub fn pending(&self) -> u64 {
        self.waiting + self.prioritized + self.delayed + self.waiting_children
    }
}

impl From<Counts> for JobCounts {
    fn from(counts: Counts) -> Self {
        Self {
            waiting: counts.waiting + counts.parked,
            prioritized: counts.prioritized,
            delayed: counts.delayed,
            active: counts.active,
            waiting_children: counts.waiting_children,
            completed: counts.completed,
            failed: counts.failed,
        }
    }
}

impl<D> Queue<D> {
    /// Counts the jobs of each state at one moment.
    ///
    /// # Errors
    ///
    /// Connection errors.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue) -> oxbull::Result<()> {
    /// use oxbull::JobState;
    ///
    /// let counts = queue.counts().await?;
    /// let ended = counts.of_all([JobState::Completed, JobState::Failed]);
    /// println!("{} to do, {ended} ended", counts.pending());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getJobCounts")]
    #[doc(alias = "getJobCountByTypes")]
    pub async fn counts(&self) -> Result<JobCounts> {
        self.store().counts().await.map(JobCounts::from)
    }

    /// Counts the jobs of each state at one moment, and records the numbers as the gauge `bullmq.queue.jobs` of the
    /// process's meter provider, as BullMQ does. To be called as often as the gauge is to be fresh.
    ///
    /// # Errors
    ///
    /// Connection errors; nothing is recorded then.
    #[cfg(feature = "opentelemetry")]
    #[doc(alias = "recordJobCountsMetric")]
    pub async fn record_counts(&self) -> Result<JobCounts> {
        let counts = self.counts().await?;
        let states = STATES.map(|state| (state.as_str(), counts.of(state)));
        telemetry::record_counts(self.name().as_str(), states);
        Ok(counts)
    }

    /// Counts the jobs that are ready to run with each of these priorities, at one moment. 0 is none:
    /// the waiting jobs.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a priority above 2,097,151, and for more than 1,000 of them;
    /// connection errors.
    #[doc(alias = "getCountsPerPriority")]
    pub async fn counts_by_priority(
        &self,
        priorities: impl IntoIterator<Item = u32>,
    ) -> Result<BTreeMap<u32, u64>> {
        let priorities: BTreeSet<u32> = priorities.into_iter().collect();
        if priorities.len() > PRIORITIES_MAX {
            let problem = format!("must not be more than {PRIORITIES_MAX}");
            return Err(Error::invalid("priorities", problem));
        }
        for priority in &priorities {
            check_priority(*priority)?;
        }
        let priorities: Vec<u32> = priorities.into_iter().collect();
        let counts = self.store().counts_by_priority(&priorities).await?;
        Ok(priorities.into_iter().zip(counts).collect())
    }

    /// Counts the delayed jobs that are due before `time`.
    ///
    /// # Errors
    ///
    /// Connection errors.
    #[doc(alias = "getDelayedCount")]
    pub async fn delayed_before(&self, time: Timestamp) -> Result<u64> {
        self.store().delayed_before(time).await
    }
}
