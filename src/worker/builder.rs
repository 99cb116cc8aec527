//! How a worker is described and started.

use std::future::Future;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tower::{Layer, Service, ServiceExt};

use crate::client::{Client, Throttle};
use crate::error::{BoxError, Error, Result};
use crate::job::{JobRateLimit, Prefix, QueueName, Retention};
use crate::queue::Queue;
use crate::store::Store;
use crate::telemetry::Processor;
use crate::worker::Worker;
use crate::worker::attempt::{Concluder, Runner};
use crate::worker::backoff::FailedAttempt;
use crate::worker::call::Caller;
use crate::worker::events::{EventSender, WorkerEvents};
use crate::worker::handler::{self, Handler, IntoJobResult, JobCall, JobReply, JobService};
use crate::worker::health::HealthMonitor;
use crate::worker::iteration::Iterations;
use crate::worker::lock_renewer::{Leases, LockRenewer};
use crate::worker::marker::Markers;
use crate::worker::options::{ShutdownOptions, WorkerOptions};
use crate::worker::panic;
use crate::worker::pump::{Parts, Pump, Status};
use crate::worker::reporter::Reporter;

type Wrap = Box<dyn FnOnce(JobService) -> JobService + Send>;

/// Describes a worker before it starts.
///
/// `S` is the type of the [state](Self::state) that the handler's calls share. `D` is the type of the
/// jobs' data: that of the queue for [`Queue::worker`], otherwise whatever the handler takes.
#[must_use]
pub struct WorkerBuilder<S = (), D = serde_json::Value> {
    client: Client,
    prefix: String,
    options: WorkerOptions,
    concurrency: usize,
    state: S,
    layers: Vec<Wrap>,
    events: EventSender,
    data: PhantomData<fn() -> D>,
}

impl<S: std::fmt::Debug, D> std::fmt::Debug for WorkerBuilder<S, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("queue", &self.options.queue)
            .field("prefix", &self.prefix)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}

impl<D> Queue<D> {
    /// Starts to describe a worker of this queue, under the queue's name and prefix, over its client. Its
    /// handler takes jobs of the queue's data type.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn run(queue: oxbull::Queue<String>) -> oxbull::Result<()> {
    /// use oxbull::Job;
    ///
    /// async fn parse(job: Job<String>) -> Result<u32, std::num::ParseIntError> {
    ///     job.data().parse()
    /// }
    ///
    /// let worker = queue.worker().concurrency(8).start(parse).await?;
    /// worker.run_until_signal().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A handler of other data does not compile:
    ///
    /// ```compile_fail
    /// # fn run(queue: oxbull::Queue<String>) {
    /// # use oxbull::Job;
    /// async fn double(job: Job<u32>) -> Result<u32, std::fmt::Error> {
    ///     Ok(job.data() * 2)
    /// }
    ///
    /// let worker = queue.worker().start(double);
    /// # }
    /// ```
    pub fn worker(&self) -> WorkerBuilder<(), D> {
        WorkerBuilder::new(self.client(), self.name().as_str()).prefix(self.prefix().as_str())
    }
}

impl<D> WorkerBuilder<(), D> {
    pub(super) fn new(client: &Client, queue: &str) -> Self {
        let prefix = Prefix::default();
        Self {
            client: client.clone(),
            prefix: prefix.as_str().to_owned(),
            options: WorkerOptions::new(QueueName::unchecked(queue), prefix),
            concurrency: 1,
            state: (),
            layers: Vec::new(),
            events: EventSender::new(),
            data: PhantomData,
        }
    }
}

impl<S, D> WorkerBuilder<S, D> {
    /// Sets the first part of the queue's keys. Default: `bull`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Names the worker; the name is stored with each job it starts and shown in dashboards.
    /// Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Sets how many jobs run at once; it can be changed while the worker runs. Default: 1.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.concurrency = jobs;
        self
    }

    /// Shares a value with the handler's calls, through their [`Context`](crate::Context).
    pub fn state<T>(self, state: T) -> WorkerBuilder<T, D> {
        WorkerBuilder {
            client: self.client,
            prefix: self.prefix,
            options: self.options,
            concurrency: self.concurrency,
            state,
            layers: self.layers,
            events: self.events,
            data: PhantomData,
        }
    }

    /// Puts a tower layer around the handler. The first layer added is the outermost. An error of
    /// a layer is a failed attempt.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<JobService> + Send + 'static,
        L::Service: Service<JobCall, Response = JobReply> + Clone + Send + Sync + 'static,
        <L::Service as Service<JobCall>>::Error: Into<BoxError> + 'static,
        <L::Service as Service<JobCall>>::Future: Send + 'static,
    {
        self.layers.push(Box::new(move |inner| {
            JobService::new(layer.layer(inner).map_err(Into::into))
        }));
        self
    }

    /// Sets how long a job's lock lasts without renewal; after that another worker may take the
    /// job. Locks are renewed three times as often. 100 ms to a year; default: 30 s.
    pub fn lock_duration(mut self, duration: Duration) -> Self {
        self.options.lock_duration = duration;
        self
    }

    /// Sets the time between two searches for jobs of workers that vanished, and for job
    /// schedulers that have lost their iteration. One search serves all workers of the queue.
    /// Default: 30 s.
    pub fn stalled_interval(mut self, interval: Duration) -> Self {
        self.options.stalled_interval = interval;
        self
    }

    /// Leaves the search for stalled jobs and stopped schedulers to other workers. Default: this worker
    /// searches too.
    pub fn skip_stalled_check(mut self) -> Self {
        self.options.check_stalled = false;
        self
    }

    /// Sets how often a job may stall before it fails. Default: 1.
    pub fn max_stalled_count(mut self, count: u32) -> Self {
        self.options.max_stalled = count;
        self
    }

    /// Fails a job for good once its handler has been started this often; 0 is no limit. Jobs that were
    /// released before their handler ran have not been started. Default: 0.
    pub fn max_started_attempts(mut self, max: u32) -> Self {
        self.options.rules.max_started = Some(max).filter(|max| *max > 0);
        self
    }

    /// Sets how long an idle worker relies on wake-ups before it looks for itself. Default: 5 s.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.options.drain_delay = delay;
        self
    }

    /// Limits the starts of jobs, together with all workers of the queue that have a limit; a worker
    /// that has none neither counts nor waits, unless the queue has a
    /// [global limit](crate::Queue::set_global_rate_limit), whose `max` takes precedence over this one. A
    /// window begins with the first start in it and lasts as long as the worker of that start says.
    /// Default: no limit.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn build(client: &oxbull::Client) -> oxbull::WorkerBuilder {
    /// use std::time::Duration;
    ///
    /// use oxbull::{JobRateLimit, Worker};
    ///
    /// let limit = JobRateLimit::new(200, Duration::from_secs(3600));
    /// Worker::builder(client, "mail").rate_limit(limit)
    /// # }
    /// ```
    pub fn rate_limit(mut self, limit: JobRateLimit) -> Self {
        self.options.limit = Some(limit);
        self
    }

    /// Sets how long the worker waits at most, while the queue is rate limited, before it looks
    /// again: a limit that was lifted or changed is noticed, and due jobs move, within this time.
    /// Default: 1 s.
    pub fn max_rate_limit_wait(mut self, wait: Duration) -> Self {
        self.options.max_limit_wait = wait;
        self
    }

    /// Records finished jobs per minute, this many minutes back. Default: 0, off.
    pub fn metrics(mut self, minutes: u32) -> Self {
        self.options.metrics = minutes;
        self
    }

    /// Fails an attempt that takes longer; its handler is dropped at its next await. Default:
    /// none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Sets what happens to completed jobs that do not say themselves. Default: all are kept.
    pub fn remove_on_complete(mut self, retention: Retention) -> Self {
        self.options.rules.remove_on_complete = Some(retention);
        self
    }

    /// Sets what happens to failed jobs that do not say themselves. Default: all are kept.
    pub fn remove_on_fail(mut self, retention: Retention) -> Self {
        self.options.rules.remove_on_fail = Some(retention);
        self
    }

    /// Registers the backoff strategy for jobs that name it: it returns how long the job waits before its
    /// next attempt, or `None` for no further attempt. One that panics, or does not answer within a
    /// minute, gives none.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # fn build(client: &oxbull::Client) -> oxbull::WorkerBuilder {
    /// use std::time::Duration;
    ///
    /// use oxbull::{FailedAttempt, Worker};
    ///
    /// Worker::builder(client, "mail").backoff_strategy("patient", |failed: FailedAttempt| async move {
    ///     Some(Duration::from_secs(u64::from(failed.attempt) * 60))
    /// })
    /// # }
    /// ```
    pub fn backoff_strategy<F, Fut>(mut self, name: impl Into<String>, strategy: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.options.strategies.insert(name.into(), strategy);
        self
    }

    /// Registers the backoff strategy for jobs that name one which is not registered. Default: such
    /// jobs fail for good, and the reason says so.
    pub fn backoff_fallback<F, Fut>(mut self, strategy: F) -> Self
    where
        F: Fn(FailedAttempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Duration>> + Send + 'static,
    {
        self.options.strategies.set_fallback(strategy);
        self
    }

    /// Subscribes to the worker's events before it starts, so that none is missed.
    pub fn events(&self) -> WorkerEvents {
        self.events.subscribe()
    }

    /// Sets the deadlines of [`Worker::close`] and of signals.
    pub fn shutdown(mut self, options: ShutdownOptions) -> Self {
        self.options.shutdown = options;
        self
    }

    /// Starts the worker paused, until [`Worker::resume`]. Default: it works at once.
    pub fn paused(mut self) -> Self {
        self.options.paused = true;
        self
    }

    /// Starts the worker on the current runtime. When the returned future is ready, listings of the queue's
    /// workers show it, unless Redis could not be reached within 5 s: the worker goes on trying.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) for the queue's name, the prefix, or an
    /// option out of its bounds; [`Error::Closed`](crate::Error::Closed) when the client is closed;
    /// [`Error::Unsuitable`](crate::Error::Unsuitable) when the system gives no thread.
    ///
    /// # Panics
    ///
    /// When the future is polled outside of a tokio runtime.
    pub fn start<H, M>(self, handler: H) -> WorkerStart
    where
        H: Handler<S, M, Data = D>,
        D: DeserializeOwned + Send + 'static,
        H::Future: Send,
        H::Output: IntoJobResult,
        S: Send + Sync + 'static,
        M: 'static,
    {
        let (builder, state) = self.take_state();
        let handler = handler::service(handler, state, &builder.client);
        WorkerStart(Box::pin(builder.start_service(handler)))
    }

    /// Splits the state off. The rest of the worker knows neither it nor the type of the data.
    fn take_state(self) -> (WorkerBuilder<(), ()>, S) {
        let Self {
            client,
            prefix,
            options,
            concurrency,
            state,
            layers,
            events,
            data: _,
        } = self;
        let builder = WorkerBuilder {
            client,
            prefix,
            options,
            concurrency,
            state: (),
            layers,
            events,
            data: PhantomData,
        };
        (builder, state)
    }
}

impl WorkerBuilder<(), ()> {
    /// Starts the worker with its handler, whose types are gone: this is compiled once.
    async fn start_service(self, handler: JobService) -> Result<Worker> {
        let mut options = self.options;
        options.queue = QueueName::new(options.queue.as_str())?;
        options.prefix = Prefix::new(&self.prefix)?;
        options.concurrency = NonZeroUsize::new(self.concurrency)
            .ok_or_else(|| crate::error::Error::invalid("concurrency", "must be at least 1"))?;
        options.check()?;
        if self.client.closing().is_cancelled() {
            return Err(Error::Closed);
        }
        let options = Arc::new(options);
        let client = self.client;
        let store = Store::open(&client, &options.prefix, &options.queue)?;
        let service = self
            .layers
            .into_iter()
            .rev()
            .fold(handler, |service, wrap| wrap(service));
        let events = self.events;
        let health = Arc::<HealthMonitor>::default();
        let queue: Arc<str> = options.queue.as_str().into();
        let leases = Arc::new(Leases::default());
        // A peer that falls silent must be given up while there is time for another renewal; one
        // that is only slow must not, because the renewal would be lost with the connection.
        let timeout = (options.lock_duration / 3).max(Duration::from_millis(250));
        // The lock renewer's connection carries the name by which dashboards find the worker.
        let name = store.keys().worker_client_name(options.name.as_deref());
        panic::install_hook();
        let mut lock_renewer = LockRenewer::start(
            store.on(client.dedicated(Some(&name), timeout)),
            Arc::clone(&leases),
            events.clone(),
            Arc::clone(&health),
            &options,
        )?;
        lock_renewer.opened().await;
        let (commands, orders) = mpsc::channel(16);
        let (status, seen) = watch::channel(Status {
            running: 0,
            paused: options.paused,
            closed: false,
            released: 0,
            abandoned: 0,
        });
        let id = uuid::Uuid::new_v4().to_string();
        let pump = Pump::new(Parts {
            runner: Arc::new(Runner {
                iterations: Iterations {
                    store: store.clone(),
                    events: events.clone(),
                    queue: Arc::clone(&queue),
                    lock_duration: options.lock_duration,
                    trouble: Arc::default(),
                },
                unreadable: Throttle::default(),
                store: store.clone(),
                service,
                timeout: options.timeout,
                limit: options.limit.map(|limit| limit.max),
                processor: Processor {
                    queue: Arc::clone(&queue),
                    id: id.as_str().into(),
                    name: options.name.as_deref().map(Into::into),
                },
                concluder: Concluder {
                    rules: options.rules.clone(),
                    strategies: options.strategies.clone(),
                    clock: client.clock().clone(),
                },
                events: events.clone(),
            }),
            caller: Caller {
                // The locks of jobs that a call started are not renewed until it is answered: there
                // must be time to give it up and find them.
                store: store.on(client.connection().within(options.lock_duration / 2)),
                options: Arc::clone(&options),
                leases: Arc::clone(&leases),
            },
            member: Markers::join(&client, &store),
            options: Arc::clone(&options),
            leases,
            lock_renewer,
            reporter: Reporter::new(queue, events.clone()),
            health: Arc::clone(&health),
            commands: orders,
            status,
            id,
        });
        tracing::info!(
            queue = %options.queue,
            name = options.name.as_deref().unwrap_or(""),
            concurrency = options.concurrency,
            "worker started"
        );
        let task = tokio::spawn(pump.run());
        Ok(Worker {
            commands,
            status: seen,
            health,
            events,
            shutdown: options.shutdown,
            task,
        })
    }
}

/// A worker on its way: the future of [`WorkerBuilder::start`].
#[must_use = "the worker starts when this is awaited"]
pub struct WorkerStart(BoxFuture<'static, Result<Worker>>);

impl Future for WorkerStart {
    type Output = Result<Worker>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<Worker>> {
        self.0.as_mut().poll(cx)
    }
}

impl std::fmt::Debug for WorkerStart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerStart").finish_non_exhaustive()
    }
}
