//! A TCP proxy between a client and Redis that loses, delays and cuts what tests ask for.

mod command;
mod relay;
mod rule;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

pub use command::Command;
pub use rule::{Rule, RuleHandle};

use crate::{KitError, Result, free_port};
use rule::Rules;

/// Longest wait for the proxy itself to open or close its port.
const PROXY_DEADLINE: Duration = Duration::from_secs(20);

/// A proxy on a loopback port in front of a Redis server's plain port.
///
/// It understands enough of the protocol to tell commands and replies apart, so that a test can
/// say "the third reply to this script is lost". It runs on a thread of its own: a test that
/// keeps its executor busy does not slow it down. Dropping it resets all connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    link: watch::Sender<Link>,
    listening: watch::Receiver<bool>,
    /// Each change resets the connections that are open; gone, it ends the thread.
    kill: Option<watch::Sender<u64>>,
    thread: Option<JoinHandle<()>>,
}

/// A direction through the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Commands do not reach the server.
    ToServer,
    /// Replies do not reach the client.
    ToClient,
    /// Neither.
    Both,
}

/// What a proxy has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyStats {
    /// Connections accepted since the start.
    pub connections: u64,
    /// Connections open now.
    pub open: u64,
    /// Commands received, by name in upper case.
    pub commands: BTreeMap<String, u64>,
    /// Replies that a rule kept from the client, by the command's name.
    pub dropped: BTreeMap<String, u64>,
    /// Connections that a rule reset before a command reached the server.
    pub resets: u64,
}

impl ProxyStats {
    /// How many commands of this name have been received.
    pub fn count(&self, name: &str) -> u64 {
        self.commands.get(name).copied().unwrap_or_default()
    }

    /// How many commands have been received.
    pub fn total(&self) -> u64 {
        self.commands.values().sum()
    }

    /// How many replies have been dropped.
    pub fn total_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }
}

impl Proxy {
    /// Starts a proxy in front of a loopback port. No server needs to listen there yet.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(target: u16) -> Result<Self> {
        let port = free_port()?;
        let shared = Arc::new(Shared {
            target: AtomicU16::new(target),
            rules: Rules::default(),
            stats: Mutex::default(),
        });
        let (link, link_receiver) = watch::channel(Link::OPEN);
        let (kill, kill_receiver) = watch::channel(0);
        let (listening_sender, listening) = watch::channel(false);
        let door = Door {
            port,
            shared: Arc::clone(&shared),
            link: link_receiver,
            kill: kill_receiver,
            listening: listening_sender,
        };
        let (ready, started) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("oxbull-test-proxy".to_owned())
            .spawn(move || run(door, ready))
            .map_err(|error| KitError::because("cannot start the proxy's thread", error))?;
        started
            .await
            .map_err(|_| KitError::new("the proxy's thread ended early"))??;
        let proxy = Self {
            port,
            shared,
            link,
            listening,
            kill: Some(kill),
            thread: Some(thread),
        };
        proxy.wait_listening(true).await?;
        Ok(proxy)
    }

    /// The port clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:port/0`. For a server with a login see
    /// [`RedisServer::url_at`](crate::RedisServer::url_at).
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Puts a rule in force, for open connections too.
    pub fn add(&self, rule: Rule) -> RuleHandle {
        self.shared.rules.add(rule)
    }

    /// Takes all rules out of force.
    pub fn clear_rules(&self) {
        self.shared.rules.clear();
    }

    /// Ends every disturbance but the rules: accepts connections and forwards what was held.
    /// Connections that were half open stay mute.
    ///
    /// # Errors
    /// The port could not be bound again.
    pub async fn pass(&self) -> Result<()> {
        self.link.send_modify(|link| {
            *link = Link {
                half_open_phase: link.half_open_phase,
                ..Link::OPEN
            };
        });
        self.wait_listening(true).await
    }

    /// Closes the port: new connections are refused, those that are open go on.
    ///
    /// # Errors
    /// The proxy's thread is gone.
    pub async fn refuse(&self) -> Result<()> {
        self.link.send_modify(|link| link.refuse = true);
        self.wait_listening(false).await
    }

    /// Keeps connections open, present and new ones, but answers nothing: as if the peer had
    /// vanished. Commands still reach the server. Such a connection stays mute.
    pub fn half_open(&self) {
        self.link.send_modify(|link| {
            link.half_open = true;
            link.half_open_phase += 1;
        });
    }

    /// Holds what goes in a direction until [`pass`](Self::pass), like a network partition.
    pub fn blackhole(&self, direction: Direction) {
        self.link.send_modify(|link| {
            link.held = match link.held {
                Some(held) if held != direction => Some(Direction::Both),
                _ => Some(direction),
            };
        });
    }

    /// Forwards in pieces of `size` bytes, each a write of its own; 1 splits everything.
    pub fn split(&self, size: usize) {
        self.link.send_modify(|link| link.piece = Some(size.max(1)));
    }

    /// Forwards at most so many bytes a second, per connection and direction.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.link.send_modify(|link| {
            link.bytes_per_second = Some(bytes_per_second.max(1));
            // Ten pieces a second, unless they are split further.
            let piece = usize::try_from(bytes_per_second / 10).unwrap_or(1).max(1);
            link.piece = Some(link.piece.map_or(piece, |size| size.min(piece)));
        });
    }

    /// Resets all open connections.
    pub fn kill_all(&self) {
        if let Some(kill) = &self.kill {
            kill.send_modify(|count| *count += 1);
        }
    }

    /// Sends connections opened from now on to another port. Follow with
    /// [`kill_all`](Self::kill_all) to move those that are open.
    pub fn retarget(&self, port: u16) {
        self.shared.target.store(port, Ordering::SeqCst);
    }

    /// What the proxy has seen so far.
    pub fn stats(&self) -> ProxyStats {
        self.shared.stats().clone()
    }

    async fn wait_listening(&self, wanted: bool) -> Result<()> {
        let mut listening = self.listening.clone();
        match tokio::time::timeout(PROXY_DEADLINE, listening.wait_for(|&now| now == wanted)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(KitError::new(format!(
                "the proxy's port {} did not {}",
                self.port,
                if wanted { "open" } else { "close" },
            ))),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; a destructor has nobody to report to.
            thread.join().ok();
        }
    }
}

/// The state of the wire, for all connections.
#[derive(Debug, Clone, Copy)]
struct Link {
    refuse: bool,
    held: Option<Direction>,
    half_open: bool,
    half_open_phase: u64,
    piece: Option<usize>,
    bytes_per_second: Option<u32>,
}

impl Link {
    const OPEN: Self = Self {
        refuse: false,
        held: None,
        half_open: false,
        half_open_phase: 0,
        piece: None,
        bytes_per_second: None,
    };

    /// Whether bytes may go in `direction`, which is one of the two.
    fn passes(&self, direction: Direction) -> bool {
        self.held
            .is_none_or(|held| held != direction && held != Direction::Both)
    }
}

/// What the connections and the owner share.
#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    rules: Rules,
    stats: Mutex<ProxyStats>,
}

impl Shared {
    fn target(&self) -> u16 {
        self.target.load(Ordering::SeqCst)
    }

    fn stats(&self) -> MutexGuard<'_, ProxyStats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self) {
        let mut stats = self.stats();
        stats.connections += 1;
        stats.open += 1;
    }

    fn closed(&self) {
        self.stats().open -= 1;
    }

    fn count_command(&self, name: &str) {
        *self.stats().commands.entry(name.to_owned()).or_default() += 1;
    }

    fn count_dropped(&self, name: &str) {
        *self.stats().dropped.entry(name.to_owned()).or_default() += 1;
    }

    fn count_reset(&self) {
        self.stats().resets += 1;
    }
}

/// The side that accepts connections.
#[derive(Debug)]
struct Door {
    port: u16,
    shared: Arc<Shared>,
    link: watch::Receiver<Link>,
    kill: watch::Receiver<u64>,
    listening: watch::Sender<bool>,
}

fn run(door: Door, ready: oneshot::Sender<Result<()>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            // A starter that is gone needs no answer.
            ready.send(Ok(())).ok();
            runtime.block_on(door.accept());
        }
        Err(error) => {
            let error = KitError::because("cannot start the proxy's runtime", error);
            ready.send(Err(error)).ok();
        }
    }
}

impl Door {
    /// Accepts until the owner is gone.
    async fn accept(mut self) {
        let mut listener = None;
        let mut link = self.link.clone();
        let mut alive = self.kill.clone();
        loop {
            let refuse = link.borrow_and_update().refuse;
            if refuse {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port))
                    .await
                    .ok();
            }
            self.listening.send_replace(listener.is_some());
            tokio::select! {
                changed = link.changed() => if changed.is_err() { return },
                changed = alive.changed() => if changed.is_err() { return },
                client = accept(listener.as_ref()) => self.welcome(client),
                // Another process holds the port: try again.
                () = tokio::time::sleep(Duration::from_millis(20)),
                    if listener.is_none() && !refuse => {}
            }
        }
    }

    fn welcome(&mut self, client: TcpStream) {
        if self.link.borrow().refuse {
            client.set_zero_linger().ok();
            return;
        }
        self.shared.opened();
        // The connection shall notice kills from now on, not those before it began.
        self.kill.borrow_and_update();
        tokio::spawn(relay::serve(
            client,
            Arc::clone(&self.shared),
            self.link.clone(),
            self.kill.clone(),
        ));
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    loop {
        // A client that gave up while it waited for us is no reason to stop.
        if let Ok((client, _)) = listener.accept().await {
            return client;
        }
        tokio::task::yield_now().await;
    }
}
