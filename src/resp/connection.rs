//! One socket, many callers: requests leave in the order in which they come, and so do answers.

mod output;
mod task;

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::value::Value;
use task::{End, Line, Task};

/// Requests that may wait for the socket before callers do.
const QUEUED: usize = 1024;
/// A buffer that has grown larger is freed once it is empty.
const KEPT: usize = 1024 * 1024;

/// Sends requests to the socket that its [`Driver`] owns; clones share it.
///
/// A request leaves with its caller if the socket is free, so that nobody has to be woken for it. Others
/// are queued: the driver writes all that there are at once.
#[derive(Clone)]
pub(crate) struct Connection {
    requests: mpsc::Sender<Request>,
    line: Arc<Mutex<dyn Line>>,
    end: Arc<OnceLock<End>>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// Moves bytes between callers and the socket until it ends. Dropping it closes the socket, and
/// every request without an answer fails.
pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// There is no answer, for the socket has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Why.
    pub(crate) cause: String,
    /// Whether the socket got any byte of the request; otherwise it was not executed.
    pub(crate) sent: bool,
    /// Whether the socket was given up because this answer had not come by its deadline.
    pub(crate) late: bool,
}

impl Lost {
    /// The answer had not come in time.
    pub(crate) fn late() -> Self {
        Self {
            cause: End::Late.to_string(),
            sent: true,
            late: true,
        }
    }
}

/// Makes a connection of a stream on which nothing is due.
pub(crate) fn connect<S>(stream: S) -> (Connection, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, incoming) = mpsc::channel(QUEUED);
    let end = Arc::new(OnceLock::new());
    let task = Arc::new(Mutex::new(Task::new(stream, incoming)));
    let driving = Driving(Arc::clone(&task));
    let driver = Box::pin(drive(driving, Arc::clone(&end)));
    let connection = Connection {
        requests,
        line: task,
        end,
    };
    (connection, driver)
}

/// Drives a task, and closes its socket when it is dropped.
struct Driving<S>(Arc<Mutex<Task<S>>>);

impl<S> Driving<S> {
    fn task(&self) -> MutexGuard<'_, Task<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Drop for Driving<S> {
    fn drop(&mut self) {
        self.task().close();
    }
}

async fn drive<S>(driving: Driving<S>, end: Arc<OnceLock<End>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let why = poll_fn(|context| driving.task().poll(context)).await;
    // Before those who wait learn of it.
    end.get_or_init(|| why);
}

impl Connection {
    /// Sends an encoded command and waits for its answer.
    ///
    /// # Cancel safety
    /// A dropped call may or may not be executed; no other caller gets its answer.
    pub(crate) async fn request(&self, bytes: Bytes) -> Result<Value, Lost> {
        self.request_by(bytes, None).await
    }

    /// The same with a deadline: without an answer by then the driver ends, unless the caller has
    /// gone. The driver's runtime must be running.
    pub(crate) async fn request_by(
        &self,
        bytes: Bytes,
        deadline: Option<Instant>,
    ) -> Result<Value, Lost> {
        let (sender, answer) = oneshot::channel();
        self.ask(bytes, deadline, Waiter::One(sender), answer).await
    }

    /// Sends as many encoded commands as there are `answers` in one write, and waits for all of
    /// them.
    ///
    /// # Cancel safety
    /// As [`Connection::request`].
    pub(crate) async fn request_all(
        &self,
        bytes: Bytes,
        answers: usize,
    ) -> Result<Vec<Value>, Lost> {
        self.request_all_by(bytes, answers, None).await
    }

    /// The same with a deadline, as for [`Connection::request_by`].
    pub(crate) async fn request_all_by(
        &self,
        bytes: Bytes,
        answers: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<Value>, Lost> {
        if answers == 0 {
            return Ok(Vec::new());
        }
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter::Many {
            sender,
            left: answers,
            values: Vec::with_capacity(answers),
        };
        self.ask(bytes, deadline, waiter, answer).await
    }

    async fn ask<T>(
        &self,
        bytes: Bytes,
        deadline: Option<Instant>,
        waiter: Waiter,
        answer: oneshot::Receiver<Result<T, Failed>>,
    ) -> Result<T, Lost> {
        let request = Request {
            bytes,
            deadline,
            waiter,
        };
        if let Some(request) = self.write_now(request)
            && self.requests.send(request).await.is_err()
        {
            return Err(self.lost(Failed::Unsent));
        }
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(failed)) => Err(self.lost(failed)),
            Err(_) => Err(self.lost(Failed::Lost)),
        }
    }

    /// Returns whether the driver has ended because an answer was late.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self.end.get(), Some(End::Late))
    }

    /// Writes a request unless the socket is in use; then it is given back.
    fn write_now(&self, request: Request) -> Option<Request> {
        match self.line.try_lock() {
            Ok(mut line) => line.write_now(request),
            Err(_) => Some(request),
        }
    }

    fn lost(&self, failed: Failed) -> Lost {
        let end = self.end.get();
        Lost {
            cause: end.map_or_else(|| "it was given up".to_owned(), End::to_string),
            sent: !matches!(failed, Failed::Unsent),
            late: matches!(failed, Failed::Late),
        }
    }
}

/// A request on its way to the socket.
#[derive(Debug)]
struct Request {
    bytes: Bytes,
    deadline: Option<Instant>,
    waiter: Waiter,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy)]
enum Failed {
    /// The request never reached the socket.
    Unsent,
    /// It did not come by its deadline.
    Late,
    /// The socket has ended.
    Lost,
}

/// Whoever waits for an answer, or for several. Dropping it says that the answer is lost.
#[derive(Debug)]
enum Waiter {
    One(oneshot::Sender<Result<Value, Failed>>),
    Many {
        sender: oneshot::Sender<Result<Vec<Value>, Failed>>,
        left: usize,
        values: Vec<Value>,
    },
}

impl Waiter {
    /// Returns whether the caller has stopped waiting.
    fn is_gone(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Many { sender, .. } => sender.is_closed(),
        }
    }

    /// Hands over an answer; returns the waiter if more are due. One that has gone away misses
    /// nothing.
    fn answer(self, value: Value) -> Option<Self> {
        match self {
            Self::One(sender) => {
                drop(sender.send(Ok(value)));
                None
            }
            Self::Many {
                sender,
                left,
                mut values,
            } => {
                values.push(value);
                if left > 1 {
                    return Some(Self::Many {
                        sender,
                        left: left - 1,
                        values,
                    });
                }
                drop(sender.send(Ok(values)));
                None
            }
        }
    }

    fn fail(self, failed: Failed) {
        match self {
            Self::One(sender) => drop(sender.send(Err(failed))),
            Self::Many { sender, .. } => drop(sender.send(Err(failed))),
        }
    }
}

#[cfg(test)]
mod tests;
