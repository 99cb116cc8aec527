//! Working on a queue's jobs.
//!
//! A worker is a few tasks with clear ownership: the *pump* alone talks to Redis about jobs, each
//! *attempt* runs in a task of its own, the *lock renewer* holds the locks on its own thread, and the
//! *marker hub* waits for work on behalf of all workers of a client.

mod actions;
mod attempt;
mod backoff;
mod builder;
mod call;
mod cancel;
mod events;
mod handler;
mod health;
mod iteration;
mod lock_renewer;
mod manual;
mod marker;
mod options;
mod panic;
mod pump;
mod reporter;
mod schedules;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::job::JobId;
use crate::json;

#[cfg(feature = "testing")]
pub(crate) use attempt::Concluder;
pub use backoff::FailedAttempt;
#[cfg(feature = "testing")]
pub(crate) use backoff::Strategies;
pub use builder::{WorkerBuilder, WorkerStart};
pub use events::{WorkerEvent, WorkerEvents};
pub use handler::{Cancellation, Context, Handler, IntoJobResult, JobCall, JobReply, JobService};
#[cfg(feature = "testing")]
pub(crate) use handler::{answer, service};
pub use manual::{Availability, ManualWorker};
pub use options::ShutdownOptions;
pub use schedules::RepairedScheduler;

use events::EventSender;
use health::{HealthMonitor, Signs};
use pump::{Command, Status};

/// A worker that runs. Dropping it stops it without waiting: handlers are cancelled and their
/// jobs released as long as the runtime keeps running.
///
/// # Examples
///
/// ```no_run
/// use oxbull::{Client, Context, Job, JobResult, Outcome, Worker};
///
/// #[derive(serde::Deserialize)]
/// struct Welcome {
///     to: String,
/// }
///
/// async fn send(job: Job<Welcome>, _: Context) -> JobResult<usize> {
///     Ok(Outcome::Done(job.data().to.len()))
/// }
///
/// # async fn run() -> oxbull::Result<()> {
/// let client = Client::from_env().await?;
/// let worker = Worker::builder(&client, "mail").concurrency(10).start(send).await?;
/// worker.run_until_signal().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a worker stops when it is dropped"]
pub struct Worker {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    health: Arc<HealthMonitor>,
    events: EventSender,
    shutdown: ShutdownOptions,
    task: JoinHandle<()>,
}

/// What a worker's shutdown left of the jobs that it ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// How many unfinished jobs went back to the queue, to be started by another worker.
    pub released: usize,
    /// How many jobs could be neither ended nor released: their locks expire, then another
    /// worker runs them again.
    pub abandoned: usize,
}

/// How a worker is doing, judged by its work. In JSON times are milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct WorkerHealth {
    /// How many handlers run.
    pub running: usize,
    /// Whether the worker is paused.
    pub paused: bool,
    /// Whether the worker has ended.
    pub closed: bool,
    /// How long ago Redis last answered the worker; `None` before the first answer.
    #[serde(serialize_with = "json::optional_millis::serialize")]
    pub last_answer: Option<Duration>,
    /// How long ago Redis last answered a fetch; `None` before the first answer. A worker with free
    /// slots that is not paused fetches at least every [drain delay](WorkerBuilder::drain_delay).
    #[serde(serialize_with = "json::optional_millis::serialize")]
    pub last_fetch: Option<Duration>,
    /// How long ago locks were last renewed; `None` while there were none to renew.
    #[serde(serialize_with = "json::optional_millis::serialize")]
    pub last_renewal: Option<Duration>,
    /// What keeps the worker from working now, if anything does.
    pub trouble: Option<WorkerTrouble>,
}

/// What keeps a worker from working: Redis is away, refuses writes, or denies what the worker needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerTrouble {
    /// What failed last, and why.
    pub reason: Arc<str>,
    /// How long it has lasted.
    #[serde(serialize_with = "json::millis::serialize")]
    pub lasting: Duration,
}

impl WorkerHealth {
    /// Returns whether the worker works: Redis serves its fetches and renewals, and it has not ended. A
    /// paused worker is healthy; one that Redis has not answered yet is not.
    pub fn is_healthy(&self) -> bool {
        !self.closed && self.trouble.is_none() && (self.paused || self.last_fetch.is_some())
    }
}

impl Worker {
    /// Starts to describe a worker of a queue; its handler says which data the jobs carry. Where there is
    /// a [`Queue`](crate::Queue), [`Queue::worker`](crate::Queue::worker) takes its name, prefix and type.
    pub fn builder<D>(client: &Client, queue: impl AsRef<str>) -> WorkerBuilder<(), D> {
        WorkerBuilder::new(client, queue.as_ref())
    }

    /// Subscribes to the worker's events from now on. See [`WorkerBuilder::events`] for those from its
    /// start.
    pub fn events(&self) -> WorkerEvents {
        self.events.subscribe()
    }

    /// Tells how the worker is doing.
    pub fn health(&self) -> WorkerHealth {
        let status = *self.status.borrow();
        let Signs {
            last_answer,
            last_fetch,
            last_renewal,
            trouble,
            unrenewed,
            ..
        } = self.health.read();
        let now = Instant::now();
        let ago = |at: Instant| now.saturating_duration_since(at);
        WorkerHealth {
            running: status.running,
            paused: status.paused,
            // Also when its task has ended in a way that it could not report.
            closed: self.is_closed(),
            last_answer: last_answer.map(ago),
            last_fetch: last_fetch.map(ago),
            last_renewal: last_renewal.map(ago),
            trouble: trouble.or(unrenewed).map(|(since, reason)| WorkerTrouble {
                reason,
                lasting: ago(since),
            }),
        }
    }

    /// Stops starting jobs and waits until those that run have ended, or the worker is
    /// [resumed](Self::resume).
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the worker has ended.
    ///
    /// # Cancel safety
    ///
    /// The worker is paused even if the call is dropped.
    pub async fn pause(&self) -> Result<()> {
        let (done, paused) = oneshot::channel();
        self.order(Command::Pause(done)).await?;
        paused.await.map_err(|_| Error::Closed)
    }

    /// Stops starting jobs, and does not wait for those that run. It takes effect, and
    /// [`health`](Self::health) shows it, with the worker's next step.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the worker has ended.
    pub async fn pause_without_waiting(&self) -> Result<()> {
        let (done, _) = oneshot::channel();
        self.order(Command::Pause(done)).await
    }

    /// Cancels the handler of a job that this worker runs, without closing the worker: the handler
    /// [is told](Context::cancelled), and is dropped unless it returns within
    /// [`ShutdownOptions::cancel_within`]; then the attempt has failed, and the job is retried while
    /// attempts are left. Returns whether the job runs here.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the worker has ended.
    pub async fn cancel_job(&self, id: impl Into<JobId>) -> Result<bool> {
        Ok(self.cancel(Some(id.into())).await? > 0)
    }

    /// Cancels all handlers, as [`cancel_job`](Self::cancel_job) does. Returns how many.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the worker has ended.
    pub async fn cancel_all_jobs(&self) -> Result<usize> {
        self.cancel(None).await
    }

    async fn cancel(&self, id: Option<JobId>) -> Result<usize> {
        let (answer, cancelled) = oneshot::channel();
        self.order(Command::Cancel(id, answer)).await?;
        cancelled.await.map_err(|_| Error::Closed)
    }

    /// Starts jobs again.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the worker has ended.
    pub async fn resume(&self) -> Result<()> {
        self.order(Command::Resume).await
    }

    /// Changes how many jobs run at once. Jobs that run go on.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for 0; [`Error::Closed`] when the worker has ended.
    pub async fn set_concurrency(&self, jobs: usize) -> Result<()> {
        if jobs == 0 {
            return Err(Error::invalid("concurrency", "must be at least 1"));
        }
        self.order(Command::Concurrency(jobs)).await
    }

    /// Shuts the worker down in stages, by its [`ShutdownOptions`]: no job is started any more,
    /// running handlers may finish, then they are cancelled and their jobs released. Returns by
    /// the last deadline, whether Redis is up or not.
    pub async fn close(&self) -> ShutdownReport {
        self.close_with(self.shutdown).await
    }

    /// Shuts the worker down with other deadlines. While a shutdown is under way this can only
    /// make it shorter.
    pub async fn close_with(&self, options: ShutdownOptions) -> ShutdownReport {
        // An error means that the worker has ended already.
        drop(self.order(Command::Close(options)).await);
        self.closed().await
    }

    /// Cancels the handlers and gives their jobs back, at once.
    pub async fn close_now(&self) -> ShutdownReport {
        let options = self
            .shutdown
            .finish_within(Duration::ZERO)
            .cancel_within(Duration::ZERO);
        self.close_with(options).await
    }

    /// Waits until the worker has ended, for whatever reason.
    pub async fn closed(&self) -> ShutdownReport {
        let mut status = self.status.clone();
        // An error means that the pump is gone, with its runtime, and so has ended.
        let reported = status.wait_for(|status| status.closed).await.is_ok();
        let status = status.borrow();
        ShutdownReport {
            released: status.released,
            abandoned: if reported {
                status.abandoned
            } else {
                status.running
            },
        }
    }

    /// Works until the process gets SIGTERM or SIGINT, then shuts down; a second signal ends the
    /// handlers at once and gives their jobs back.
    ///
    /// A signal that comes before this call ends the process at once; to listen from the start,
    /// see [`run_until`](Self::run_until).
    ///
    /// # Errors
    ///
    /// [`Error::Unsuitable`] when the process cannot listen for signals.
    pub async fn run_until_signal(&self) -> Result<ShutdownReport> {
        Ok(self.run_until(ShutdownSignals::listen()?).await)
    }

    /// As [`run_until_signal`](Self::run_until_signal), with signals that the program has
    /// listened for since before it connected.
    pub async fn run_until(&self, mut signals: ShutdownSignals) -> ShutdownReport {
        tokio::select! {
            closed = self.closed() => return closed,
            () = signals.next() => {}
        }
        tracing::info!("signal received; shutting down");
        tokio::select! {
            closed = self.close() => return closed,
            () = signals.next() => {}
        }
        tracing::warn!("second signal received; giving jobs back");
        self.close_now().await
    }

    async fn order(&self, command: Command) -> Result<()> {
        self.commands.send(command).await.map_err(|_| Error::Closed)
    }

    /// Returns whether the worker's task has ended.
    pub fn is_closed(&self) -> bool {
        self.status.borrow().closed || self.task.is_finished()
    }
}

/// The signals that ask a process to end: SIGTERM and SIGINT, Ctrl-C elsewhere. Once there is a
/// value of this type, they do not end the process by themselves any more.
#[derive(Debug)]
pub struct ShutdownSignals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl ShutdownSignals {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Unsuitable`] when the process cannot listen for signals.
    #[cfg(unix)]
    pub fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error: std::io::Error| Error::Unsuitable(format!("no signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    /// Waits for the next signal.
    #[cfg(unix)]
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// None here.
    #[cfg(not(unix))]
    #[expect(clippy::unnecessary_wraps, reason = "the unix form can fail")]
    pub fn listen() -> Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next signal.
    #[cfg(not(unix))]
    pub async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
