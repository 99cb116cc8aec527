//! Node.js processes that tests drive: JSON lines over stdin and stdout.

mod wire;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::{Child, ChildStdin, Command};

use crate::watchdog::Watchdog;
use crate::{KitError, RedisServer, Result};
use wire::Wire;

pub use wire::PeerError;

/// Longest wait for an answer, unless the caller says otherwise.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);

/// Longest wait for a peer to end when its stdin closes.
const END_DEADLINE: Duration = Duration::from_secs(20);

/// A version of `BullMQ` that peers can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BullMq {
    /// `BullMQ` 6.x, pinned in `tests/interop/package.json`.
    V6,
    /// `BullMQ` 5.x, pinned there too.
    V5,
}

impl BullMq {
    /// Every version that oxbull shares queues with.
    pub const ALL: [Self; 2] = [Self::V6, Self::V5];

    /// The package's name in `tests/interop/package.json`.
    pub fn package(self) -> &'static str {
        match self {
            Self::V6 => "bullmq",
            Self::V5 => "bullmq-v5",
        }
    }
}

/// A Node.js process that runs a script from `tests/interop`.
///
/// [`call`](Self::call) may be used by many tasks at once. Dropping the peer kills it.
#[derive(Debug)]
pub struct NodePeer {
    wire: Arc<Wire>,
    stdin: tokio::sync::Mutex<Option<ChildStdin>>,
    process: Mutex<NodeProcess>,
    pid: u32,
}

/// Describes a [`NodePeer`] to start.
#[derive(Debug, Clone)]
#[must_use]
pub struct NodePeerBuilder {
    script: PathBuf,
    envs: Vec<(String, String)>,
}

impl NodePeerBuilder {
    /// Sets an environment variable of the process.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.envs.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the process; it need not be ready to answer when this returns.
    ///
    /// # Errors
    /// There is no Node.js, or the packages of `tests/interop` are not installed.
    pub fn start(self) -> Result<NodePeer> {
        let packages = interop_dir().join("node_modules");
        if !packages.join("bullmq").is_dir() {
            return Err(KitError::new(format!(
                "these tests need BullMQ: run `npm ci --ignore-scripts` in {}",
                interop_dir().display()
            )));
        }
        let node = std::env::var_os("OXBULL_NODE")
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| "node".into());
        let mut child = Command::new(&node)
            .arg(interop_dir().join(&self.script))
            .current_dir(interop_dir())
            .envs(self.envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                KitError::because(
                    "these tests need Node.js 20 or later (`node` on PATH, or OXBULL_NODE)",
                    error,
                )
            })?;
        let pid = child
            .id()
            .ok_or_else(|| KitError::new("the node peer ended at once"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(KitError::new("the node peer has no pipes"));
        };
        Ok(NodePeer {
            wire: Wire::listen(stdout, stderr),
            stdin: tokio::sync::Mutex::new(Some(stdin)),
            process: Mutex::new(NodeProcess {
                watchdog: Some(Watchdog::over(pid, None)?),
                child,
            }),
            pid,
        })
    }
}

impl NodePeer {
    /// Describes a peer that runs `script`, a path inside `tests/interop`.
    pub fn builder(script: impl AsRef<Path>) -> NodePeerBuilder {
        NodePeerBuilder {
            script: script.as_ref().to_path_buf(),
            envs: Vec::new(),
        }
    }

    /// Starts `peer.mjs` with a version of `BullMQ`, against a Redis server without login.
    ///
    /// # Errors
    /// Node.js or its packages are missing, or the script did not start.
    pub async fn bullmq(version: BullMq, redis_port: u16) -> Result<Self> {
        Self::bullmq_with(version, redis_port, |builder| builder).await
    }

    /// [`bullmq`](Self::bullmq) for a [`RedisServer`] reached through `port`, which may be a
    /// proxy's. Effects are counted on the server itself, past the proxy.
    ///
    /// # Errors
    /// As for `bullmq`.
    pub async fn bullmq_through(version: BullMq, server: &RedisServer, port: u16) -> Result<Self> {
        let effects = server.port().to_string();
        Self::bullmq_with(version, port, |builder| {
            builder.env("EFFECTS_PORT", effects)
        })
        .await
    }

    /// [`bullmq`](Self::bullmq) with further settings, such as `REDIS_PASSWORD`.
    ///
    /// # Errors
    /// As for `bullmq`.
    pub async fn bullmq_with(
        version: BullMq,
        redis_port: u16,
        adjust: impl FnOnce(NodePeerBuilder) -> NodePeerBuilder,
    ) -> Result<Self> {
        let builder = Self::builder("peer.mjs")
            .env("BULLMQ", version.package())
            .env("REDIS_PORT", redis_port.to_string());
        let peer = adjust(builder).start()?;
        peer.call("peer.info", json!({})).await?;
        Ok(peer)
    }

    /// Asks the peer and returns its answer.
    ///
    /// # Errors
    /// The method failed, the peer ended, or no answer came within 60 s; the text carries what
    /// the peer wrote to stderr.
    pub async fn call(&self, method: &str, params: Value) -> Result<Value> {
        self.try_call(method, params)
            .await?
            .map_err(|error| self.failure(&format!("{method}: {error}")))
    }

    /// Asks the peer, distinguishing a method that failed from a peer that did.
    ///
    /// # Errors
    /// The peer ended, or no answer came within 60 s.
    pub async fn try_call(
        &self,
        method: &str,
        params: Value,
    ) -> Result<std::result::Result<Value, PeerError>> {
        let (id, answer) = self.wire.expect_answer();
        let line = json!({ "id": id, "method": method, "params": params }).to_string();
        let task = async {
            self.send(&line).await?;
            answer
                .await
                .map_err(|_| self.failure(&format!("{method}: the peer ended")))
        };
        match tokio::time::timeout(ANSWER_DEADLINE, task).await {
            Ok(answer) => answer,
            Err(_) => Err(self.failure(&format!("{method}: no answer within {ANSWER_DEADLINE:?}"))),
        }
    }

    /// Waits for an event that satisfies `wanted`, among those not taken yet, and takes it.
    /// The others stay for later calls.
    ///
    /// # Errors
    /// None came within `deadline`; the text carries the events that did.
    pub async fn wait_event(
        &self,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        match tokio::time::timeout(deadline, self.wire.take_event(wanted)).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(self.failure("the peer ended before the event came")),
            Err(_) => Err(self.failure(&format!(
                "no such event within {deadline:?}; others: {}",
                Value::Array(self.wire.events())
            ))),
        }
    }

    /// [`wait_event`](Self::wait_event) for an event by its name, such as `worker.completed`.
    ///
    /// # Errors
    /// As for `wait_event`.
    pub async fn wait_event_named(&self, deadline: Duration, name: &str) -> Result<Value> {
        self.wait_event(deadline, |event| {
            event.get("event").and_then(Value::as_str) == Some(name)
        })
        .await
    }

    /// The events that came and were not taken.
    pub fn events(&self) -> Vec<Value> {
        self.wire.events()
    }

    /// What the peer has written to stderr.
    pub fn stderr(&self) -> String {
        self.wire.stderr()
    }

    /// The peer's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills the peer (SIGKILL): its locks stay until they expire.
    pub fn kill_hard(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.kill();
    }

    /// Stops the peer in its tracks (SIGSTOP).
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen peer go on (SIGCONT).
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Sends SIGTERM, as an orchestrator would.
    ///
    /// # Errors
    /// It does not run.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Closes the peer's stdin, upon which it exits, and waits for its end.
    ///
    /// # Errors
    /// It did not end within 20 s; it is killed then.
    pub async fn close(self) -> Result<()> {
        self.stdin.lock().await.take();
        let ended = tokio::time::timeout(END_DEADLINE, self.wire.ended()).await;
        ended.map_err(|_| self.failure("the peer did not end"))
    }

    async fn send(&self, line: &str) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let mut guard = self.stdin.lock().await;
        let Some(stdin) = guard.as_mut() else {
            return Err(KitError::new("the node peer is closed"));
        };
        let bytes = format!("{line}\n");
        stdin
            .write_all(bytes.as_bytes())
            .await
            .map_err(|error| self.failure(&format!("cannot write to the peer: {error}")))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = process
            .child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw)
            .ok_or_else(|| KitError::new("the node peer does not run"))?;
        kill_process(pid, signal)
            .map_err(|error| KitError::because("cannot signal the node peer", error))
    }

    fn failure(&self, text: &str) -> KitError {
        let stderr = self.stderr();
        let written = if stderr.is_empty() {
            String::new()
        } else {
            format!("\nits stderr:\n{stderr}")
        };
        KitError::new(format!("node peer {}: {text}{written}", self.pid))
    }
}

#[derive(Debug)]
struct NodeProcess {
    /// `None` once called off, which is before the child is reaped.
    watchdog: Option<Watchdog>,
    child: Child,
}

impl NodeProcess {
    fn kill(&mut self) {
        self.watchdog.take();
        // A child that ended already is as good as one that was killed.
        self.child.start_kill().ok();
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `tests/interop`, wherever the repository is.
pub fn interop_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop")
}
