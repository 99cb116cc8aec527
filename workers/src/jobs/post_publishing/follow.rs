//! Failures that the handler never sees.

use std::time::Duration;

use futures::StreamExt;
use oxbull::client::Client;
use oxbull::{
    Error, EventId, JobId, JobState, Queue, QueueEvent, QueueEvents, WorkerEvent, WorkerEvents,
};
use serde_json::Value;

use super::handler::Failed;
use super::progress::IN_DOUBT;
use super::{NoticeCode, Publication};
use crate::notify::Notifier;

/// How far back failures are looked for at the start. Who was told is remembered for longer, so
/// nobody is told again.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// The pause before the events are followed again after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells users of posts that failed for good without their handler: the job stalled too often, its
/// options do not decode, the handler panicked. Ends with the worker, whose events these are.
///
/// It follows the queue's events, those of the last 24 hours first. So a failure whose worker died
/// before it could tell is told by every other that runs, or by the next that starts, as long as
/// the queue keeps the event. What the handler fails it tells by itself; this shares its claim, so
/// nobody is told twice.
pub async fn watch_failures(mut worker: WorkerEvents, client: Client, queue: Queue<Value>) {
    let ended = async {
        while let Some(event) = worker.next().await {
            if matches!(event, WorkerEvent::Closed) {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = follow(&client, &queue) => {}
    }
}

/// Never ends.
async fn follow(client: &Client, queue: &Queue<Value>) {
    let since =
        client.clock().now().as_millis() - i64::try_from(LOOK_BACK.as_millis()).unwrap_or(0);
    let mut place = EventId::new(u64::try_from(since).unwrap_or(0), 0);
    loop {
        if let Err(error) = follow_from(&mut place, client, queue).await {
            tracing::warn!(%error, "failures of posts are not followed at present");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_from(
    place: &mut EventId,
    client: &Client,
    queue: &Queue<Value>,
) -> oxbull::Result<()> {
    let mut events = QueueEvents::builder(client, queue.name().as_str())
        .prefix(queue.prefix().as_str())
        .after(*place)
        .open()
        .await?;
    while let Some(entry) = events.next().await {
        let entry = entry?;
        if let QueueEvent::Failed { job, reason, .. } = entry.event {
            match tell(&job, &reason, client, queue).await {
                // An odd key must not keep the others from being told.
                Err(error @ (Error::Server(_) | Error::Denied(_))) => {
                    tracing::warn!(id = %job, %error, "failed, and its user could not be read");
                }
                told => told?,
            }
        }
        *place = entry.id;
    }
    Ok(())
}

/// Tells the user of a job, unless it was retried since.
async fn tell(
    id: &JobId,
    reason: &str,
    client: &Client,
    queue: &Queue<Value>,
) -> oxbull::Result<()> {
    if queue.state(id).await? != Some(JobState::Failed) {
        return Ok(());
    }
    let Some(job) = queue.job(id).await? else {
        return Ok(());
    };
    let data: Value = serde_json::from_str(&job.raw_data).unwrap_or_default();
    let progress = data.get("publication").cloned().unwrap_or_default();
    let progress = serde_json::from_value::<Publication>(progress).unwrap_or_default();
    let mut text = reason.to_owned();
    if progress.may_be_public() && !text.contains(IN_DOUBT) {
        text = format!("{text}; {IN_DOUBT}");
    }
    // The handler's own, when it could note but not tell.
    let verdict = progress.verdict.filter(|verdict| verdict.reason == reason);
    let failed = Failed {
        mark: &format!("{id}@{}", job.timestamp),
        data: &data,
        code: verdict.map_or(NoticeCode::Unavailable, |verdict| verdict.code),
        reason: &text,
        at: client.clock().now().as_millis(),
    };
    if let Err(error) = failed.tell(&Notifier::new(client.clone())).await {
        tracing::warn!(%id, %error, "failed, and its user could not be told");
    }
    Ok(())
}
