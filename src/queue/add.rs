//! Adding one job: what may be given, and what became of it.

use serde::Serialize;

use super::{Queue, encode};
use crate::error::{Error, Result};
use crate::job::{JobId, JobOptions};
use crate::policy::Placement;
use crate::store::{EnqueueCode, Enqueued, NewRecord};
use crate::wire;

/// What an add did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Added {
    /// The id of the job that is in the queue now: the one given, the one that exists already, or
    /// the owner of the deduplication id.
    pub id: JobId,
    /// Whether that job is the one given.
    pub outcome: AddOutcome,
}

/// Whether an add stored its job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum AddOutcome {
    /// The job was stored and queued.
    Added,
    /// A job of that id existed; nothing about it was changed, but it joined the parent that
    /// the add named (`docs/protocol.md#existing-ids`).
    Duplicate,
    /// Nothing was stored: [`Added::id`] owns the deduplication id
    /// (`docs/protocol.md#deduplication`). With a time limit the owner may have ended.
    Deduplicated,
    /// The job was stored and queued; a delayed job of the same deduplication id was deleted.
    Replaced {
        /// The deleted job.
        job: JobId,
    },
    /// [`Added::id`] is active and owns the deduplication id. When it ends the job is stored and
    /// queued, unless a later add takes its place.
    KeptLast {
        /// The id the job will have, unless another job has taken it by then.
        next: JobId,
    },
}

/// A job for [`Queue::add_bulk`].
#[derive(Debug, Clone)]
pub struct NewJob<D> {
    name: String,
    data: D,
    options: JobOptions,
}

impl<D> NewJob<D> {
    /// Names a job and its data.
    pub fn new(name: impl Into<String>, data: D) -> Self {
        Self {
            name: name.into(),
            data,
            options: JobOptions::new(),
        }
    }

    /// Sets the job's options.
    #[must_use]
    pub fn options(mut self, options: JobOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the job's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the job's data.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Returns the job's name, data and options.
    pub(crate) fn into_parts(self) -> (String, D, JobOptions) {
        (self.name, self.data, self.options)
    }
}

impl<D> Queue<D> {
    /// Adds a job with the queue's default options.
    ///
    /// # Errors
    ///
    /// As [`add_with`](Self::add_with).
    pub async fn add(&self, name: impl Into<String>, data: &D) -> Result<Added>
    where
        D: Serialize,
    {
        self.add_with(name, data, JobOptions::new()).await
    }

    /// Adds a job, in one atomic step: it is wholly there or not at all.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] or [`Error::Encode`] before anything is sent; [`Error::Refused`] when
    /// the parent does not exist or cannot be replaced; [`Error::Overloaded`],
    /// [`Error::Unreachable`] and the like when nothing changed. [`Error::Indeterminate`] when
    /// the answer was lost: the job may be there. A job with an [id](JobOptions::id) of its own
    /// is then asked for again by itself, so that the answer is almost always known; use
    /// [`add_once`](Self::add_once) for that.
    ///
    /// # Cancel safety
    ///
    /// The job may be added although the call was dropped.
    pub async fn add_with(
        &self,
        name: impl Into<String>,
        data: &D,
        options: JobOptions,
    ) -> Result<Added>
    where
        D: Serialize,
    {
        let job = self.prepare(name.into(), data, options)?;
        self.batcher.add(job).await?.try_into()
    }

    /// Adds a job that is not added twice, whatever happens to the connection: it gets a unique id
    /// here, unless the options have one, and a lost answer is settled by asking again. What the
    /// first asking did is told by the job, or by the queue's events where the job was
    /// [deduplicated](JobOptions::deduplication), or has ended and is removed by then. Events are
    /// kept [up to a number](super::QueueBuilder::max_events), and all that are there are read: a job
    /// that ends, is removed, and has that many events behind it before the answer is missed is
    /// added again.
    ///
    /// # Errors
    ///
    /// As [`add_with`](Self::add_with); [`Error::Indeterminate`] only when Redis does not come
    /// back within half a minute, refuses to tell, or the client is closed meanwhile.
    pub async fn add_once(
        &self,
        name: impl Into<String>,
        data: &D,
        options: JobOptions,
    ) -> Result<Added>
    where
        D: Serialize,
    {
        let options = match &options.id {
            Some(_) => options,
            None => options.id(JobId::unique()),
        };
        self.add_with(name, data, options).await
    }

    /// Checks and encodes a job.
    pub(super) fn prepare(&self, name: String, data: &D, options: JobOptions) -> Result<NewRecord>
    where
        D: Serialize,
    {
        let options = options.or(self.defaults());
        options.check()?;
        let data = Self::encode_data(&name, data, &options)?;
        Ok(NewRecord {
            // Every client takes the time 0 for none.
            timestamp: options
                .timestamp
                .filter(|timestamp| timestamp.as_millis() != 0)
                .unwrap_or_else(|| self.store().clock().now()),
            delay: options.delay.map_or(0, |delay| {
                u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
            }),
            priority: options.priority.unwrap_or(0),
            placement: Placement::of(&options),
            parent: options
                .parent
                .as_ref()
                .map(|parent| (parent.key(), wire::parent_link(parent))),
            options: wire::encode_options(&options),
            deduplication: options.deduplication,
            id: options.id,
            name,
            data,
        })
    }

    /// Encodes the data of the job `name`, within the size that its options allow.
    pub(crate) fn encode_data(name: &str, data: &D, options: &JobOptions) -> Result<String>
    where
        D: Serialize,
    {
        let data = encode("job data", data)?;
        if let Some(limit) = options.size_limit.filter(|limit| *limit > 0)
            && data.len() > limit
        {
            return Err(Error::invalid(
                "job data",
                format!(
                    "of job {name} has {} bytes, more than the limit of {limit}",
                    data.len()
                ),
            ));
        }
        Ok(data)
    }
}

impl TryFrom<Enqueued> for Added {
    type Error = Error;

    fn try_from(Enqueued { code, id }: Enqueued) -> Result<Self> {
        let outcome = match code {
            EnqueueCode::Added => AddOutcome::Added,
            EnqueueCode::Duplicate => AddOutcome::Duplicate,
            EnqueueCode::Deduplicated => AddOutcome::Deduplicated,
            EnqueueCode::Replaced(job) => AddOutcome::Replaced { job },
            EnqueueCode::KeptLast(next) => AddOutcome::KeptLast { next },
            EnqueueCode::Refused(source) => return Err(Error::Refused { job: id, source }),
        };
        Ok(Self { id, outcome })
    }
}
