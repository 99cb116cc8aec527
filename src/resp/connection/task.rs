//! What owns a socket: it writes requests in their order and hands over the answers.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::output::Output;
use super::{Failed, KEPT, Request, Waiter};
use crate::resp::decode::{Decoder, Malformed};
use crate::resp::value::{ServerError, Value};

/// How many requests are taken at once.
const TAKEN: usize = 128;
/// No more requests are taken while this many bytes are to be written.
const FULL: usize = 64 * 1024;
/// Room for one read.
const READ: usize = 16 * 1024;
/// A caller writes its request itself while fewer than this many answers are due. With more, those who
/// ask share a write.
const FEW: usize = 2;

/// Why a socket ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
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
    #[error("no answer came in time")]
    Late,
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

/// A request whose answer is due.
struct Due {
    /// The place in the output at which it begins.
    start: u64,
    deadline: Option<Instant>,
    waiter: Waiter,
}

/// The socket with what is on its way. It is locked for as long as one step takes: by its driver, or by a
/// caller that writes its own request.
pub(super) struct Task<S> {
    /// None once the driver is gone.
    stream: Option<S>,
    incoming: mpsc::Receiver<Request>,
    /// Room for requests that have just been taken; empty between steps.
    taken: Vec<Request>,
    /// In the order of the requests.
    waiting: VecDeque<Due>,
    output: Output,
    input: BytesMut,
    decoder: Decoder,
    /// Wakes the driver, once it has run.
    driver: Option<Waker>,
    /// Why a caller could not write.
    failed: Option<io::Error>,
    alarm: Alarm,
}

/// What callers may do with a task, whatever its stream is.
pub(super) trait Line: Send {
    /// Writes a request if that takes nothing away from others; otherwise it is given back, for the
    /// driver to write.
    fn write_now(&mut self, request: Request) -> Option<Request>;
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Line for Task<S> {
    fn write_now(&mut self, request: Request) -> Option<Request> {
        let free = self.waiting.len() < FEW
            && self.output.is_empty()
            && self.failed.is_none()
            && self.alarm.rings_by(request.deadline)
            // Those came before.
            && self.incoming.is_empty();
        let (true, Some(driver), Some(stream)) = (free, &self.driver, &mut self.stream) else {
            return Some(request);
        };
        self.waiting.push_back(Due {
            start: self.output.end(),
            deadline: request.deadline,
            waiter: request.waiter,
        });
        self.output.append(request.bytes);
        // What the stream does not take now is the driver's to write: it is the one that is woken.
        let mut context = Context::from_waker(driver);
        if let Poll::Ready(Err(error)) = self.output.poll_write(stream, &mut context) {
            self.failed = Some(error);
            driver.wake_by_ref();
        }
        None
    }
}

impl<S> Task<S> {
    pub(super) fn new(stream: S, incoming: mpsc::Receiver<Request>) -> Self {
        Self {
            stream: Some(stream),
            incoming,
            taken: Vec::new(),
            waiting: VecDeque::new(),
            output: Output::default(),
            input: BytesMut::new(),
            decoder: Decoder::default(),
            driver: None,
            failed: None,
            alarm: Alarm::default(),
        }
    }

    /// Closes the socket. Tells those whose requests never reached it; the others learn that their
    /// answers are lost.
    pub(super) fn close(&mut self) {
        self.stream = None;
        self.incoming.close();
        let now = self.alarm.rang;
        let written = self.output.written;
        for due in self.waiting.drain(..).rev() {
            if due.start >= written {
                due.waiter.fail(Failed::Unsent);
            } else if now.is_some_and(|now| due.deadline.is_some_and(|deadline| deadline <= now)) {
                due.waiter.fail(Failed::Late);
            }
        }
        while let Ok(request) = self.incoming.try_recv() {
            request.waiter.fail(Failed::Unsent);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<S> {
    /// Moves bytes for as long as there are any.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        match &mut self.driver {
            Some(driver) => driver.clone_from(context.waker()),
            None => self.driver = Some(context.waker().clone()),
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(End::Io(error));
        }
        loop {
            let taken = self.take(context);
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(End::Unused);
            };
            if let Poll::Ready(Err(error)) = self.output.poll_write(stream, context) {
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
            match self.poll_read(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                // An answer that is there counts, however late it was read.
                Poll::Pending => {
                    ready!(self.alarm.poll(&self.waiting, context));
                    return Poll::Ready(End::Late);
                }
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
            for request in self.taken.drain(..) {
                // Nobody would know whether it was executed.
                if !request.waiter.is_gone() {
                    self.alarm.set(request.deadline);
                    self.waiting.push_back(Due {
                        start: self.output.end(),
                        deadline: request.deadline,
                        waiter: request.waiter,
                    });
                    self.output.append(request.bytes);
                }
            }
        }
        Taken::UntilFull
    }

    /// Reads once and hands over the answers.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(End::Unused));
        };
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        self.input.reserve(READ);
        let read = poll_read_buf(Pin::new(stream), context, &mut self.input);
        if ready!(read).map_err(End::Io)? == 0 {
            return Poll::Ready(Err(End::Closed));
        }
        while let Some(value) = self.decoder.decode(&mut self.input)? {
            let Some(due) = self.waiting.pop_front() else {
                return Poll::Ready(Err(match value {
                    Value::ServerError(error) => End::Refused(error),
                    _ => End::Unasked,
                }));
            };
            if let Some(waiter) = due.waiter.answer(value) {
                self.waiting.push_front(Due { waiter, ..due });
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The deadlines of all requests, by one timer. Setting a timer for each request costs more than writing
/// it; this one is set again when it rings, which is once in the time that an answer may take.
#[derive(Default)]
struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    /// When it rings, if it is set.
    at: Option<Instant>,
    /// Whether the timer does not know of it yet.
    is_new: bool,
    /// When an answer was found to be late.
    rang: Option<Instant>,
}

impl Alarm {
    /// Returns whether it is set to ring by then.
    fn rings_by(&self, deadline: Option<Instant>) -> bool {
        deadline.is_none_or(|deadline| self.at.is_some_and(|at| at <= deadline))
    }

    /// Has it ring by then.
    fn set(&mut self, deadline: Option<Instant>) {
        if !self.rings_by(deadline) {
            self.at = deadline;
            self.is_new = true;
        }
    }

    /// Ready when the deadline of an answer that somebody waits for has passed.
    fn poll(&mut self, waiting: &VecDeque<Due>, context: &mut Context<'_>) -> Poll<()> {
        while let Some(at) = self.at {
            let timer = match &mut self.timer {
                Some(timer) => {
                    if self.is_new {
                        timer.as_mut().reset(at);
                    }
                    timer
                }
                None => self.timer.insert(Box::pin(sleep_until(at))),
            };
            self.is_new = false;
            ready!(timer.as_mut().poll(context));
            let now = Instant::now();
            let deadlines = waiting.iter().filter(|due| !due.waiter.is_gone());
            let first = deadlines.filter_map(|due| due.deadline).min();
            if first.is_some_and(|first| first <= now) {
                self.rang = Some(now);
                return Poll::Ready(());
            }
            self.at = first;
            self.is_new = true;
        }
        Poll::Pending
    }
}
