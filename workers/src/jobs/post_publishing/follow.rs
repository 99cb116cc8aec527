//! Failures that the handler never sees.

use oxbull::{Clock, JobId, Queue, WorkerEvent, WorkerEvents};
use serde_json::Value;

use super::NoticeCode;
use super::handler::Failed;
use crate::notify::Notifier;

/// Tells users of posts that failed for good without their handler: the job stalled too often, its
/// options do not decode, the handler panicked. Ends with the worker.
///
/// What the handler fails it tells by itself, in a way that survives crashes; this shares its
/// claim, so nobody is told twice. A process that dies right after such a failure tells nobody:
/// the job's failure reason remains.
pub async fn watch_failures(
    mut events: WorkerEvents,
    queue: Queue<Value>,
    notifier: Notifier,
    clock: Clock,
) {
    while let Some(event) = events.next().await {
        match event {
            WorkerEvent::Failed {
                id,
                reason,
                retries: false,
                ..
            } => tell(&id, &reason, &queue, &notifier, clock.now().as_millis()).await,
            WorkerEvent::Closed => return,
            _ => {}
        }
    }
}

async fn tell(id: &JobId, reason: &str, queue: &Queue<Value>, notifier: &Notifier, at: i64) {
    let job = match queue.job(id).await {
        Ok(Some(job)) => job,
        Ok(None) => return tracing::warn!(%id, "failed and removed; its user is unknown"),
        Err(error) => return tracing::warn!(%id, %error, "failed; its user could not be read"),
    };
    let data = serde_json::from_str(&job.raw_data).unwrap_or_default();
    let failed = Failed {
        mark: &format!("{id}@{}", job.timestamp),
        data: &data,
        code: NoticeCode::Unavailable,
        reason,
        at,
    };
    if let Err(error) = failed.tell(notifier).await {
        tracing::warn!(%id, %error, "failed, and its user could not be told");
    }
}
