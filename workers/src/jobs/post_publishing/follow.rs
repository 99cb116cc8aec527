//! Reports failures that happen outside the handler.

use std::time::Duration;

use oxbull::client::Client;
use oxbull::{
    BoxError, Error, EventEntry, EventId, JobId, JobRecord, JobState, Queue, QueueEvent,
    QueueEvents, WorkerEvent, WorkerEvents,
};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::handler::Failed;
use super::progress::IN_DOUBT;
use super::{NoticeCode, Publication};
use crate::app::problems::{Problems, with_causes};
use crate::notify::Notifier;

/// How far back the events are read at the start. Claims of notices are kept longer than that, so no
/// user is notified twice.
const LOOK_BACK: Duration = Duration::from_secs(24 * 3600);

/// The pause before the events are followed again after an error: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A reader without an error for this long is working: it polls Redis every three seconds.
const PROVEN: Duration = Duration::from_secs(4);

/// Attempts to send the notice of a removed job; few, since a closing worker waits for them.
const TRIES: u32 = 4;

/// The name of this work among a program's problems.
const PART: &str = "failures of posts are not followed";

/// Notifies users of posts that failed for good outside their handler: the job stalled too often, its
/// data does not decode, the handler panicked. Ends with the worker, whose events these are.
///
/// It follows the queue's events, those of the last 24 hours first. When a worker dies before it has
/// sent a notice, the other workers send it, or the next one that starts, as long as the queue keeps
/// the event. The handler sends the notices of its own failures; both use the same claim, so each
/// notice is sent once.
///
/// For a job that its options removed as it failed (`removeOnFail`), the notice is made of the worker's
/// own copy, while that worker is running.
///
/// While Redis is unavailable or refuses a command, it stays at the failure that it could not report,
/// retries with growing pauses, and records this in `problems`.
pub async fn watch_failures(
    mut worker: WorkerEvents,
    client: Client,
    queue: Queue<Value>,
    problems: Problems,
) {
    let mut follower = Follower::new(client.clone(), queue.clone(), problems.clone());
    let removed = Follower::new(client, queue, problems.clone());
    let ended = async {
        while let Some(event) = worker.next().await {
            match event {
                WorkerEvent::Closed => return,
                WorkerEvent::Failed {
                    retries: false,
                    record,
                    reason,
                    ..
                } => removed.tell_removed(&record, &reason).await,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = Box::pin(ended) => {}
        () = Box::pin(follower.run()) => {}
    }
    problems.clear(PART);
}

/// Reads the events from a position on.
struct Follower {
    client: Client,
    queue: Queue<Value>,
    problems: Problems,
    /// The last entry that was handled; at first a time, which may lie before all events.
    place: EventId,
    /// Whether an entry was handled.
    has_read: bool,
    /// Consecutive failures.
    failures: u32,
}

impl Follower {
    fn new(client: Client, queue: Queue<Value>, problems: Problems) -> Self {
        let back = i64::try_from(LOOK_BACK.as_millis()).unwrap_or(0);
        let since = client.clock().now().as_millis() - back;
        Self {
            client,
            queue,
            problems,
            place: EventId::new(u64::try_from(since).unwrap_or(0), 0),
            has_read: false,
            failures: 0,
        }
    }

    /// Follows the events until it is dropped.
    async fn run(&mut self) {
        loop {
            if let Err(error) = self.follow().await {
                let error = with_causes(&*error);
                self.problems.report(PART, &error);
                // The first is logged, then each tenth.
                if self.failures.is_multiple_of(10) {
                    tracing::warn!(error, failures = self.failures, "{PART}");
                }
                self.failures = self.failures.saturating_add(1);
            }
            sleep(pause(self.failures)).await;
        }
    }

    async fn follow(&mut self) -> Result<(), BoxError> {
        let mut events = QueueEvents::builder(&self.client, self.queue.name().as_str())
            .prefix(self.queue.prefix().as_str())
            .after(self.place)
            .open()
            .await?;
        loop {
            let entry = match timeout(PROVEN, events.next()).await {
                Ok(Some(entry)) => entry?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.works();
                    continue;
                }
            };
            self.deal_with(&entry).await?;
            self.place = entry.id;
            self.has_read = true;
            self.works();
        }
    }

    fn works(&mut self) {
        self.failures = 0;
        if self.problems.clear(PART) {
            tracing::info!("failures of posts are followed again");
        }
    }

    async fn deal_with(&self, entry: &EventEntry) -> Result<(), BoxError> {
        match &entry.event {
            QueueEvent::Failed { job, reason, .. } => match self.notify(job, reason).await {
                // A malformed key must not block the notices of other jobs.
                Err(error) if is_malformed_key(&error) => {
                    tracing::warn!(id = %job, %error, "failed, and its user could not be read");
                    Ok(())
                }
                told => told,
            },
            // Nothing says that there were events since the time at which this began.
            QueueEvent::Gap { missed: None, .. } if !self.has_read => Ok(()),
            QueueEvent::Gap { missed, .. } => {
                tracing::warn!(
                    ?missed,
                    "events were removed before they were read: users are not notified of failures among them"
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Notifies the user of a job, unless it was retried since.
    async fn notify(&self, id: &JobId, reason: &str) -> Result<(), BoxError> {
        if self.queue.state(id).await? != Some(JobState::Failed) {
            return Ok(());
        }
        match self.queue.job(id).await? {
            Some(job) => self.notify_of(&job, reason).await,
            None => Ok(()),
        }
    }

    /// Notifies the user of a job that was removed as it failed; the others are reported by their events.
    async fn tell_removed(&self, job: &JobRecord, reason: &str) {
        for failures in 1..=TRIES {
            let told = match self.queue.state(&job.id).await {
                Ok(Some(_)) => return,
                Ok(None) => self.notify_of(job, reason).await,
                Err(error) => Err(error.into()),
            };
            let Err(error) = told else {
                return;
            };
            let error = with_causes(&*error);
            tracing::warn!(id = %job.id, error, "failed and was removed; its user is not notified yet");
            sleep(pause(failures)).await;
        }
    }

    async fn notify_of(&self, job: &JobRecord, reason: &str) -> Result<(), BoxError> {
        let data: Value = job.data().unwrap_or_default();
        let progress = data.get("publication").cloned().unwrap_or_default();
        let progress = serde_json::from_value::<Publication>(progress).unwrap_or_default();
        let mut text = reason.to_owned();
        // "Try again later" would have its user publish it twice.
        let otherwise = if progress.may_be_public() {
            NoticeCode::InDoubt
        } else {
            NoticeCode::Unavailable
        };
        if progress.may_be_public() && !text.contains(IN_DOUBT) {
            text = format!("{text}; {IN_DOUBT}");
        }
        // The handler's own verdict, when it was stored but the notice was not sent.
        let verdict = progress.verdict.filter(|verdict| verdict.reason == reason);
        let failed = Failed {
            mark: &format!("{}@{}", job.id, job.timestamp),
            data: &data,
            code: verdict.map_or(otherwise, |verdict| verdict.code),
            reason: &text,
            at: self.client.clock().now().as_millis(),
        };
        failed.notify(&Notifier::new(self.client.clone())).await
    }
}

/// Whether a key of the job has an unexpected type or content, which a retry does not repair. Other
/// errors may be temporary: an outage, a missing permission.
fn is_malformed_key(error: &BoxError) -> bool {
    match error.downcast_ref::<Error>() {
        Some(Error::Server(text)) => text.contains("WRONGTYPE"),
        Some(Error::Protocol(_) | Error::Decode { .. }) => true,
        _ => false,
    }
}

/// Doubles with each failure, with jitter between processes.
fn pause(failures: u32) -> Duration {
    let (first, most) = PAUSES;
    let pause = first
        .saturating_mul(1 << failures.saturating_sub(1).min(5))
        .min(most);
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
