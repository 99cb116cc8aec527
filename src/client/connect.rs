//! One attempt to get a usable connection: socket, TLS, login, ready check.

use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::call::LostReply;
use super::config::{Address, ClientConfig, Topology};
use super::greet::{Step, greet, handshake, refused, silent};
use super::info::ServerInfo;
use super::log::Causes;
use super::login::prepare;
use super::sentinel::Sentinels;
use super::slots::SlotMap;
use super::tls::Connector;
use crate::clock::{Clock, after};
use crate::error::{BoxError, Chain, Error, Result};
use crate::resp::{self, Driver};

/// How long a silent peer keeps a connection: the kernel's probes begin after this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What every connection of one client shares.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: ClientConfig,
    pub(super) purpose: Purpose,
    pub(super) clock: Clock,
    pub(super) causes: Causes,
    /// Notified when a socket has fallen silent: the others may lead to the same dead peer.
    pub(super) suspicion: Notify,
    pub(super) tls: Option<Connector>,
    sentinels: Option<Sentinels>,
    pub(super) slots: Option<SlotMap>,
}

/// What a server is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Queues: the server must not drop keys.
    Queues,
    /// Cached values only.
    Cache,
}

impl Settings {
    /// Checks a configuration and prepares what its connections need.
    pub(super) fn new(config: ClientConfig, purpose: Purpose, clock: Clock) -> Result<Self> {
        config.validate()?;
        let tls = config.tls.as_ref().map(Connector::new).transpose()?;
        let sentinels = Sentinels::new(&config)?;
        let slots = SlotMap::new(&config.topology);
        Ok(Self {
            config,
            purpose,
            clock,
            causes: Causes::default(),
            suspicion: Notify::new(),
            tls,
            sentinels,
            slots,
        })
    }

    /// Returns whether the clock is measured over a connection: on a cluster, over that to the node of the
    /// first slot, so that all processes follow the same one.
    pub(super) fn keeps_clock(&self, options: &ConnectionOptions) -> bool {
        let keeper = self.slots.as_ref().map(|slots| slots.owner(0));
        options.main && keeper.is_none_or(|keeper| keeper == options.node)
    }

    /// Logs that a socket was lost, rarely.
    pub(super) fn log_lost(
        &self,
        options: &ConnectionOptions,
        server: &Address,
        reason: Option<&String>,
    ) {
        if let Some(suppressed) = self.causes.disconnected.admit() {
            tracing::warn!(
                %server,
                name = options.name.as_deref(),
                reason,
                suppressed,
                "redis connection lost"
            );
        }
    }

    /// Logs that no socket could be opened, ever more rarely while that lasts.
    pub(super) fn log_failed(&self, options: &ConnectionOptions, error: &ConnectError) {
        if let Some(suppressed) = self.causes.failed.admit() {
            tracing::error!(
                name = options.name.as_deref(),
                %error,
                suppressed,
                "redis connection failed"
            );
        }
    }
}

/// Why an attempt failed; cheap to clone for everyone who waits for a connection.
#[derive(Clone, thiserror::Error)]
#[error("{text}")]
pub(super) struct ConnectError {
    class: Class,
    text: Arc<str>,
}

/// The text alone: a program that returns the error from `main` prints it this way.
impl std::fmt::Debug for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.text, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unreachable,
    /// The peer uses TLS where we do not, or the other way round.
    Mismatch,
    Busy,
    Denied,
    Unsuitable,
}

impl ConnectError {
    pub(super) fn unreachable(text: impl Into<Arc<str>>) -> Self {
        Self {
            class: Class::Unreachable,
            text: text.into(),
        }
    }

    /// The peer uses TLS where we do not, or the other way round: connecting again brings the
    /// same until a setting is changed.
    pub(super) fn mismatch(text: impl Into<Arc<str>>) -> Self {
        Self {
            class: Class::Mismatch,
            text: text.into(),
        }
    }

    /// Returns the same as one that may pass by itself, where it may: sentinels that answered will name
    /// another server.
    fn passing(mut self) -> Self {
        if self.class == Class::Unreachable {
            self.class = Class::Busy;
        }
        self
    }

    /// Sums up why each of several peers failed, of which one would have been enough. If one refused, so does the
    /// whole: that stays until somebody changes something.
    pub(super) fn of_all(what: &str, failures: Vec<Self>) -> Self {
        let texts: Vec<&str> = failures.iter().map(|failure| &*failure.text).collect();
        let text: Arc<str> = format!("{what}: {}", texts.join("; ")).into();
        match failures.into_iter().find(Self::is_fatal) {
            Some(Self { class, .. }) => Self { class, text },
            None => Self::unreachable(text),
        }
    }

    /// Names the server.
    pub(super) fn at(mut self, address: &Address) -> Self {
        self.text = format!("{address}: {}", self.text).into();
        self
    }

    /// Returns whether trying again is pointless until someone changes something.
    pub(super) fn is_fatal(&self) -> bool {
        match self.class {
            Class::Mismatch | Class::Denied | Class::Unsuitable => true,
            Class::Unreachable | Class::Busy => false,
        }
    }

    /// Returns whether the server could not be talked to, which says nothing against a request.
    pub(super) fn is_outage(&self) -> bool {
        match self.class {
            Class::Unreachable | Class::Mismatch | Class::Busy => true,
            Class::Denied | Class::Unsuitable => false,
        }
    }

    /// Returns whether the server is there and only needs time.
    pub(super) fn is_busy(&self) -> bool {
        self.class == Class::Busy
    }

    /// Returns the error for callers.
    pub(super) fn to_error(&self) -> Error {
        match self.class {
            Class::Unreachable | Class::Mismatch | Class::Busy => {
                Error::Unreachable(BoxError::from(self.clone()))
            }
            Class::Denied => Error::Denied(self.text.to_string()),
            Class::Unsuitable => Error::Unsuitable(self.text.to_string()),
        }
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        let (class, text) = match error {
            Error::Denied(text) => (Class::Denied, text),
            Error::Unsuitable(text) => (Class::Unsuitable, text),
            Error::Overloaded(answer) => (Class::Busy, answer.to_string()),
            // Without the text that callers get anyway.
            Error::Server(text) => (Class::Unreachable, text),
            other => (Class::Unreachable, Chain(&other).to_string()),
        };
        Self {
            class,
            text: text.into(),
        }
    }
}

impl From<LostReply> for ConnectError {
    fn from(loss: LostReply) -> Self {
        Self::unreachable(loss.to_string())
    }
}

/// A usable connection; its socket is open for as long as `driver` runs, which moves its bytes.
pub(super) struct Opened {
    pub(super) connection: resp::Connection,
    pub(super) driver: Driver,
    pub(super) server: Arc<ServerInfo>,
    pub(super) client_id: Option<i64>,
    /// Where it leads.
    pub(super) address: Address,
}

/// What a connection is for.
#[derive(Debug, Clone, Default)]
pub(super) struct ConnectionOptions {
    /// The name to show in the server's client list.
    pub(super) name: Option<String>,
    /// Whether the clock is measured over it and its warnings are logged.
    pub(super) main: bool,
    /// The longest wait for an answer, where it is shorter than the configuration's.
    pub(super) timeout: Option<Duration>,
    /// The node of a cluster that it leads to.
    pub(super) node: Option<Address>,
}

impl ConnectionOptions {
    /// The connection that all requests share.
    pub(super) fn main() -> Self {
        Self {
            main: true,
            ..Self::default()
        }
    }
}

/// Connects once, within the connect timeout. The error names the address.
pub(super) async fn open(
    settings: &Settings,
    options: &ConnectionOptions,
) -> Result<Opened, ConnectError> {
    // Large, and rare: those who wait for an answer need not have room for it.
    Box::pin(find(settings, options)).await
}

/// Finds the server and connects to it.
async fn find(settings: &Settings, options: &ConnectionOptions) -> Result<Opened, ConnectError> {
    let known = match &settings.config.topology {
        Topology::Standalone(address) => Some(address),
        Topology::Sentinel { .. } | Topology::Cluster { .. } => options.node.as_ref(),
    };
    if let Some(address) = known {
        let opened = attempt(settings, options, address).await;
        return opened.map_err(|error| error.at(address));
    }
    let Some(sentinels) = &settings.sentinels else {
        return Err(ConnectError::unreachable("it is not known where"));
    };
    let found = sentinels.primary(settings).await?;
    let opened = attempt(settings, options, &found.primary).await;
    opened.map_err(|error| {
        // This one may not know it yet.
        sentinels.distrust(&found.named_by);
        error.at(&found.primary).passing()
    })
}

/// Connects a socket and has it watched by the kernel.
pub(super) async fn dial(
    settings: &Settings,
    address: &Address,
    until: Instant,
) -> Result<TcpStream, ConnectError> {
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let socket = timeout_at(until, connecting)
        .await
        .map_err(|_| silent(Step::Connect, settings.config.connect_timeout))?
        .map_err(|error| refused(&error))?;
    tune(&socket, &settings.config).map_err(|error| refused(&error))?;
    Ok(socket)
}

async fn attempt(
    settings: &Settings,
    options: &ConnectionOptions,
    address: &Address,
) -> Result<Opened, ConnectError> {
    let limit = settings.config.connect_timeout;
    let until = after(Instant::now(), limit);
    let socket = dial(settings, address, until).await?;
    let Some(connector) = &settings.tls else {
        return Box::pin(login(settings, options, address, (socket, until))).await;
    };
    let stream = timeout_at(until, handshake(connector, address, socket, limit))
        .await
        .map_err(|_| silent(Step::Handshake, limit))??;
    Box::pin(login(settings, options, address, (stream, until))).await
}

/// Makes the kernel notice a vanished peer, also while nothing is sent.
fn tune(socket: &TcpStream, config: &ClientConfig) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE)
            .with_interval(KEEPALIVE / 3),
    )?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(config.command_deadline.max(KEEPALIVE)))?;
    Ok(())
}

/// Talks to the server over a new stream until it is ready for requests.
async fn login<S>(
    settings: &Settings,
    options: &ConnectionOptions,
    address: &Address,
    (mut stream, until): (S, Instant),
) -> Result<Opened, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = settings.config.connect_timeout;
    let encrypted = settings.tls.is_some();
    timeout_at(until, greet(&mut stream, encrypted))
        .await
        .map_err(|_| silent(Step::Greeting { encrypted }, limit))??;
    let (connection, mut driver) = resp::connect(stream);
    let prepared = {
        let preparing = timeout_at(until, prepare(settings, options, address, &connection));
        tokio::pin!(preparing);
        tokio::select! {
            biased;
            prepared = &mut preparing => prepared,
            // It may have delivered a refusal before it ended.
            () = &mut driver => match preparing.await {
                Ok(Err(error)) if error.class != Class::Unreachable => return Err(error),
                _ => {
                    let text = "the server closed the new connection";
                    return Err(ConnectError::unreachable(text));
                }
            },
        }
    };
    let prepared = prepared.map_err(|_| silent(Step::Login, limit))??;
    Ok(Opened {
        connection,
        driver,
        server: Arc::new(prepared.server),
        client_id: prepared.client_id,
        address: address.clone(),
    })
}
