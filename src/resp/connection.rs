//! One socket, many callers: requests leave in the order in which they come, and so do answers.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio_util::io::poll_read_buf;

use super::decode::{Decoder, Malformed};
use super::value::{ServerError, Value};

/// Requests that may wait for the socket before callers do.
const QUEUED: usize = 1024;
/// How many requests are taken at once.
const TAKEN: usize = 128;
/// No more requests are taken while this many bytes are to be written.
const FULL: usize = 64 * 1024;
/// A request of this size is written from its own buffer when it has the socket for itself.
const LARGE: usize = 16 * 1024;
/// Room for one read.
const READ: usize = 16 * 1024;
/// A buffer that has grown larger is freed once it is empty.
const KEPT: usize = 1024 * 1024;

/// Sends requests to the socket that its [`Driver`] owns; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    requests: mpsc::Sender<Request>,
    cause: Arc<OnceLock<String>>,
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
}

/// Makes a connection of a stream on which nothing is due.
pub(crate) fn connect<S>(stream: S) -> (Connection, Driver)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, incoming) = mpsc::channel(QUEUED);
    let cause = Arc::new(OnceLock::new());
    let task = Task {
        stream,
        incoming,
        taken: Vec::new(),
        waiting: VecDeque::new(),
        output: Output::default(),
        input: BytesMut::new(),
        decoder: Decoder::default(),
    };
    let driver = Box::pin(drive(task, Arc::clone(&cause)));
    (Connection { requests, cause }, driver)
}

impl Connection {
    /// Sends an encoded command and waits for its answer.
    ///
    /// # Cancel safety
    /// A dropped call may or may not be executed; no other caller gets its answer.
    pub(crate) async fn request(&self, bytes: Bytes) -> Result<Value, Lost> {
        let (sender, answer) = oneshot::channel();
        self.ask(bytes, Waiter::One(sender), answer).await
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
        if answers == 0 {
            return Ok(Vec::new());
        }
        let (sender, answer) = oneshot::channel();
        let waiter = Waiter::Many {
            sender,
            left: answers,
            values: Vec::with_capacity(answers),
        };
        self.ask(bytes, waiter, answer).await
    }

    async fn ask<T>(
        &self,
        bytes: Bytes,
        waiter: Waiter,
        answer: oneshot::Receiver<Result<T, Unsent>>,
    ) -> Result<T, Lost> {
        if self.requests.send(Request { bytes, waiter }).await.is_err() {
            return Err(self.lost(false));
        }
        match answer.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Unsent)) => Err(self.lost(false)),
            Err(_) => Err(self.lost(true)),
        }
    }

    fn lost(&self, sent: bool) -> Lost {
        let cause = self.cause.get().map_or("it was given up", String::as_str);
        Lost {
            cause: cause.to_owned(),
            sent,
        }
    }
}

/// A request on its way to the socket.
#[derive(Debug)]
struct Request {
    bytes: Bytes,
    waiter: Waiter,
}

/// The request never reached the socket.
#[derive(Debug)]
struct Unsent;

/// Whoever waits for an answer, or for several. Dropping it says that the answer is lost.
#[derive(Debug)]
enum Waiter {
    One(oneshot::Sender<Result<Value, Unsent>>),
    Many {
        sender: oneshot::Sender<Result<Vec<Value>, Unsent>>,
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

    fn fail_unsent(self) {
        match self {
            Self::One(sender) => drop(sender.send(Err(Unsent))),
            Self::Many { sender, .. } => drop(sender.send(Err(Unsent))),
        }
    }
}

/// Why a socket ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("closed by the server")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("the server sent an answer without a request")]
    Unasked,
    #[error("the server ended it: {0}")]
    Refused(ServerError),
    #[error("it is not used any more")]
    Unused,
}

/// Which requests have been taken.
#[derive(Debug, Clone, Copy)]
enum Taken {
    /// As many as there is room for.
    UntilFull,
    /// All that there are; the task is woken for the next.
    ForNow,
    /// All that there will ever be.
    All,
}

/// What the driver owns.
struct Task<S> {
    stream: S,
    incoming: mpsc::Receiver<Request>,
    /// Room for requests that have just been taken; empty between steps.
    taken: Vec<Request>,
    /// Whose answers are due, in the order of the requests, each with the place in the output at
    /// which its request begins.
    waiting: VecDeque<(u64, Waiter)>,
    output: Output,
    input: BytesMut,
    decoder: Decoder,
}

async fn drive<S: AsyncRead + AsyncWrite + Unpin>(mut task: Task<S>, cause: Arc<OnceLock<String>>) {
    let end = poll_fn(|context| task.poll(context)).await;
    // Before those who wait learn of it.
    cause.get_or_init(|| end.to_string());
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Moves bytes for as long as there are any.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        loop {
            let taken = self.take(context);
            if let Poll::Ready(Err(error)) = self.output.poll_write(&mut self.stream, context) {
                return Poll::Ready(End::Io(error));
            }
            match taken {
                // Nothing wakes us for those left behind.
                Taken::UntilFull if self.output.len() < FULL => continue,
                Taken::All if self.waiting.is_empty() && self.output.is_empty() => {
                    return Poll::Ready(End::Unused);
                }
                Taken::UntilFull | Taken::ForNow | Taken::All => {}
            }
            if let Err(end) = ready!(self.poll_read(context)) {
                return Poll::Ready(end);
            }
        }
    }

    /// Takes requests until the output is full.
    fn take(&mut self, context: &mut Context<'_>) -> Taken {
        while self.output.len() < FULL {
            let Poll::Ready(count) = self
                .incoming
                .poll_recv_many(context, &mut self.taken, TAKEN)
            else {
                return Taken::ForNow;
            };
            if count == 0 {
                return Taken::All;
            }
            for Request { bytes, waiter } in self.taken.drain(..) {
                // Nobody would know whether it was executed.
                if !waiter.is_gone() {
                    self.waiting.push_back((self.output.end(), waiter));
                    self.output.append(bytes);
                }
            }
        }
        Taken::UntilFull
    }

    /// Reads once and hands over the answers.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ);
        let read = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input);
        if ready!(read).map_err(End::Io)? == 0 {
            return Poll::Ready(Err(End::Closed));
        }
        while let Some(value) = self.decoder.decode(&mut self.input)? {
            let Some((start, waiter)) = self.waiting.pop_front() else {
                return Poll::Ready(Err(match value {
                    Value::ServerError(error) => End::Refused(error),
                    _ => End::Unasked,
                }));
            };
            if let Some(waiter) = waiter.answer(value) {
                self.waiting.push_front((start, waiter));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for Task<S> {
    /// Tells those whose requests never reached the socket; the others learn that their answers
    /// are lost.
    fn drop(&mut self) {
        self.incoming.close();
        let written = self.output.written;
        for (start, waiter) in self.waiting.drain(..).rev() {
            if start < written {
                break;
            }
            waiter.fail_unsent();
        }
        while let Ok(request) = self.incoming.try_recv() {
            request.waiter.fail_unsent();
        }
    }
}

/// Bytes to be written.
#[derive(Debug, Default)]
struct Output {
    bytes: BytesMut,
    /// Written before `bytes`: a large request that had the socket for itself.
    large: Bytes,
    /// How many bytes the stream has taken.
    written: u64,
    flushing: bool,
}

impl Output {
    fn len(&self) -> usize {
        self.large.len() + self.bytes.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many bytes there will have been once all are written.
    fn end(&self) -> u64 {
        self.written + self.len() as u64
    }

    fn append(&mut self, bytes: Bytes) {
        if bytes.len() >= LARGE && self.is_empty() {
            self.large = bytes;
        } else {
            self.bytes.extend_from_slice(&bytes);
        }
    }

    /// Writes until all is written or the stream takes no more.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let next: &[u8] = if self.large.is_empty() {
                &self.bytes
            } else {
                &self.large
            };
            let count = ready!(Pin::new(&mut *stream).poll_write(context, next))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            self.flushing = true;
            if self.large.is_empty() {
                self.bytes.advance(count);
            } else {
                self.large.advance(count);
            }
        }
        if self.flushing {
            self.large = Bytes::new();
            if self.bytes.capacity() > KEPT {
                self.bytes = BytesMut::new();
            }
            ready!(Pin::new(stream).poll_flush(context))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
