//! Requests and their replies.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Health;
use super::call::Repeat;
use super::link::Connection;
use super::script::ScriptCall;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::resp::{Command, Value};

/// A reply that is no error.
pub(crate) struct Reply(Value);

impl Reply {
    /// Reads a whole number.
    pub(crate) fn int(self) -> Result<i64> {
        self.0.into_int()
    }

    /// Reads a count as "at least one".
    pub(crate) fn flag(self) -> Result<bool> {
        self.int().map(|count| count > 0)
    }

    /// Reads a value that may be missing.
    pub(crate) fn bytes(self) -> Result<Option<Vec<u8>>> {
        optional(self.0, Value::into_bytes)
    }

    /// Reads a list of whole numbers.
    pub(crate) fn numbers(self) -> Result<Vec<i64>> {
        each(self.0, Value::into_int)
    }

    /// Reads a list of values, each of which may be missing.
    #[cfg(feature = "http-cache")]
    pub(crate) fn list(self) -> Result<Vec<Option<Vec<u8>>>> {
        each(self.0, |value| optional(value, Value::into_bytes))
    }

    /// Reads field and value pairs.
    pub(crate) fn pairs(self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let pairs = self.0.into_pairs()?.into_iter();
        pairs
            .map(|(field, value)| Ok((field.into_bytes()?, value.into_bytes()?)))
            .collect()
    }

    /// Reads one page of a scan: the next cursor and the keys.
    pub(crate) fn page(self) -> Result<(u64, Vec<Vec<u8>>)> {
        let page = <[Value; 2]>::try_from(self.0.into_array()?);
        let [cursor, keys] = page.map_err(|_| unexpected("a page of a scan"))?;
        let cursor = cursor.into_text()?.parse();
        let cursor = cursor.map_err(|_| unexpected("a page of a scan"))?;
        Ok((cursor, each(keys, Value::into_bytes)?))
    }

    /// Reads a text.
    #[cfg(feature = "sessions")]
    pub(crate) fn text(self) -> Result<String> {
        self.0.into_text()
    }

    /// Reads a list of texts that may be missing. Bytes that are not UTF-8 become U+FFFD.
    #[cfg(feature = "sessions")]
    pub(crate) fn texts(self) -> Result<Vec<Option<String>>> {
        let text = |value: Value| {
            String::from_utf8(value.into_bytes()?)
                .or_else(|error| Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()))
        };
        each(self.0, |value| optional(value, text))
    }

    /// Reads two numbers.
    #[cfg(feature = "sessions")]
    pub(crate) fn ints(self) -> Result<[i64; 2]> {
        let numbers = each(self.0, Value::into_int)?;
        numbers.try_into().map_err(|_| unexpected("two numbers"))
    }

    /// Reads a value, or the number that says why there is none.
    pub(crate) fn bytes_or_int(self) -> Result<Result<Vec<u8>, i64>> {
        match self.0 {
            Value::Int(number) => Ok(Err(number)),
            other => other.into_bytes().map(Ok),
        }
    }
}

fn unexpected(expected: &str) -> Error {
    Error::Protocol(format!("the reply is not {expected}"))
}

/// Reads each item.
fn each<T>(value: Value, read: impl Fn(Value) -> Result<T>) -> Result<Vec<T>> {
    value.into_array()?.into_iter().map(read).collect()
}

/// Reads a value that may be missing.
fn optional<T>(value: Value, read: impl Fn(Value) -> Result<T>) -> Result<Option<T>> {
    value.into_option().map(read).transpose()
}

impl Connection {
    /// Sends a command, as [`Connection::request`].
    pub(crate) async fn call(&self, command: Command, safety: Repeat) -> Result<Reply> {
        Ok(Reply(self.request(command, safety).await?))
    }

    /// Runs a script.
    pub(crate) async fn run(&self, call: ScriptCall, safety: Repeat) -> Result<Reply> {
        let build = |command: &mut Command| call.append_to(command);
        Ok(Reply(self.eval(call.script(), build, safety).await?))
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

    /// Sends a PING, on a cluster to every node that has slots, and waits within `deadline`.
    pub(crate) async fn health(&self, deadline: Duration) -> Health {
        let started = Instant::now();
        let asked = timeout(deadline, async {
            for node in self.each().await? {
                node.call(Command::new("PING"), Repeat::Safe).await?;
            }
            Ok::<_, Error>(())
        });
        let error = match asked.await {
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
