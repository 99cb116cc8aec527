//! Commands and replies for modules that do not know the redis crate.

use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, timeout};

use super::Health;
use super::call::Repeat;
use super::link::Connection;
use super::script::Script;
use crate::clock::Clock;
use crate::error::{Error, Result};

/// One command with its arguments.
pub(crate) struct Command(Cmd);

impl Command {
    /// Starts a command.
    pub(crate) fn new(name: &str) -> Self {
        Self(redis::cmd(name))
    }

    /// Appends text or bytes.
    pub(crate) fn arg(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.arg(value.as_ref());
        self
    }

    /// Appends a number.
    pub(crate) fn int(mut self, value: u64) -> Self {
        self.0.arg(value);
        self
    }
}

/// One run of a script with its keys and arguments.
pub(crate) struct ScriptCall {
    script: &'static Script,
    keys: usize,
    args: Vec<Vec<u8>>,
}

impl ScriptCall {
    /// Starts a call with all its keys.
    pub(crate) fn new(script: &'static Script, keys: &[&str]) -> Self {
        Self {
            script,
            keys: keys.len(),
            args: keys.iter().map(|key| key.as_bytes().to_vec()).collect(),
        }
    }

    /// Appends text or bytes.
    pub(crate) fn arg(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.args.push(value.into());
        self
    }

    /// Appends several texts.
    #[cfg(feature = "encryption")]
    pub(crate) fn args(mut self, values: &[&str]) -> Self {
        self.args
            .extend(values.iter().map(|value| value.as_bytes().to_vec()));
        self
    }

    /// Appends a number.
    pub(crate) fn int(self, value: impl Into<u64>) -> Self {
        let value: u64 = value.into();
        self.arg(value.to_string())
    }
}

/// A reply that is no error.
pub(crate) struct Reply(Value);

impl Reply {
    /// Reads a whole number.
    pub(crate) fn int(self) -> Result<i64> {
        self.read("a number")
    }

    /// Reads a count as "at least one".
    pub(crate) fn flag(self) -> Result<bool> {
        self.int().map(|count| count > 0)
    }

    /// Reads a value that may be missing.
    pub(crate) fn bytes(self) -> Result<Option<Vec<u8>>> {
        self.read("a value")
    }

    /// Reads a list of whole numbers.
    pub(crate) fn numbers(self) -> Result<Vec<i64>> {
        self.read("a list of numbers")
    }

    /// Reads a list of values, each of which may be missing.
    #[cfg(feature = "http-cache")]
    pub(crate) fn list(self) -> Result<Vec<Option<Vec<u8>>>> {
        self.read("a list of values")
    }

    /// Reads field and value pairs.
    pub(crate) fn pairs(self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.read("pairs")
    }

    /// Reads one page of a scan: the next cursor and the keys.
    pub(crate) fn page(self) -> Result<(u64, Vec<Vec<u8>>)> {
        self.read("a page of a scan")
    }

    /// Reads a text.
    #[cfg(feature = "sessions")]
    pub(crate) fn text(self) -> Result<String> {
        self.read("a text")
    }

    /// Reads a list of texts that may be missing.
    #[cfg(feature = "sessions")]
    pub(crate) fn texts(self) -> Result<Vec<Option<String>>> {
        self.read("a list of texts")
    }

    /// Reads two numbers.
    #[cfg(feature = "sessions")]
    pub(crate) fn ints(self) -> Result<[i64; 2]> {
        self.read("two numbers")
    }

    /// Reads a text, or the number that says why there is none.
    #[cfg(feature = "oauth")]
    pub(crate) fn text_or_int(self) -> Result<Result<String, i64>> {
        match self.0 {
            Value::Int(number) => Ok(Err(number)),
            other => Self(other).read("a text or a number").map(Ok),
        }
    }

    fn read<T: redis::FromRedisValue>(self, expected: &str) -> Result<T> {
        redis::from_redis_value(self.0)
            .map_err(|_| Error::Protocol(format!("the reply is not {expected}")))
    }
}

impl Connection {
    /// Sends a command, as [`Connection::request`].
    pub(crate) async fn call(&self, command: Command, safety: Repeat) -> Result<Reply> {
        Ok(Reply(self.request(&command.0, safety).await?))
    }

    /// Runs a script.
    pub(crate) async fn run(&self, call: ScriptCall, safety: Repeat) -> Result<Reply> {
        let build = |cmd: &mut Cmd| {
            cmd.arg(call.keys);
            for arg in &call.args {
                cmd.arg(arg);
            }
        };
        Ok(Reply(self.eval(call.script, build, safety).await?))
    }

    /// Runs a task that the client waits for when it closes.
    #[cfg(any(feature = "http-cache", feature = "http-rate-limit"))]
    pub(crate) fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks().spawn(task)
    }

    /// Returns the clock that follows this connection's server.
    pub(crate) fn clock(&self) -> &Clock {
        &self.settings().clock
    }

    /// Asks for a sign of life within `deadline`.
    pub(crate) async fn health(&self, deadline: Duration) -> Health {
        let started = Instant::now();
        let ping = Command::new("PING");
        let error = match timeout(deadline, self.call(ping, Repeat::Safe)).await {
            Ok(result) => result.err(),
            Err(_) => Some(Error::Timeout(deadline)),
        };
        Health {
            latency: started.elapsed(),
            error,
            eviction_policy: self
                .current()
                .and_then(|generation| generation.server.eviction_policy.clone()),
        }
    }

    /// Returns the database that this connection works on.
    pub(crate) fn db(&self) -> u32 {
        self.settings().config.db
    }
}
