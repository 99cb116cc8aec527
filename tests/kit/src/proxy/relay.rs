//! One proxied connection: commands one way, replies the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::rule::{ReplyFate, Verdict};
use super::{Command, Direction, Link, Shared};
use crate::resp::{self, Value};

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One side closed it.
    Closed,
    /// The proxy cuts it, with a TCP reset.
    Cut,
}

/// A command whose reply is outstanding.
#[derive(Debug)]
struct Pending {
    name: String,
    verdict: Verdict,
}

#[derive(Debug)]
struct Relay {
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
    /// The count of half-open phases when the connection began; a later one mutes it permanently.
    half_open_phase: u64,
    pending: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Pending>,
    /// Replies no longer follow commands (after `SUBSCRIBE` or `MONITOR`).
    streaming: bool,
    muted: bool,
}

/// Relays between a client and the server until either closes, or `killed` changes.
pub(super) async fn serve(
    mut client: TcpStream,
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
    mut killed: watch::Receiver<u64>,
) {
    let half_open_phase = link.borrow().half_open_phase;
    let relay = Relay {
        link,
        half_open_phase,
        pending: Mutex::default(),
        shared,
    };
    let target = relay.shared.target();
    let end = match TcpStream::connect(("127.0.0.1", target)).await {
        Err(_) => End::Cut,
        Ok(mut server) => {
            client.set_nodelay(true).ok();
            server.set_nodelay(true).ok();
            let (from_client, to_client) = client.split();
            let (from_server, to_server) = server.split();
            tokio::select! {
                end = relay.commands(from_client, to_server) => end,
                end = relay.replies(from_server, to_client) => end,
                _ = killed.changed() => End::Cut,
            }
        }
    };
    if end == End::Cut {
        // A reset instead of an orderly close.
        client.set_zero_linger().ok();
    }
    relay.shared.closed();
}

impl Relay {
    async fn commands(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = Vec::new();
        loop {
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return End::Closed,
                Ok(_) => {}
            }
            loop {
                let (command, used) = match Command::decode(&buffer) {
                    Ok(Some(found)) => found,
                    Ok(None) => break,
                    Err(_) => return End::Cut,
                };
                let raw: Vec<u8> = buffer.drain(..used).collect();
                match self.command(&command, &raw, &mut to).await {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    Err(_) => return End::Closed,
                }
            }
        }
    }

    async fn command(
        &self,
        command: &Command,
        raw: &[u8],
        to: &mut WriteHalf<'_>,
    ) -> std::io::Result<Option<End>> {
        let name = command.name();
        self.shared.count_command(&name);
        let verdict = self.shared.rules.judge(command);
        if !verdict.delay.is_zero() {
            tokio::time::sleep(verdict.delay).await;
        }
        if verdict.reset_before {
            self.shared.count_reset();
            return Ok(Some(End::Cut));
        }
        self.passable(Direction::ToServer).await;
        {
            let mut state = self.state();
            state.streaming |= command.starts_stream();
            if !state.streaming {
                state.queue.push_back(Pending { name, verdict });
            }
        }
        self.write(raw, to).await.map(|()| None)
    }

    async fn replies(&self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> End {
        let mut buffer = Vec::new();
        loop {
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return End::Closed,
                Ok(_) => {}
            }
            loop {
                let (reply, used) = match resp::decode(&buffer) {
                    Ok(Some(found)) => found,
                    Ok(None) => break,
                    Err(_) => return End::Cut,
                };
                let raw: Vec<u8> = buffer.drain(..used).collect();
                match self.reply(&reply, &raw, &mut to).await {
                    Ok(None) => {}
                    Ok(Some(end)) => return end,
                    Err(_) => return End::Closed,
                }
            }
        }
    }

    async fn reply(
        &self,
        reply: &Value,
        raw: &[u8],
        to: &mut WriteHalf<'_>,
    ) -> std::io::Result<Option<End>> {
        let pending = match reply {
            Value::Push(_) => None,
            _ => self.state().queue.pop_front(),
        };
        if let Some(Pending { name, verdict }) = pending {
            if !verdict.reply_delay.is_zero() {
                tokio::time::sleep(verdict.reply_delay).await;
            }
            let fate = verdict.reply;
            if fate != ReplyFate::Pass {
                self.shared.count_dropped(&name);
            }
            verdict.reply_arrived();
            match fate {
                ReplyFate::Pass => {}
                ReplyFate::Drop => return Ok(Some(End::Cut)),
                ReplyFate::Halve => {
                    let half = raw.get(..raw.len() / 2).unwrap_or_default();
                    self.write(half, to).await?;
                    return Ok(Some(End::Cut));
                }
                ReplyFate::Swallow => self.state().muted = true,
            }
        }
        self.passable(Direction::ToClient).await;
        if self.muted() {
            return Ok(None);
        }
        self.write(raw, to).await.map(|()| None)
    }

    /// Whether the client gets nothing any more, though its connection stays open.
    fn muted(&self) -> bool {
        let link = *self.link.borrow();
        link.half_open || link.half_open_phase != self.half_open_phase || self.state().muted
    }

    /// Waits until a direction is open. A proxy that is gone lets nothing through.
    async fn passable(&self, direction: Direction) {
        let mut link = self.link.clone();
        if link.wait_for(|link| link.passes(direction)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Writes in pieces of the size, and at the speed, that the link has at present.
    async fn write(&self, mut bytes: &[u8], to: &mut WriteHalf<'_>) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let link = *self.link.borrow();
            let size = link.piece.unwrap_or(usize::MAX).clamp(1, bytes.len());
            let (piece, rest) = bytes.split_at(size);
            to.write_all(piece).await?;
            bytes = rest;
            if let Some(speed) = link.bytes_per_second {
                let bits = u32::try_from(size).unwrap_or(u32::MAX);
                let pause = f64::from(bits) / f64::from(speed.max(1));
                tokio::time::sleep(Duration::from_secs_f64(pause)).await;
            } else if !bytes.is_empty() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
