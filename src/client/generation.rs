//! One socket's lifetime, as the requests that use it see it.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::call::LostReply;
use super::config::Address;
use super::info::ServerInfo;
use crate::clock::after;
use crate::resp::{self, Lost, Value};

/// One socket's lifetime. Requests that saw it die never touch its successor's replies.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) connection: resp::Connection,
    pub(super) server: Arc<ServerInfo>,
    pub(super) address: Address,
    /// The runtime that drives it.
    pub(super) runtime: runtime::Id,
    /// The longest wait for an answer.
    pub(super) patience: Duration,
    /// Cancelled when the socket must not be used any more; its owner then closes it.
    pub(super) dead: CancellationToken,
    pub(super) reason: OnceLock<String>,
    /// Whether a request was answered: then the next backoff starts from its shortest wait.
    pub(super) useful: AtomicBool,
    /// Whether it was given up for its silence.
    pub(super) late: AtomicBool,
    /// Notified when a caller has stopped waiting for an answer.
    pub(super) abandoned: Notify,
}

/// A request without an answer. Dropped as such, it leaves the suspicion that there is none to come:
/// callers with little patience must not hide a silent peer from each other.
struct Unanswered<'a>(&'a Generation);

impl Unanswered<'_> {
    /// Notes that the answer has come, or will not.
    fn end(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.abandoned.notify_one();
    }
}

impl Generation {
    /// Has the socket closed after a lost answer.
    pub(super) fn lose(&self, loss: &LostReply) {
        if matches!(loss, LostReply::Late(_)) {
            self.late.store(true, Ordering::Relaxed);
        }
        self.discard(loss);
    }

    /// Notes that the socket has ended by itself.
    pub(super) fn closed(&self) {
        if self.connection.is_late() {
            self.lose(&LostReply::Late(self.patience));
        } else {
            self.discard(&"closed by the server");
        }
    }

    /// Has the socket closed; the first reason is the one that is logged.
    pub(super) fn discard(&self, reason: &impl Display) {
        self.reason.get_or_init(|| reason.to_string());
        self.dead.cancel();
    }

    pub(super) fn mark_useful(&self) {
        // Written once: a shared cache line that every request writes would cost.
        if !self.useful.load(Ordering::Relaxed) {
            self.useful.store(true, Ordering::Relaxed);
        }
    }

    /// The deadline of an answer that may take so long, if the connection keeps it: it does for all that
    /// wait as long as it allows, with one timer. Who waits for less, or lives on another runtime, which
    /// may run while the connection's does not, has a timer of its own.
    fn kept(&self, deadline: Duration) -> Option<Instant> {
        let here = || runtime::Handle::try_current().is_ok_and(|here| here.id() == self.runtime);
        (deadline == self.patience && here()).then(|| after(Instant::now(), deadline))
    }

    /// Sends one command; without an answer in time, the connection is thrown away.
    pub(super) async fn send(
        &self,
        command: Bytes,
        deadline: Duration,
    ) -> Result<Value, LostReply> {
        let unanswered = Unanswered(self);
        let result = match self.kept(deadline) {
            Some(until) => self.connection.request_by(command, Some(until)).await,
            None => within(deadline, self.connection.request(command)).await,
        };
        unanswered.end();
        let serves = matches!(&result, Ok(value) if !matches!(value, Value::ServerError(_)));
        self.ended(result, serves, deadline)
    }

    /// Sends several commands at once, for as many answers.
    pub(super) async fn send_all(
        &self,
        commands: Bytes,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Value>, LostReply> {
        let unanswered = Unanswered(self);
        let connection = &self.connection;
        let result = match self.kept(deadline) {
            Some(until) => {
                connection
                    .request_all_by(commands, count, Some(until))
                    .await
            }
            None => within(deadline, connection.request_all(commands, count)).await,
        };
        unanswered.end();
        let serves = result.is_ok();
        self.ended(result, serves, deadline)
    }

    /// Takes in how a request ended that had so long.
    fn ended<T>(
        &self,
        result: Result<T, Lost>,
        serves: bool,
        deadline: Duration,
    ) -> Result<T, LostReply> {
        if serves {
            self.mark_useful();
        }
        let result = result.map_err(|lost| LostReply::of(lost, deadline));
        result.inspect_err(|loss| self.lose(loss))
    }
}

/// Waits so long, with a timer.
async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Lost> {
    let answer = timeout(deadline, answer).await;
    answer.unwrap_or_else(|_| Err(Lost::late()))
}
