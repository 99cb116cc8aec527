//! How an attempt can end without failing.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::job::JobError;

/// What a handler returns.
pub type JobResult<R> = Result<Outcome<R>, JobError>;

/// The ways an attempt can end without failing. None but [`Done`](Self::Done) uses up an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<R> {
    /// The job is complete; the value is stored as its result. While a child of the job is pending this
    /// is refused: the attempt has failed, and the value is dropped. Return
    /// [`WaitForChildren`](Self::WaitForChildren) first.
    Done(R),
    /// The job runs again after this time.
    DelayFor(Duration),
    /// The job runs again at this time.
    DelayUntil(Timestamp),
    /// The job goes back to be the next to run.
    Release,
    /// The job runs again once its pending children have ended; with none pending it goes back to be the
    /// next to run. If a child has failed by then that fails its parent
    /// ([`ChildPolicy::FailParent`](crate::ChildPolicy::FailParent)), the job fails instead.
    ///
    /// The handler runs from its beginning again, and finds in the job's data how far it was:
    ///
    /// ```
    /// use oxbull::{ChildPolicy, Context, Job, JobId, JobOptions, JobResult, Outcome, Queue};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Album {
    ///     photos: Vec<String>,
    ///     step: Step,
    /// }
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// enum Step {
    ///     Resize,
    ///     Publish,
    /// }
    ///
    /// async fn publish(job: Job<Album>, context: Context<Queue<String>>) -> JobResult<Vec<String>> {
    ///     match job.data().step {
    ///         Step::Resize => {
    ///             for (n, photo) in job.data().photos.iter().enumerate() {
    ///                 // An id of its own: if this attempt is repeated, no child is added twice.
    ///                 let options = JobOptions::new().id(JobId::new(format!("{}-{n}", job.id()))?);
    ///                 job.add_child(context.state(), ChildPolicy::FailParent, "resize", photo, options)
    ///                     .await?;
    ///             }
    ///             // Once the children are there: if this is lost, the next run adds none and goes on.
    ///             let next = Album { step: Step::Publish, ..job.data().clone() };
    ///             job.update_data(&next).await?;
    ///             Ok(Outcome::WaitForChildren)
    ///         }
    ///         Step::Publish => {
    ///             let urls = job.children_values::<String>().await?.into_map()?;
    ///             Ok(Outcome::Done(urls.into_values().collect()))
    ///         }
    ///     }
    /// }
    /// ```
    WaitForChildren,
    /// The job goes back to be the next to run, and the queue starts no job for this long.
    ///
    /// That holds for this worker, and for every worker that knows a rate limit, its own or the
    /// global one; another worker without a limit goes on, as in BullMQ, and may take the job. A
    /// limit that lasts longer already is not shortened, but a window of the queue's rate limit that is
    /// under way ends: once this wait is over, the limit counts from zero. Running jobs are not affected.
    RateLimited(Duration),
}

impl<R> Outcome<R> {
    /// Converts the value of [`Outcome::Done`].
    ///
    /// # Errors
    ///
    /// Whatever `convert` returns.
    pub fn try_map<T, E>(self, convert: impl FnOnce(R) -> Result<T, E>) -> Result<Outcome<T>, E> {
        Ok(match self {
            Self::Done(value) => Outcome::Done(convert(value)?),
            Self::DelayFor(wait) => Outcome::DelayFor(wait),
            Self::DelayUntil(at) => Outcome::DelayUntil(at),
            Self::Release => Outcome::Release,
            Self::WaitForChildren => Outcome::WaitForChildren,
            Self::RateLimited(wait) => Outcome::RateLimited(wait),
        })
    }
}
