//! Deliveries as jobs.

use std::time::Duration;

use oxbull::{Backoff, Context, Job, JobError, JobOptions, JobResult, Outcome};

use super::{ProcessedDelivery, RedisClaims, WebhookDelivery, process};

/// Jobs handled at a time unless configured otherwise.
pub const CONCURRENCY: usize = 5;

/// The options of these jobs: 5 attempts, starting 1 s apart, since all a job needs is Redis.
pub fn options() -> JobOptions {
    JobOptions::new()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_secs(1)))
}

/// Splits one delivery into the events that were not seen before.
///
/// # Errors
/// The failed attempt, when Redis could not be asked.
pub async fn handle(
    job: Job<WebhookDelivery>,
    context: Context<RedisClaims>,
) -> JobResult<ProcessedDelivery> {
    // The time makes the owner unique even where ids start over.
    let owner = format!("{}@{}", job.id(), job.timestamp());
    match process(job.data(), &owner, context.state()).await {
        Ok(processed) => Ok(Outcome::Done(processed)),
        Err(error) => Err(JobError::retry(error)),
    }
}
