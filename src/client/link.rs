//! A connection that comes back: one task owns the socket, reconnects it, and throws it away
//! when it cannot be trusted any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::runtime;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::connect::{self, ConnectError, ConnectionOptions, Settings};
use super::generation::Generation;
use super::login::measure;
use super::retry::jittered;
use crate::error::Error;
use crate::metrics;
use crate::resp::Command;

/// A connection that lasted this long worked, even if it was not used.
const STEADY: Duration = Duration::from_secs(2);
/// How long a suspected socket has to answer a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an idle main connection is probed and the clock is measured.
const CLOCK_PERIOD: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum State {
    /// No usable socket; `failures` counts attempts since the client exists.
    Down {
        failures: u64,
        error: Option<ConnectError>,
    },
    Up(Arc<Generation>),
    Closed,
}

/// A shared, self-healing connection. Clones share the socket, which closes when the last one
/// is dropped, when it is killed, or when the client it comes from is closed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    handle: Arc<Handle>,
    /// The nodes, where it leads to a cluster: then it has no socket of its own.
    cluster: Option<Arc<Cluster>>,
    /// The longest wait of this clone's requests, where it is shorter than the connection's.
    timeout: Option<Duration>,
}

/// What the clones share; the task does not hold it, so that dropping them ends the task.
#[derive(Debug)]
struct Handle {
    inner: Arc<Inner>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

#[derive(Debug)]
struct Inner {
    settings: Arc<Settings>,
    options: ConnectionOptions,
    state: watch::Sender<State>,
    running: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Connection {
    /// Prepares a connection; it is opened by its first request.
    pub(super) fn new(
        settings: Arc<Settings>,
        options: ConnectionOptions,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let cluster = Cluster::new(&settings, &options, &stop, &tasks);
        let inner = Inner {
            settings,
            options,
            state: watch::Sender::new(State::Down {
                failures: 0,
                error: None,
            }),
            running: AtomicBool::new(false),
            stop,
            tasks,
        };
        Self {
            handle: Arc::new(Handle {
                inner: Arc::new(inner),
            }),
            cluster,
            timeout: None,
        }
    }

    /// Returns a clone whose requests give up earlier, for answers that are of use only until
    /// then. They share the socket, which does not outlive a late answer.
    pub(crate) fn within(&self, timeout: Duration) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
            cluster: self.cluster.clone(),
            timeout: Some(timeout),
        }
    }

    /// Waits until there is a usable connection and returns it.
    pub(super) async fn generation(&self, within: Duration) -> Result<Arc<Generation>, Error> {
        let until = Instant::now() + within;
        match &self.cluster {
            None => self.live(until, None).await,
            Some(cluster) => Ok(cluster.live(0, until).await?.1),
        }
    }

    /// Returns the nodes, where it leads to a cluster.
    pub(super) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.as_ref()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.handle.inner.settings
    }

    #[cfg(test)]
    pub(super) fn options(&self) -> &ConnectionOptions {
        &self.handle.inner.options
    }

    /// Returns the longest wait for one answer to this clone.
    pub(super) fn deadline(&self) -> Duration {
        let deadline = self.handle.inner.deadline();
        self.timeout.map_or(deadline, |own| own.min(deadline))
    }

    /// Returns a token that is cancelled when this connection is closed for good.
    pub(super) fn stopping(&self) -> CancellationToken {
        self.handle.inner.stop.clone()
    }

    #[cfg(any(feature = "http-cache", feature = "http-rate-limit"))]
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.handle.inner.tasks
    }

    /// Returns the socket in use, if there is one.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        if let Some(cluster) = &self.cluster {
            return cluster.current();
        }
        match &*self.handle.inner.state.borrow() {
            State::Up(generation) => Some(Arc::clone(generation)),
            State::Down { .. } | State::Closed => None,
        }
    }

    /// Closes the socket at once and for good; pending and later requests fail.
    pub(crate) fn kill(&self) {
        self.handle.inner.stop.cancel();
        self.handle.inner.state.send_replace(State::Closed);
    }

    /// Returns a live generation, waiting until `deadline` and for at most `retries` failures.
    pub(super) async fn live(
        &self,
        deadline: Instant,
        retries: Option<u32>,
    ) -> Result<Arc<Generation>, Error> {
        let inner = &self.handle.inner;
        if let State::Up(generation) = &*inner.state.borrow()
            && !generation.dead.is_cancelled()
        {
            return Ok(Arc::clone(generation));
        }
        let mut changes = inner.state.subscribe();
        let mut base = None;
        let mut last: Option<ConnectError> = None;
        loop {
            inner.ensure_running()?;
            match &*changes.borrow_and_update() {
                State::Up(generation) if !generation.dead.is_cancelled() => {
                    return Ok(Arc::clone(generation));
                }
                State::Up(_) => {}
                State::Closed => return Err(Error::Closed),
                State::Down { failures, error } => {
                    last.clone_from(error);
                    let failed = failures.saturating_sub(*base.get_or_insert(*failures));
                    if let Some(error) = error
                        && failed > 0
                        && (error.is_fatal()
                            || (!error.is_busy()
                                && retries.is_some_and(|most| failed > most.into())))
                    {
                        return Err(error.to_error());
                    }
                }
            }
            if timeout_at(deadline, changes.changed()).await.is_err() {
                let error = last.unwrap_or_else(|| {
                    ConnectError::unreachable(format!(
                        "{}: no connection before the deadline, and no attempt has ended; the tokio \
                         runtime on which the client was first used may not be running",
                        inner.settings.config
                    ))
                });
                return Err(error.to_error());
            }
        }
    }
}

impl Inner {
    /// Starts the task that owns the socket, unless it runs already.
    ///
    /// It runs on the caller's runtime. When that runtime ends, the next caller starts another.
    fn ensure_running(self: &Arc<Self>) -> Result<(), Error> {
        if self.stop.is_cancelled() {
            self.state.send_replace(State::Closed);
            return Err(Error::Closed);
        }
        if !self.running.swap(true, Ordering::AcqRel) {
            let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                self.running.store(false, Ordering::Release);
                return Err(Error::Unreachable("there is no tokio runtime here".into()));
            };
            self.tasks.spawn_on(supervise(Arc::clone(self)), &runtime);
        }
        Ok(())
    }

    /// Opens sockets, one at a time, until the connection is closed.
    async fn run(&self) {
        let config = &self.settings.config;
        let mut unsteady = 0_u32;
        let mut failures = 0_u64;
        loop {
            match connect::open(&self.settings, &self.options).await {
                Ok(opened) => {
                    let since = Instant::now();
                    self.log_connected(&opened, unsteady);
                    metrics::connected();
                    let useful = self.serve(opened, failures).await;
                    if useful || since.elapsed() >= STEADY {
                        unsteady = 0;
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.settings.log_failed(&self.options, &error);
                    self.state.send_replace(State::Down {
                        failures,
                        error: Some(error),
                    });
                }
            }
            unsteady = unsteady.saturating_add(1);
            sleep(jittered(config.backoff(unsteady))).await;
        }
    }

    /// Offers a socket to the callers until it ends or is thrown away; says whether it was of
    /// use to them.
    async fn serve(&self, opened: connect::Opened, failures: u64) -> bool {
        let generation = Arc::new(Generation {
            connection: opened.connection,
            server: opened.server,
            runtime: runtime::Handle::current().id(),
            patience: self.deadline(),
            address: opened.address,
            dead: CancellationToken::new(),
            reason: OnceLock::new(),
            useful: AtomicBool::new(false),
            late: AtomicBool::new(false),
            abandoned: Notify::new(),
        });
        self.state.send_replace(State::Up(Arc::clone(&generation)));
        tokio::select! {
            () = opened.driver => generation.closed(),
            () = generation.dead.cancelled() => {}
            () = self.keep_clock(&generation), if self.options.main => {}
            () = self.probe_on_suspicion(&generation) => {}
        }
        self.settings
            .log_lost(&self.options, &generation.address, generation.reason.get());
        if generation.late.load(Ordering::Relaxed) {
            self.settings.suspicion.notify_waiters();
        }
        self.state.send_replace(State::Down {
            failures,
            error: None,
        });
        generation.useful.load(Ordering::Relaxed)
    }

    /// Measures the server's clock now and then; ends when the server does not answer.
    async fn keep_clock(&self, generation: &Generation) {
        loop {
            sleep(CLOCK_PERIOD).await;
            let deadline = self.settings.config.command_deadline;
            // A late answer discards the connection.
            if measure(&self.settings, &self.options, generation, deadline)
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Probes the socket whenever it may have fallen silent; ends when there is no answer. A peer that
    /// vanished costs one deadline, not one for each socket or for each caller.
    async fn probe_on_suspicion(&self, generation: &Generation) {
        loop {
            let limit = tokio::select! {
                // Another socket of the client has had no answer in time.
                () = self.settings.suspicion.notified() => self.deadline().min(PROBE_TIMEOUT),
                // A caller has stopped waiting, maybe soon: a server that is only slow keeps its time.
                () = generation.abandoned.notified() => self.deadline(),
            };
            // A late answer discards the connection.
            if generation
                .send(Command::new("PING").encode(), limit)
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// The longest wait for one answer.
    fn deadline(&self) -> Duration {
        let deadline = self.settings.config.command_deadline;
        self.options
            .timeout
            .map_or(deadline, |own| own.min(deadline))
    }

    fn log_connected(&self, opened: &connect::Opened, attempts: u32) {
        // The next outage is logged at once.
        self.settings.causes.failed.reset();
        if let Some(suppressed) = self.settings.causes.connected.admit() {
            tracing::info!(
                server = %opened.address,
                name = self.options.name.as_deref(),
                version = %opened.server.version,
                attempts,
                suppressed,
                "redis connected"
            );
        }
    }
}

/// Runs a connection's task to its end, also when its runtime drops it.
async fn supervise(inner: Arc<Inner>) {
    let ended = Ended(&inner);
    tokio::select! {
        biased;
        () = inner.stop.cancelled() => {}
        () = inner.run() => {}
    }
    drop(ended);
}

struct Ended<'a>(&'a Inner);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let stopped = self.0.stop.is_cancelled();
        self.0.state.send_modify(|state| match state {
            _ if stopped => *state = State::Closed,
            State::Up(generation) => {
                generation.discard(&"its runtime ended");
                *state = State::Down {
                    failures: 0,
                    error: None,
                };
            }
            State::Down { .. } | State::Closed => {}
        });
        self.0.running.store(false, Ordering::Release);
    }
}
