//! Deliveries as jobs.

use std::time::Duration;

use futures::StreamExt as _;
use metrics::counter;
use oxbull::{Backoff, Context, Job, JobError, JobOptions, JobResult, Outcome, Retention};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::ledger::{CALLS, Handled, Ledger, Places};
use super::share::by_account;
use super::{ProcessedDelivery, Share, WebhookDelivery, WebhookEvent, shares};
use crate::jobs::redis_failure::redis_failure;

/// Jobs handled at a time unless configured otherwise.
pub const CONCURRENCY: usize = 5;

/// How often a delivery may stall. Handling it again is harmless, so the limit only stops a delivery
/// that crashes its workers.
pub const STALLS: u32 = 10;

/// Counts parts of deliveries that no decoder takes.
const UNREADABLE: &str = "webhook_unreadable_parts_total";

/// The waits between checks of a job whose turn has not come: the one before it is most likely
/// running at the same time.
const TURN_CHECKS: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(4),
    Duration::from_millis(8),
    Duration::from_millis(16),
    Duration::from_millis(32),
];

/// The delay after that: the first and the longest.
const DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The options of these jobs: 5 attempts, starting 1 s apart, since all a job needs is Redis.
/// The newest 10,000 are kept, done ones for an hour and failed ones for a week.
pub fn options() -> JobOptions {
    let keep = |age| Retention::bounded().count(10_000).age(age);
    JobOptions::new()
        .attempts(5)
        .backoff(Backoff::exponential(Duration::from_secs(1)))
        .remove_on_complete(keep(Duration::from_secs(3600)))
        .remove_on_fail(keep(Duration::from_secs(7 * 24 * 3600)))
}

/// Handles the events of one delivery that were not seen before, in their conversations' order.
///
/// # Errors
/// The failed attempt, or an outage of Redis, which uses none. What is no delivery fails at once.
pub async fn handle(
    job: Job<Box<RawValue>>,
    context: Context<Ledger>,
) -> JobResult<ProcessedDelivery> {
    let delivery = WebhookDelivery::parse(job.data().get());
    let delivery = delivery.map_err(|problem| {
        // Nothing of it could be handled, and another attempt would read the same.
        JobError::fatal(format!("no delivery of webhooks: {problem}"))
    })?;
    let (shares, found) = shares(&delivery);
    let events = futures::stream::iter(by_account(shares))
        .map(|shares| handle_account(&job, delivery.user(), shares, context.state()))
        .buffered(CALLS)
        .collect::<Vec<_>>()
        .await;
    let events: Option<Vec<_>> = events.into_iter().collect::<Result<_, _>>()?;
    // What could be handled has been: only the conversations of the others go on waiting.
    let Some(events) = events else {
        return Ok(Outcome::DelayFor(turn_delay(&job)));
    };
    if delivery.unreadable > 0 {
        let parts = delivery.unreadable;
        counter!(UNREADABLE).increment(parts as u64);
        tracing::warn!(job = %job.id(), parts, "parts of a delivery were kept as text: no decoder takes them");
    }
    let events: Vec<_> = events.into_iter().flatten().collect();
    Ok(Outcome::Done(ProcessedDelivery {
        repeated: found - events.len(),
        events,
    }))
}

/// Returns the events of an account's shares that are this job's, or `None` when it is not the turn
/// of one of them.
async fn handle_account(
    job: &Job<Box<RawValue>>,
    user: Option<&str>,
    shares: Vec<Share>,
    ledger: &Ledger,
) -> Result<Option<Vec<WebhookEvent>>, JobError> {
    let mut events = Vec::new();
    for share in shares {
        match handle_share(job, user, share, ledger).await? {
            Some(ours) => events.extend(ours),
            None => return Ok(None),
        }
    }
    Ok(Some(events))
}

/// Returns the events that are this job's, or `None` when it is not its turn.
async fn handle_share(
    job: &Job<Box<RawValue>>,
    user: Option<&str>,
    share: Share,
    ledger: &Ledger,
) -> Result<Option<Vec<WebhookEvent>>, JobError> {
    // The time makes the owner unique even where ids start over.
    let owner = format!("{}@{}", job.id(), job.timestamp());
    let mut looks = TURN_CHECKS.iter();
    loop {
        let places = Places::of(job, &share, ledger.time());
        let handled = ledger.handle(job.id(), &owner, user, places, &share).await;
        let first = match handled.map_err(|error| redis_failure(error))? {
            Handled::Done(ours) => {
                let events = share.events.into_iter().zip(ours);
                let ours = events.filter_map(|(event, ours)| ours.then_some(event));
                return Ok(Some(ours.collect()));
            }
            Handled::Behind(first) => Some(first),
            Handled::Unplaced => None,
        };
        if let Some(pause) = looks.next() {
            sleep(*pause).await;
            continue;
        }
        let Some(first) = first else {
            return Ok(None);
        };
        let passed = ledger.pass_over(&share.account, &first).await;
        if !passed.map_err(|error| redis_failure(error))? {
            return Ok(None);
        }
    }
}

/// Twice as long each time, so that a long wait costs little.
fn turn_delay(job: &Job<Box<RawValue>>) -> Duration {
    let (shortest, longest) = DELAYS;
    let before = job.attempts_started().saturating_sub(1).min(8);
    (shortest * 2_u32.pow(before)).min(longest)
}
