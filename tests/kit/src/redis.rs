//! Private Redis servers that a test may kill, freeze and start again.

mod builder;
mod process;

use std::collections::BTreeMap;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

pub use builder::{RedisServerBuilder, TlsFiles};

use crate::resp::{Connection, Value};
use crate::{KitError, Result, eventually};
use process::Process;

/// Longest wait for a server to start, or to stop when asked to.
const SERVER_DEADLINE: Duration = Duration::from_secs(30);

/// A Redis server of one's own: a child process on a free loopback port, with a directory of its
/// own for its data, its configuration and its log.
///
/// Dropping it kills the server and removes the directory.
#[derive(Debug)]
pub struct RedisServer {
    /// Declared before `dir`, so that the server is gone when its directory is removed.
    process: Mutex<Option<Process>>,
    config: Mutex<Vec<String>>,
    binary: PathBuf,
    port: u16,
    tls_port: Option<u16>,
    /// What follows the configuration file on the command line.
    arguments: &'static [&'static str],
    login: Option<(String, String)>,
    dir: tempfile::TempDir,
}

impl RedisServer {
    /// Starts a server without persistence, and waits until it answers.
    ///
    /// # Errors
    /// There is no Redis on this machine, or it did not start; the text carries its log.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Starts a server with lines of `redis.conf`, such as `appendonly yes`.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with(lines: &[&str]) -> Result<Self> {
        Self::builder().configs(lines).start().await
    }

    /// Describes a server to start.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The port for plain connections; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for TLS connections, if [`RedisServerBuilder::tls`] asked for it.
    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    /// `redis://127.0.0.1:port/0`, with user name and password if the server wants them.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// [`url`](Self::url) with another port, for instance that of a proxy.
    pub fn url_at(&self, port: u16) -> String {
        let login = match &self.login {
            Some((user, password)) if user == "default" => format!(":{password}@"),
            Some((user, password)) => format!("{user}:{password}@"),
            None => String::new(),
        };
        format!("redis://{login}127.0.0.1:{port}/0")
    }

    /// The server's directory: `redis.conf`, `redis.log`, and what it persists.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(Process::pid)
    }

    /// The last lines of the server's log.
    pub fn log_tail(&self) -> String {
        process::log_tail(self.dir())
    }

    /// Kills the server (SIGKILL): no farewell to clients, nothing written on the way out.
    /// Does nothing if it does not run.
    pub fn kill_hard(&self) {
        self.running().take();
    }

    /// Asks the server to stop (SIGTERM), which closes its connections and persists what its
    /// configuration says. Does nothing if it does not run.
    ///
    /// # Errors
    /// It did not stop within 30 s; it is killed then.
    pub async fn stop_graceful(&self) -> Result<()> {
        let Some(mut process) = self.running().take() else {
            return Ok(());
        };
        process.signal(Signal::TERM)?;
        eventually(SERVER_DEADLINE, || ready(process.has_ended())).await
    }

    /// Starts the server again on the same port and directory, killing it before if it runs.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart(&self) -> Result<()> {
        self.kill_hard();
        self.launch().await
    }

    /// [`restart`](Self::restart) with further lines of `redis.conf`, kept from then on.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn restart_with(&self, lines: &[&str]) -> Result<()> {
        lock(&self.config).extend(lines.iter().map(ToString::to_string));
        self.restart().await
    }

    /// Stops the server's process in its tracks (SIGSTOP): connections stay open and mute.
    ///
    /// # Errors
    /// The server does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen server go on (SIGCONT).
    ///
    /// # Errors
    /// The server does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Opens a connection, logged in if the server wants that.
    ///
    /// # Errors
    /// The server does not run, or refused the login.
    pub async fn connect(&self) -> Result<Connection> {
        let mut connection = Connection::open(self.port).await?;
        if let Some((user, password)) = &self.login {
            connection.call(&["AUTH", user, password]).await?;
        }
        Ok(connection)
    }

    /// Runs one command over a connection of its own: `cli(&["SET", "a", "b"])`.
    ///
    /// # Errors
    /// The server cannot be reached, did not answer within 20 s, or answered with an error.
    pub async fn cli<A: AsRef<[u8]>>(&self, args: &[A]) -> Result<Value> {
        self.connect().await?.call(args).await
    }

    /// [`cli`](Self::cli) for commands that answer with a number.
    ///
    /// # Errors
    /// As for `cli`, and if the reply is not a number.
    pub async fn int(&self, args: &[&str]) -> Result<i64> {
        let reply = self.cli(args).await?;
        reply
            .int()
            .ok_or_else(|| KitError::new(format!("{args:?} answered {reply:?}, not a number")))
    }

    /// [`cli`](Self::cli) for commands that answer with a string, or `None` for nil.
    ///
    /// # Errors
    /// As for `cli`.
    pub async fn text(&self, args: &[&str]) -> Result<Option<String>> {
        Ok(self.cli(args).await?.text())
    }

    /// The fields of one section of `INFO`, such as `cpu`.
    ///
    /// # Errors
    /// As for [`cli`](Self::cli).
    pub async fn info(&self, section: &str) -> Result<BTreeMap<String, String>> {
        let text = self.text(&["INFO", section]).await?.unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .collect())
    }

    /// Processor time the server has used since it started, in microseconds, user and system.
    ///
    /// # Errors
    /// As for [`cli`](Self::cli).
    pub async fn used_cpu_us(&self) -> Result<u64> {
        let info = self.info("cpu").await?;
        let mut total = Duration::ZERO;
        for field in ["used_cpu_user", "used_cpu_sys"] {
            let seconds = info
                .get(field)
                .and_then(|value| value.trim().parse::<f64>().ok())
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .ok_or_else(|| KitError::new(format!("INFO cpu has no number in {field}")))?;
            total += seconds;
        }
        u64::try_from(total.as_micros()).map_err(|error| KitError::because("INFO cpu", error))
    }

    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        lock(&self.process)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.running()
            .as_ref()
            .ok_or_else(|| KitError::new("the redis server does not run"))?
            .signal(signal)
    }

    /// Starts the process and waits until it serves commands.
    async fn launch(&self) -> Result<()> {
        let lines = lock(&self.config).clone();
        *self.running() = Some(Process::spawn(
            &self.binary,
            self.dir(),
            &lines,
            self.arguments,
        )?);
        if eventually(SERVER_DEADLINE, || self.serves()).await? {
            return Ok(());
        }
        self.kill_hard();
        Err(KitError::because(
            format!("redis on port {} ended while starting", self.port),
            self.log_tail(),
        ))
    }

    /// `Ok(true)` once commands are served, `Ok(false)` once the process has ended.
    async fn serves(&self) -> Result<bool> {
        if self.running().as_mut().is_none_or(Process::has_ended) {
            return Ok(false);
        }
        self.cli(&["PING"]).await.map(|_| true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
