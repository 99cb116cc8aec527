//! The conversation with a peer: answers by id, events in order, stderr for failure messages.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{ChildStderr, ChildStdout};
use tokio::sync::{oneshot, watch};

/// The most that is kept of stderr, in bytes.
const STDERR_KEPT: usize = 64 * 1024;

/// An error that a peer's method threw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerError {
    /// The error's class, such as `UnrecoverableError`.
    pub name: String,
    /// What it said.
    pub message: String,
    /// Its `code`, if it had one: `BullMQ` uses small negative numbers.
    pub code: Option<String>,
    /// Where it was thrown.
    pub stack: String,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.message)
    }
}

impl std::error::Error for PeerError {}

type Answer = std::result::Result<Value, PeerError>;

#[derive(Debug)]
pub(super) struct Wire {
    state: Mutex<State>,
    /// Counts events; its end is the end of the peer's output.
    news: Mutex<Option<watch::Sender<u64>>>,
    heard: watch::Receiver<u64>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    /// `None` once the peer's output has ended.
    pending: Option<HashMap<u64, oneshot::Sender<Answer>>>,
    events: VecDeque<Value>,
    stderr: String,
}

impl Wire {
    /// Starts to read a peer's output, until it ends.
    pub(super) fn listen(stdout: ChildStdout, stderr: ChildStderr) -> Arc<Self> {
        let (news, heard) = watch::channel(0);
        let wire = Arc::new(Self {
            state: Mutex::new(State {
                pending: Some(HashMap::new()),
                ..State::default()
            }),
            news: Mutex::new(Some(news)),
            heard,
        });
        let answers = Arc::clone(&wire);
        tokio::spawn(async move {
            each_line(stdout, |line| answers.hear(line)).await;
            answers.end();
        });
        let errors = Arc::clone(&wire);
        tokio::spawn(async move { each_line(stderr, |line| errors.note(line)).await });
        wire
    }

    /// An id for a request, and where its answer will arrive. The answer's sender is dropped when
    /// the peer ends.
    pub(super) fn expect_answer(&self) -> (u64, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        if let Some(pending) = &mut state.pending {
            pending.insert(id, sender);
        }
        (id, receiver)
    }

    /// Takes the first event that is wanted; `None` if the peer ends without one.
    pub(super) async fn take_event(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut heard = self.heard.clone();
        loop {
            heard.borrow_and_update();
            {
                let mut state = self.state();
                if let Some(at) = state.events.iter().position(&wanted) {
                    return state.events.remove(at);
                }
            }
            if heard.changed().await.is_err() {
                // The end may have come right behind the event.
                let mut state = self.state();
                let at = state.events.iter().position(&wanted)?;
                return state.events.remove(at);
            }
        }
    }

    pub(super) fn events(&self) -> Vec<Value> {
        self.state().events.iter().cloned().collect()
    }

    pub(super) fn stderr(&self) -> String {
        self.state().stderr.clone()
    }

    /// Waits for the end of the peer's output.
    pub(super) async fn ended(&self) {
        let mut heard = self.heard.clone();
        while heard.changed().await.is_ok() {}
    }

    fn hear(&self, line: &str) {
        let Ok(mut message) = serde_json::from_str::<Value>(line) else {
            self.note(&format!("on stdout, and no JSON: {line}"));
            return;
        };
        if let Some(id) = message.get("id").and_then(Value::as_u64) {
            let sender = self
                .state()
                .pending
                .as_mut()
                .and_then(|all| all.remove(&id));
            let answer = match message.get_mut("error") {
                Some(error) => Err(peer_error(error)),
                None => Ok(message.get_mut("result").map_or(Value::Null, Value::take)),
            };
            if let Some(sender) = sender {
                // The caller may have given up.
                sender.send(answer).ok();
            }
        } else {
            self.state().events.push_back(message);
            if let Some(news) = &*self.news() {
                news.send_modify(|count| *count += 1);
            }
        }
    }

    fn note(&self, line: &str) {
        let mut state = self.state();
        if state.stderr.len() < STDERR_KEPT {
            state.stderr.push_str(line);
            state.stderr.push('\n');
        }
    }

    fn end(&self) {
        self.state().pending = None;
        *self.news() = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, Option<watch::Sender<u64>>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn peer_error(error: &Value) -> PeerError {
    let text = |field: &str| match error.get(field) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    PeerError {
        name: text("name").unwrap_or_default(),
        message: text("message").unwrap_or_default(),
        code: text("code"),
        stack: text("stack").unwrap_or_default(),
    }
}

async fn each_line(stream: impl AsyncRead + Unpin, mut hear: impl FnMut(&str)) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        hear(&line);
    }
}
