//! Where a publication's progress is kept, and which of a job's containers may be published.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use oxbull::client::Client;
use oxbull::kv::Claim;
use oxbull::{BoxError, Job};
use serde_json::Value;

use super::Publication;
use crate::graph::{ContainerId, MediaId};

/// How long a claim lasts after it was made: a container expires after 24 hours, so a worker that may
/// still know of another one cannot publish it by then.
const CLAIM_TTL: Duration = Duration::from_secs(72 * 3600);

/// What a publication remembers outside of the process.
pub trait ProgressStore {
    /// Keeps the progress, replacing what was kept, so that the next run finds it.
    fn keep(&self, progress: &Publication) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Claims that `container` is the one that the job may publish, and returns the one that is:
    /// another, when some other run of the job was first.
    fn claim(
        &self,
        container: &ContainerId,
    ) -> impl Future<Output = Result<ContainerId, BoxError>> + Send;

    /// Gives up the claim of a container that can never be published any more.
    fn release(&self, container: &ContainerId)
    -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Claims a post of the account as the one that the job has published; returns whether it is not
    /// another job's.
    fn claim_media(&self, media: &MediaId) -> impl Future<Output = Result<bool, BoxError>> + Send;

    /// Returns whether another job has published this post of the account; claims nothing.
    fn is_anothers(&self, media: &MediaId) -> impl Future<Output = Result<bool, BoxError>> + Send;
}

/// Keeps the progress in the job's own data, and the claim in a key beside the queue.
///
/// Data alone does not do: a worker that was frozen beyond its lock wakes with a container of its
/// own in hand while another worker publishes a different one. The claim is one atomic step, so
/// only one of the two can pass.
#[derive(Debug)]
pub struct JobProgressStore<'a> {
    job: &'a Job<Value>,
    client: &'a Client,
    kept: Mutex<Publication>,
}

impl<'a> JobProgressStore<'a> {
    /// A store in this job's data; `progress` is what it has now.
    pub fn new(job: &'a Job<Value>, client: &'a Client, progress: Publication) -> Self {
        Self {
            job,
            client,
            kept: Mutex::new(progress),
        }
    }

    /// The progress as it was kept last.
    pub fn kept(&self) -> Publication {
        self.kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn key(&self) -> String {
        format!("publish:container:{}", job_mark(self.job))
    }

    async fn claim_key(&self, key: &str, owner: &str) -> oxbull::Result<Claim> {
        self.client.kv().claim(key, owner, CLAIM_TTL).await
    }
}

fn media_key(media: &MediaId) -> String {
    format!("publish:media:{media}")
}

/// Names a job for good. The time makes it unique even where ids start over.
pub(super) fn job_mark(job: &Job<Value>) -> String {
    format!("{}@{}", job.id(), job.timestamp())
}

impl ProgressStore for JobProgressStore<'_> {
    /// The rest of the data is written back as the backend wrote it.
    async fn keep(&self, progress: &Publication) -> Result<(), BoxError> {
        let mut data = self.job.data().clone();
        if let Value::Object(fields) = &mut data {
            fields.insert("publication".to_owned(), serde_json::to_value(progress)?);
        }
        self.job.update_data(&data).await?;
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = progress.clone();
        Ok(())
    }

    async fn claim(&self, container: &ContainerId) -> Result<ContainerId, BoxError> {
        match self.claim_key(&self.key(), container.as_str()).await? {
            Claim::HeldBy { owner, .. } => Ok(ContainerId::new(owner)?),
            _ => Ok(container.clone()),
        }
    }

    async fn release(&self, container: &ContainerId) -> Result<(), BoxError> {
        let kv = self.client.kv();
        kv.release_claim(&self.key(), container.as_str()).await?;
        Ok(())
    }

    async fn claim_media(&self, media: &MediaId) -> Result<bool, BoxError> {
        let (key, mark) = (media_key(media), job_mark(self.job));
        Ok(self.claim_key(&key, &mark).await?.is_held())
    }

    async fn is_anothers(&self, media: &MediaId) -> Result<bool, BoxError> {
        let holder = self.client.kv().get_text(&media_key(media)).await?;
        Ok(holder.is_some_and(|holder| holder != job_mark(self.job)))
    }
}
