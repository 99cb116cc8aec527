//! A connection that comes back: one task owns the socket, reconnects it, and throws it away
//! when it cannot be trusted any more.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call::{CallError, Loss, Repeat, Verdict, classify};
use super::connect::{self, ConnectError, Settings, Use};
use super::info::ServerInfo;
use super::retry::jittered;
use super::script::Script;
use crate::clock::Timestamp;
use crate::error::{Chain, Error};
use crate::metrics;
use crate::resp::{self, Batch, Command, Value, name_of};

/// A connection that lived this long was sound, even if nobody used it.
const STEADY: Duration = Duration::from_secs(2);
/// How soon a socket in doubt must answer.
const PROOF: Duration = Duration::from_secs(2);
/// How often an idle main connection proves itself and refreshes the clock.
const CLOCK_PERIOD: Duration = Duration::from_secs(60);

/// One socket's lifetime. Requests that saw it die never touch its successor's replies.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) connection: resp::Connection,
    pub(super) server: Arc<ServerInfo>,
    /// Cancelled when the socket must not be used any more; its owner then closes it.
    dead: CancellationToken,
    reason: OnceLock<String>,
    /// Whether a request was answered: then the next backoff starts anew.
    useful: AtomicBool,
    /// Whether it was given up for its silence.
    late: AtomicBool,
}

impl Generation {
    /// Has the socket closed after a lost answer.
    fn lose(&self, loss: &Loss) {
        if matches!(loss, Loss::Late(_)) {
            self.late.store(true, Ordering::Relaxed);
        }
        self.discard(loss);
    }

    /// Has the socket closed; the first reason is the one that is logged.
    fn discard(&self, reason: &impl Display) {
        self.reason.get_or_init(|| reason.to_string());
        self.dead.cancel();
    }

    fn mark_useful(&self) {
        // Written once: a shared cache line that every request writes would cost.
        if !self.useful.load(Ordering::Relaxed) {
            self.useful.store(true, Ordering::Relaxed);
        }
    }

    /// Sends one command; without an answer in time, the connection is thrown away.
    async fn send(&self, command: Bytes, deadline: Duration) -> Result<Value, Loss> {
        let result = match timeout(deadline, self.connection.request(command)).await {
            Ok(result) => result.map_err(Loss::from),
            Err(_) => Err(Loss::Late(deadline)),
        };
        if matches!(&result, Ok(value) if !matches!(value, Value::ServerError(_))) {
            self.mark_useful();
        }
        result.inspect_err(|loss| self.lose(loss))
    }

    /// Sends several commands at once, for as many answers.
    async fn send_all(
        &self,
        commands: Bytes,
        answers: usize,
        deadline: Duration,
    ) -> Result<Vec<Value>, Loss> {
        let answers = self.connection.request_all(commands, answers);
        let result = match timeout(deadline, answers).await {
            Ok(result) => result.map_err(Loss::from),
            Err(_) => Err(Loss::Late(deadline)),
        };
        if result.is_ok() {
            self.mark_useful();
        }
        result.inspect_err(|loss| self.lose(loss))
    }
}

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
    /// The longest wait of this clone's requests, where it is shorter than the connection's.
    patience: Option<Duration>,
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
    usage: Use,
    state: watch::Sender<State>,
    running: AtomicBool,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Connection {
    /// Prepares a connection; it is opened by its first request.
    pub(super) fn new(
        settings: Arc<Settings>,
        usage: Use,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let inner = Inner {
            settings,
            usage,
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
            patience: None,
        }
    }

    /// Returns a clone whose requests give up earlier, for answers that are of use only until
    /// then. They share the socket, which does not outlive a late answer.
    pub(crate) fn within(&self, patience: Duration) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
            patience: Some(patience),
        }
    }

    /// Sends a command until its fate is known, within the bounds of the configuration.
    ///
    /// # Cancel safety
    /// A dropped call may or may not be executed; no other caller gets its answer.
    pub(crate) async fn request(
        &self,
        command: Command,
        safety: Repeat,
    ) -> Result<Value, CallError> {
        let command = command.encode();
        let mut trial = Trial::new(self, safety);
        loop {
            let generation = trial.live().await?;
            match generation.send(command.clone(), trial.deadline).await {
                Err(loss) => trial.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(name_of(&command), &error) {
                    Verdict::Reconnect(error) => trial.rejected(&generation, error)?,
                    verdict => return Err(trial.answered(verdict.into_error())),
                },
                Ok(value) => return Ok(value),
            }
        }
    }

    /// Sends several commands in one write and returns each one's answer.
    ///
    /// They are not atomic: after an error of one, the others have run.
    pub(crate) async fn pipeline(
        &self,
        batch: &Batch,
        safety: Repeat,
    ) -> Result<Vec<Result<Value, Error>>, CallError> {
        let bytes = batch.encode();
        let mut trial = Trial::new(self, safety);
        loop {
            let generation = trial.live().await?;
            let sent = generation.send_all(bytes.clone(), batch.len(), trial.deadline);
            let values = match sent.await {
                Ok(values) => values,
                Err(loss) => {
                    trial.lost(loss)?;
                    continue;
                }
            };
            let mut unserved = None;
            let mut answers = Vec::with_capacity(values.len());
            for (value, name) in values.into_iter().zip(batch.names()) {
                answers.push(match value {
                    Value::ServerError(error) => match classify(name, &error) {
                        Verdict::Reconnect(error) => {
                            unserved = Some(Chain(&error).to_string());
                            Err(error)
                        }
                        verdict => Err(verdict.into_error()),
                    },
                    value => Ok(value),
                });
            }
            match unserved {
                Some(text) if safety == Repeat::Safe && trial.may_repeat() => {
                    trial.rejected(&generation, Error::overloaded(text))?;
                }
                Some(text) => {
                    generation.discard(&text);
                    return Ok(answers);
                }
                None => return Ok(answers),
            }
        }
    }

    /// Runs a script by its hash; `build` appends the number of keys, the keys and arguments.
    ///
    /// A server that does not know the script gets its text, once per call.
    pub(crate) async fn eval(
        &self,
        script: &Script,
        build: impl Fn(&mut Command),
        safety: Repeat,
    ) -> Result<Value, CallError> {
        let encode = |name: &str, script: &str| {
            let mut command = Command::new(name).arg(script);
            build(&mut command);
            command.encode()
        };
        let mut command = encode("EVALSHA", script.hash());
        let mut trial = Trial::new(self, safety);
        let mut by_text = false;
        loop {
            let generation = trial.live().await?;
            match generation.send(command.clone(), trial.deadline).await {
                Err(loss) => trial.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(script.name(), &error) {
                    Verdict::Reconnect(error) => trial.rejected(&generation, error)?,
                    Verdict::NoScript(_) if !by_text => {
                        by_text = true;
                        command = encode("EVAL", script.source());
                    }
                    verdict => return Err(trial.answered(verdict.into_error())),
                },
                Ok(value) => return Ok(value),
            }
        }
    }

    /// Waits until the connection is open.
    ///
    /// # Errors
    /// Why it is not, once this time has passed.
    pub(crate) async fn open(&self, within: Duration) -> Result<(), Error> {
        self.generation(within).await.map(drop)
    }

    /// Waits until there is a usable connection and returns it.
    pub(super) async fn generation(&self, within: Duration) -> Result<Arc<Generation>, Error> {
        self.live(Instant::now() + within, None).await
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.handle.inner.settings
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
    async fn live(
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
                        "{}: no connection before the deadline",
                        inner.settings.address
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
            match connect::open(&self.settings, &self.usage).await {
                Ok(opened) => {
                    let since = Instant::now();
                    self.log_connected(&opened.server, unsteady);
                    metrics::connected();
                    let useful = self.serve(opened, failures).await;
                    if useful || since.elapsed() >= STEADY {
                        unsteady = 0;
                    }
                }
                Err(error) => {
                    failures += 1;
                    self.settings.log_failed(&self.usage, &error);
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
            dead: CancellationToken::new(),
            reason: OnceLock::new(),
            useful: AtomicBool::new(false),
            late: AtomicBool::new(false),
        });
        self.state.send_replace(State::Up(Arc::clone(&generation)));
        tokio::select! {
            () = opened.driver => generation.discard(&"closed by the server"),
            () = generation.dead.cancelled() => {}
            () = self.keep_clock(&generation), if self.usage.main => {}
            () = self.keep_faith(&generation) => {}
        }
        self.settings.log_lost(&self.usage, generation.reason.get());
        if generation.late.load(Ordering::Relaxed) {
            self.settings.doubt.notify_waiters();
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
            if measure(&self.settings, generation, deadline).await.is_err() {
                return;
            }
        }
    }

    /// Proves the socket whenever another one of the client fell silent, so that a peer that
    /// vanished costs one deadline, not one for each socket; ends when there is no answer.
    async fn keep_faith(&self, generation: &Generation) {
        loop {
            self.settings.doubt.notified().await;
            let limit = self.deadline().min(PROOF);
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
        self.usage
            .patience
            .map_or(deadline, |own| own.min(deadline))
    }

    fn log_connected(&self, server: &ServerInfo, attempts: u32) {
        // The next outage is told at once.
        self.settings.causes.failed.reset();
        if let Some(suppressed) = self.settings.causes.connected.admit() {
            tracing::info!(
                server = %self.settings.address,
                name = self.usage.name.as_deref(),
                version = %server.version,
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

/// Asks for the server's time and aligns the client's clock with it.
pub(super) async fn measure(
    settings: &Settings,
    generation: &Generation,
    deadline: Duration,
) -> Result<Option<Timestamp>, Loss> {
    let sent = Instant::now();
    let value = generation
        .send(Command::new("TIME").encode(), deadline)
        .await?;
    let server = connect::parse_time(&value);
    if let Some(server) = server {
        settings.clock.align(server, sent.elapsed());
    }
    Ok(server)
}

/// One request's way to an answer.
struct Trial<'a> {
    connection: &'a Connection,
    safety: Repeat,
    deadline: Duration,
    start: Instant,
    left: u32,
    /// Whether an earlier sending may have been executed.
    ambiguous: bool,
}

impl<'a> Trial<'a> {
    fn new(connection: &'a Connection, safety: Repeat) -> Self {
        let inner = &connection.handle.inner;
        Self {
            connection,
            safety,
            deadline: connection
                .patience
                .map_or(inner.deadline(), |own| own.min(inner.deadline())),
            start: Instant::now(),
            left: inner.settings.config.retries,
            ambiguous: false,
        }
    }

    fn may_repeat(&self) -> bool {
        self.left > 0
    }

    /// Waits for a connection: as long as for an answer, and as long again after a loss.
    async fn live(&mut self) -> Result<Arc<Generation>, CallError> {
        let waits = if self.ambiguous { 2 } else { 1 };
        self.connection
            .live(self.start + self.deadline * waits, Some(self.left))
            .await
            .map_err(|error| self.unsent(error))
    }

    /// Decides after a lost answer: repeat, or give up with the outcome unknown.
    fn lost(&mut self, loss: Loss) -> Result<(), CallError> {
        if matches!(loss, Loss::Unsent(_)) {
            // As if there had been no connection.
            if self.left == 0 {
                return Err(self.unsent(Error::Unreachable(loss.into())));
            }
            self.left -= 1;
            return Ok(());
        }
        self.ambiguous = true;
        if self.safety == Repeat::Once || self.left == 0 {
            return Err(CallError::unknown(loss));
        }
        self.left -= 1;
        // The next sending gets a whole deadline: others share the connection that a late
        // answer ends.
        if self.start.elapsed() >= self.deadline * 2 {
            return Err(CallError::unknown(loss));
        }
        Ok(())
    }

    /// Decides after an answer that says this server cannot serve: look for it anew.
    fn rejected(&mut self, generation: &Generation, error: Error) -> Result<(), CallError> {
        generation.discard(&Chain(&error));
        if self.left == 0 {
            return Err(self.unsent(error));
        }
        self.left -= 1;
        Ok(())
    }

    /// Words a request that was not executed this time.
    fn unsent(&self, error: Error) -> CallError {
        if self.ambiguous {
            CallError::unknown(error)
        } else {
            CallError::NotExecuted(error)
        }
    }

    /// Words a refusal: after a lost answer it says nothing about the earlier sending.
    fn answered(&self, error: Error) -> CallError {
        if self.ambiguous {
            CallError::unknown(error)
        } else {
            CallError::Answered(error)
        }
    }
}
