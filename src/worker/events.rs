//! A worker's events, for subscribers in its own process.

use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use serde::Serialize;
use tokio::sync::broadcast;

use crate::job::{JobId, JobRecord};
use crate::json;

/// How many events a reader may be behind before it misses the oldest.
const BACKLOG: usize = 1024;

/// Something that happened in a worker. Other processes follow the queue's event stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(
    tag = "event",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
#[non_exhaustive]
pub enum WorkerEvent {
    /// An attempt began.
    #[non_exhaustive]
    Active {
        /// The job.
        id: JobId,
        /// Its name.
        name: Arc<str>,
        /// Which start it is, from 1: a job that was delayed by its handler, or waited for its children,
        /// starts again within the same attempt.
        attempt: u32,
    },
    /// A handler stored the progress of its job.
    #[non_exhaustive]
    Progress {
        /// The job.
        id: JobId,
        /// The progress, as JSON text.
        #[serde(serialize_with = "json::stored")]
        progress: Arc<str>,
    },
    /// A job completed, and Redis has its result.
    #[non_exhaustive]
    Completed {
        /// The job.
        id: JobId,
        /// Its result, as JSON text.
        #[serde(serialize_with = "json::stored")]
        result: Arc<str>,
        /// How long the attempt took.
        #[serde(serialize_with = "json::millis::serialize")]
        took: Duration,
    },
    /// An attempt failed, and Redis knows.
    #[non_exhaustive]
    Failed {
        /// The job.
        id: JobId,
        /// Why, as stored: at most 8 KiB.
        reason: Arc<str>,
        /// Whether the job is tried again.
        retries: bool,
        /// The job as it was when the attempt began; it may have been removed since.
        record: Arc<JobRecord>,
        /// How long the attempt took.
        #[serde(serialize_with = "json::millis::serialize")]
        took: Duration,
    },
    /// A job left its handler without ending: delayed, released, waiting for children, or
    /// postponed because Redis could not serve its handler.
    #[non_exhaustive]
    Deferred {
        /// The job.
        id: JobId,
    },
    /// A handler was cancelled because its job's lock is gone. Nothing of the attempt is stored.
    #[non_exhaustive]
    LockLost {
        /// The job.
        id: JobId,
    },
    /// The end of an attempt was refused: the job is gone, or another worker has it.
    #[non_exhaustive]
    Refused {
        /// The job.
        id: JobId,
        /// Why.
        reason: crate::error::Refusal,
    },
    /// A job of a worker that vanished was handed back to the queue.
    #[non_exhaustive]
    Stalled {
        /// The job.
        id: JobId,
    },
    /// A job of a worker that vanished has stalled more often than
    /// [allowed](crate::WorkerBuilder::max_stalled_count): it fails with its next start, whichever worker
    /// starts it, without its handler.
    #[non_exhaustive]
    StalledTooOften {
        /// The job.
        id: JobId,
        /// How often it has stalled since it was added, or retried by hand.
        stalls: u32,
    },
    /// An iteration of a scheduler that lets none overlap was completed without its handler,
    /// because an earlier one still runs.
    #[non_exhaustive]
    Skipped {
        /// The job.
        id: JobId,
        /// The one that runs.
        running: JobId,
    },
    /// A scheduler without an iteration to come has got one again. That its job was deleted or
    /// ended without a successor is worth a look.
    #[non_exhaustive]
    SchedulerRepaired {
        /// The scheduler.
        scheduler: Arc<str>,
        /// Its new iteration.
        id: JobId,
    },
    /// A fetch found nothing to start: the first one of the worker, or the first one after work.
    Drained,
    /// The worker stopped starting jobs.
    Paused,
    /// The worker starts jobs again.
    Resumed,
    /// The worker shuts down.
    Closing,
    /// The worker has ended.
    Closed,
    /// Something went wrong that the worker goes on trying; at most once a second per cause.
    #[non_exhaustive]
    Trouble {
        /// What failed, and why.
        message: Arc<str>,
    },
}

/// The sending side. No event is built while there is no subscriber.
#[derive(Debug, Clone)]
pub(super) struct EventSender(broadcast::Sender<WorkerEvent>);

impl EventSender {
    pub(super) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    /// Sends an event to all subscribers.
    pub(super) fn send(&self, event: impl FnOnce() -> WorkerEvent) {
        if self.0.receiver_count() > 0 {
            // The last listener may just have left.
            drop(self.0.send(event()));
        }
    }

    pub(super) fn subscribe(&self) -> WorkerEvents {
        WorkerEvents {
            receiver: self.0.subscribe(),
            missed: 0,
            ended: false,
        }
    }
}

/// A worker's events from the moment of subscription. A reader that falls more than 1,024 events
/// behind misses the oldest and can see [how many](Self::missed).
#[derive(Debug)]
pub struct WorkerEvents {
    receiver: broadcast::Receiver<WorkerEvent>,
    missed: u64,
    ended: bool,
}

impl WorkerEvents {
    /// Waits for the next event; `None` once the worker has ended.
    ///
    /// # Cancel safety
    ///
    /// No event is lost when the call is dropped.
    pub async fn next(&mut self) -> Option<WorkerEvent> {
        while !self.ended {
            match self.receiver.recv().await {
                Ok(event) => {
                    self.ended = event == WorkerEvent::Closed;
                    return Some(event);
                }
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.missed = self.missed.saturating_add(missed);
                }
                Err(broadcast::error::RecvError::Closed) => self.ended = true,
            }
        }
        None
    }

    /// Returns how many events this reader has missed.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Turns the reader into a stream.
    pub fn into_stream(self) -> impl Stream<Item = WorkerEvent> + Send {
        futures_util::stream::unfold(self, async |mut events| {
            events.next().await.map(|event| (event, events))
        })
    }
}
