//! Adding one job: what may be given, and what became of it.

use serde::Serialize;
use tracing::Span;

use super::{Queue, encode};
use crate::error::Result;
use crate::job::{Added, JobId, JobOptions};
use crate::store::NewRecord;
use crate::telemetry;

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

    /// Adds a job in one atomic step.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) or [`Error::Encode`](crate::Error::Encode) before anything is sent; [`Error::Refused`](crate::Error::Refused) when
    /// the parent does not exist, cannot be replaced, or waits for this job
    /// ([`WaitsForItself`](crate::Refusal::WaitsForItself)); [`Error::Overloaded`](crate::Error::Overloaded),
    /// [`Error::Unreachable`](crate::Error::Unreachable) and the like when nothing changed. [`Error::Indeterminate`](crate::Error::Indeterminate) when
    /// the answer was lost: the job may have been added. The add of a job with an
    /// [id](JobOptions::id) is repeated until its outcome is known, which almost always succeeds; see
    /// [`add_once`](Self::add_once).
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
        let name = name.into();
        let span = telemetry::add(self.name().as_str(), &name);
        let added = match self.prepare(name, data, options, &span) {
            Ok(job) => self.batcher.add(job).await,
            Err(error) => Err(error),
        };
        telemetry::added(&span, &added);
        added
    }

    /// Adds a job exactly once, even if the connection fails: it gets a unique id here, unless the
    /// options have one, and after a lost answer the add is repeated. The outcome of the first try is
    /// recognised by the stored job, or by the queue's events if the job was
    /// [deduplicated](JobOptions::deduplication) or has ended and been removed by then.
    ///
    /// The event stream keeps [a limited number](super::QueueBuilder::max_events) of entries. A job that
    /// ends, is removed and is followed by that many events before the add is repeated is added again.
    ///
    /// # Errors
    ///
    /// As [`add_with`](Self::add_with); [`Error::Indeterminate`](crate::Error::Indeterminate) only when Redis does not come
    /// back within half a minute, refuses to answer, or the client is closed meanwhile.
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

    /// Checks and encodes a job, which carries the trace context of `span`.
    pub(super) fn prepare(
        &self,
        name: String,
        data: &D,
        options: JobOptions,
        span: &Span,
    ) -> Result<NewRecord>
    where
        D: Serialize,
    {
        let mut options = options.or(self.default_options());
        options.check()?;
        if let Some(parent) = &options.parent {
            self.store().check_neighbour("parent", &parent.queue)?;
        }
        telemetry::carry(span, &mut options);
        let data = Self::encode_data(&name, data, &options)?;
        Ok(NewRecord::new(
            name,
            data,
            options,
            self.store().clock().now(),
        ))
    }

    /// Encodes the data of the job `name`, within the size that its options allow.
    pub(crate) fn encode_data(name: &str, data: &D, options: &JobOptions) -> Result<String>
    where
        D: Serialize,
    {
        let data = encode("job data", data)?;
        options.check_size(name, data.len())?;
        Ok(data)
    }
}
