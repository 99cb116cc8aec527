//! Publishing as a job: progress lies in the job's data, waiting is a delay without an attempt.

use std::time::Duration;

use oxbull::{Backoff, BoxError, Context, Job, JobOptions, JobResult, Outcome};

use super::{Notebook, PostPublishing, Publication, PublishLimits, PublishedPost, Step, publish};
use crate::graph::{AccessTokens, GraphClient};
use crate::jobs::reaction::Reaction;

/// The options of these jobs: 3 attempts, 5 s and then 10 s apart.
pub fn options() -> JobOptions {
    JobOptions::new()
        .attempts(3)
        .backoff(Backoff::exponential(Duration::from_secs(5)))
}

/// What the handler works with.
#[derive(Debug)]
pub struct Publisher {
    /// The API.
    pub graph: GraphClient,
    /// The accounts' tokens.
    pub tokens: AccessTokens,
    /// How long a job steps aside while the API prepares its container.
    pub poll_interval: Duration,
    /// How often it does so.
    pub limits: PublishLimits,
}

/// Publishes one post.
///
/// # Errors
/// The failed attempt; permanent errors of the API fail the job for good.
pub async fn handle(
    job: Job<PostPublishing>,
    context: Context<Publisher>,
) -> JobResult<PublishedPost> {
    let publisher = context.state();
    let post = job.data();
    let token = match publisher.tokens.of(&post.account_id) {
        Ok(token) => token,
        Err(error) => return Reaction::Fail.settle(error),
    };
    let api = publisher.graph.account(&post.account_id, token);
    match publish(api, post, &JobData(&job), publisher.limits).await {
        Ok(Step::Published(published)) => Ok(Outcome::Done(published)),
        Ok(Step::Wait) => Ok(Outcome::DelayFor(publisher.poll_interval)),
        Err(error) => Reaction::from(error.failure()).settle(error),
    }
}

/// Keeps the progress in the data of the job itself.
struct JobData<'a>(&'a Job<PostPublishing>);

impl Notebook for JobData<'_> {
    async fn keep(&self, progress: Option<&Publication>) -> Result<(), BoxError> {
        let mut data = self.0.data().clone();
        data.publication = progress.cloned();
        Ok(self.0.update_data(&data).await?)
    }
}
