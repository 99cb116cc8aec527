//! Blocking reads: each on a socket of its own that dies with the call that waits on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::call::{Classified, LostReply, classify};
use super::config::Address;
use super::connect::{self, ConnectionOptions, Opened, Settings};
use super::info::seconds;
use super::retry::jittered;
use crate::error::{Error, Result};
use crate::resp::{Batch, Command, Value};

/// How much later than its own timeout a blocking read may answer.
const GRACE: Duration = Duration::from_secs(2);

/// A connection for commands that wait at the server.
///
/// It connects when used. A read that fails, is late or is dropped while it waits closes the
/// socket; the next read opens another, with the same name. What such a read may have taken
/// from the server is lost, so its owner must look at the queue before it blocks again.
#[derive(Debug)]
pub(crate) struct BlockingConnection {
    settings: Arc<Settings>,
    options: ConnectionOptions,
    stop: CancellationToken,
    open: Option<Socket>,
    failures: u32,
    id: BlockedId,
    /// The slot of the keys that it waits for, on a cluster, and whether its node has to be looked up again.
    slot: Option<u16>,
    misled: bool,
}

/// Tells which of the server's clients a blocking connection is, and of which node of a cluster; follows its
/// reconnects.
#[derive(Debug, Clone, Default)]
pub(crate) struct BlockedId(Arc<Mutex<Option<Seat>>>);

/// The id, and the node of a cluster.
type Seat = (i64, Option<Address>);

impl BlockedId {
    /// Returns the server's id of the connection while it is open and known, and its node.
    pub(super) fn get(&self) -> Option<Seat> {
        self.seat().clone()
    }

    fn seat(&self) -> MutexGuard<'_, Option<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Socket(Opened, BlockedId);

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Socket").field(&self.1.get()).finish()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        *self.1.seat() = None;
    }
}

impl BlockingConnection {
    pub(super) fn new(
        settings: Arc<Settings>,
        name: Option<&str>,
        slot: Option<u16>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            settings,
            options: ConnectionOptions {
                name: name.map(str::to_owned),
                ..ConnectionOptions::default()
            },
            stop,
            open: None,
            failures: 0,
            id: BlockedId::default(),
            slot,
            misled: false,
        }
    }

    /// Returns a handle that names this connection to [`unblock`](super::Client::unblock).
    pub(crate) fn id(&self) -> BlockedId {
        self.id.clone()
    }

    /// Waits up to `timeout` for the lowest member of the first non-empty sorted set of `keys`.
    ///
    /// # Errors
    /// Any error may have cost a popped member. After a failure, the next call waits for the
    /// reconnect backoff before it connects.
    ///
    /// # Cancel safety
    /// Dropping the call while it waits closes the connection; a member popped at that moment
    /// is lost.
    pub(crate) async fn bzpopmin(
        &mut self,
        keys: &[&str],
        timeout: Duration,
    ) -> Result<Option<(String, String, f64)>> {
        let answers = self
            .read(timeout, |timeout| {
                let pop = Command::new("BZPOPMIN").args(keys);
                Batch::from_iter([pop.arg(seconds(timeout))])
            })
            .await?;
        let Some(popped) = answers.into_iter().next().and_then(Value::into_option) else {
            return Ok(None);
        };
        match <[Value; 3]>::try_from(popped.into_array()?) {
            Ok([key, member, score]) => Ok(Some((
                key.into_text()?,
                member.into_text()?,
                score.into_float()?,
            ))),
            Err(_) => Err(Error::Protocol("BZPOPMIN: not three values".to_owned())),
        }
    }

    /// Waits up to `timeout` for entries of a stream behind the id `after`, and reads at most
    /// `count` of them. Returns the oldest entry up to `after` as it was before the wait, the
    /// answer to the read, and that oldest entry once more, as it was when the read ended.
    ///
    /// # Errors
    /// Nothing is lost by an error. After a failure, the next call waits for the reconnect
    /// backoff before it connects.
    pub(crate) async fn xread(
        &mut self,
        key: &str,
        after: &str,
        count: usize,
        timeout: Duration,
    ) -> Result<[Value; 3]> {
        let oldest = Command::new("XRANGE")
            .arg(key)
            .arg("-")
            .arg(after)
            .arg("COUNT")
            .arg(1);
        let answers = self
            .read(timeout, |timeout| {
                let read = Command::new("XREAD")
                    .arg("BLOCK")
                    .arg(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
                    .arg("COUNT")
                    .arg(count)
                    .arg("STREAMS")
                    .arg(key)
                    .arg(after);
                Batch::from_iter([oldest.clone(), read, oldest])
            })
            .await?;
        answers
            .try_into()
            .map_err(|_| Error::Protocol("XREAD: too few answers".to_owned()))
    }

    /// Waits as long as after a failed connection, for an owner whose command was refused.
    pub(crate) async fn rest(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.wait().await;
    }

    /// Waits for the reconnect backoff, or until the client is closed.
    async fn wait(&mut self) {
        let wait = jittered(self.settings.config.backoff(self.failures));
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = sleep(wait) => {}
        }
    }

    /// Sends the commands that `build` makes for the timeout the server accepts, and waits for
    /// their answers a little longer than that.
    pub(crate) async fn read(
        &mut self,
        wait: Duration,
        build: impl FnOnce(Duration) -> Batch,
    ) -> Result<Vec<Value>> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                self.close();
                Err(Error::Closed)
            }
            values = self.read_open(wait, build) => values,
        }
    }

    async fn read_open(
        &mut self,
        wait: Duration,
        build: impl FnOnce(Duration) -> Batch,
    ) -> Result<Vec<Value>> {
        let mut socket = match self.open.take() {
            Some(socket) => socket,
            None => self.connect().await?,
        };
        let wait = socket.0.server.block_timeout(wait);
        let batch = build(wait);
        let opened = &mut socket.0;
        let limit = wait.saturating_add(GRACE);
        let answer = timeout(limit, async {
            let asked = opened.connection.request_all(batch.encode(), batch.len());
            tokio::pin!(asked);
            tokio::select! {
                biased;
                answer = &mut asked => answer,
                // It may have delivered the answer before it ended; it has failed the others.
                () = &mut opened.driver => asked.await,
            }
        });
        let answer = match answer.await {
            Ok(answer) => answer.map_err(LostReply::from),
            Err(_) => Err(LostReply::Late(limit)),
        };
        match answer {
            Ok(values) => match refusal(&batch, &values) {
                Some(Classified::Elsewhere(redirect, error)) => {
                    self.failures = self.failures.saturating_add(1);
                    let to = redirect.to(&socket.0.address);
                    if let (Some(slots), Some((true, slot, address))) = (&self.settings.slots, to) {
                        slots.learn(slot, address);
                    } else {
                        self.misled = true;
                    }
                    Err(error)
                }
                Some(Classified::Reconnect(error)) => {
                    self.misled = true;
                    self.failures = self.failures.saturating_add(1);
                    Err(error)
                }
                Some(classified) => {
                    self.misled = false;
                    self.open = Some(socket);
                    Err(classified.into_error())
                }
                None => {
                    self.failures = 0;
                    self.misled = false;
                    self.open = Some(socket);
                    Ok(values)
                }
            },
            Err(loss) => {
                self.misled = true;
                self.failures = self.failures.saturating_add(1);
                self.settings
                    .log_lost(&self.options, &socket.0.address, Some(&loss.to_string()));
                if matches!(loss, LostReply::Late(_)) {
                    self.settings.suspicion.notify_waiters();
                }
                Err(Error::Indeterminate(loss.into()))
            }
        }
    }

    /// Closes the socket.
    pub(crate) fn close(&mut self) {
        self.open = None;
    }

    async fn connect(&mut self) -> Result<Socket> {
        if self.failures > 0 {
            self.wait().await;
        }
        if let (Some(slots), Some(slot)) = (&self.settings.slots, self.slot) {
            if (self.misled || slots.owner(slot).is_none())
                && let Err(error) = slots.refresh(&self.settings).await
            {
                self.failures = self.failures.saturating_add(1);
                return Err(error.to_error());
            }
            self.options.node = slots.owner(slot);
        }
        match connect::open(&self.settings, &self.options).await {
            Ok(opened) => {
                let node = &self.options.node;
                *self.id.seat() = opened.client_id.map(|id| (id, node.clone()));
                Ok(Socket(opened, self.id.clone()))
            }
            Err(error) => {
                self.misled = true;
                self.failures = self.failures.saturating_add(1);
                self.settings.log_failed(&self.options, &error);
                Err(error.to_error())
            }
        }
    }
}

/// Finds the first command that the server refused.
fn refusal(batch: &Batch, values: &[Value]) -> Option<Classified> {
    batch
        .names()
        .zip(values)
        .find_map(|(name, value)| match value {
            Value::ServerError(error) => Some(classify(name, error)),
            _ => None,
        })
}
