//! One attempt to get a usable connection: socket, TLS, login, ready check.

use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::call::{Classified, LostReply, classify, message_of};
use super::config::{Address, ClientConfig};
use super::greet::{Step, greet, handshake, refused, silent};
use super::info::{Role, ServerInfo};
use super::log::Causes;
use super::tls::Connector;
use crate::clock::{Clock, Timestamp, after};
use crate::error::{BoxError, Chain, Error, Result};
use crate::resp::{self, Command, Driver, Value};

/// How long a silent peer keeps a connection: the kernel's probes begin after this.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// What every connection of one client shares.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: ClientConfig,
    pub(super) address: Address,
    pub(super) purpose: Purpose,
    pub(super) clock: Clock,
    pub(super) causes: Causes,
    /// Notified when a socket has fallen silent: the others may lead to the same dead peer.
    pub(super) suspicion: Notify,
    tls: Option<Connector>,
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
        let address = config.validate()?.clone();
        let tls = config.tls.as_ref().map(Connector::new).transpose()?;
        Ok(Self {
            config,
            address,
            purpose,
            clock,
            causes: Causes::default(),
            suspicion: Notify::new(),
            tls,
        })
    }

    /// Logs that a socket was lost, rarely.
    pub(super) fn log_lost(&self, options: &ConnectionOptions, reason: Option<&String>) {
        if let Some(suppressed) = self.causes.disconnected.admit() {
            tracing::warn!(
                server = %self.address,
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

    /// Names the server.
    fn at(mut self, address: &Address) -> Self {
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
}

/// Connects once, within the connect timeout. The error names the address.
pub(super) async fn open(
    settings: &Settings,
    options: &ConnectionOptions,
) -> Result<Opened, ConnectError> {
    // Large, and rare: those who wait for an answer need not have room for it.
    let opened = Box::pin(attempt(settings, options)).await;
    opened.map_err(|error| error.at(&settings.address))
}

async fn attempt(settings: &Settings, options: &ConnectionOptions) -> Result<Opened, ConnectError> {
    let address = &settings.address;
    let limit = settings.config.connect_timeout;
    let until = after(Instant::now(), limit);
    let connecting = TcpStream::connect((address.host.as_str(), address.port));
    let socket = timeout_at(until, connecting)
        .await
        .map_err(|_| silent(Step::Connect, limit))?
        .map_err(|error| refused(&error))?;
    tune(&socket, &settings.config).map_err(|error| refused(&error))?;
    let Some(connector) = &settings.tls else {
        return Box::pin(login(settings, options, socket, until)).await;
    };
    let stream = timeout_at(until, handshake(connector, address, socket, limit))
        .await
        .map_err(|_| silent(Step::Handshake, limit))??;
    Box::pin(login(settings, options, stream, until)).await
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
    mut stream: S,
    until: Instant,
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
        let preparing = timeout_at(until, prepare(settings, options, &connection));
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
    })
}

struct Prepared {
    server: ServerInfo,
    client_id: Option<i64>,
}

/// Logs in, introduces the connection and asks the server about itself, in one round trip.
async fn prepare(
    settings: &Settings,
    options: &ConnectionOptions,
    connection: &resp::Connection,
) -> Result<Prepared, ConnectError> {
    let config = &settings.config;
    let ask_info = config.ready_check || !config.skip_version_check;
    let sent = Instant::now();
    // Each command of its own, so that one that is cut off does not take the answers of those
    // before it along. They are written in this order.
    let (auth, select, ping, time, id, info, _, _, _) = tokio::join!(
        biased;
        ask(connection, auth_command(config)),
        ask(connection, (config.db != 0).then(|| Command::new("SELECT").arg(config.db))),
        ask(connection, Some(Command::new("PING"))),
        ask(connection, options.main.then(|| Command::new("TIME"))),
        ask(connection, Some(Command::new("CLIENT").arg("ID"))),
        ask(connection, ask_info.then(|| Command::new("INFO"))),
        ask(connection, options.name.as_deref().map(|name| Command::new("CLIENT").arg("SETNAME").arg(name))),
        ask(connection, Some(set_info("LIB-NAME", env!("CARGO_PKG_NAME")))),
        ask(connection, Some(set_info("LIB-VER", env!("CARGO_PKG_VERSION")))),
    );
    let round_trip = sent.elapsed();
    check_login(settings, &auth?)?;
    check_database(config.db, &select?)?;
    match ping? {
        // A user without PING is fine; one that is not logged in is not.
        Value::ServerError(error) if error.code() == "NOAUTH" => {
            return Err(ConnectError::from(Error::Denied(
                "it asks for a password, and none is set here".to_owned(),
            )));
        }
        Value::ServerError(error) if error.code() != "NOPERM" => {
            return Err(ConnectError::from(classify("PING", &error).into_error()));
        }
        _ => {}
    }
    if let Some(server) = parse_time(&time?) {
        settings.clock.align(server, round_trip);
    }
    let client_id = match id? {
        Value::Int(id) => Some(id),
        _ => None,
    };
    let server = match info? {
        Value::BulkString(text) => ServerInfo::parse(&String::from_utf8_lossy(&text)),
        Value::ServerError(error) if error.code() != "NOPERM" => {
            return Err(ConnectError::from(classify("INFO", &error).into_error()));
        }
        _ => ServerInfo::unknown(),
    };
    check(settings, options, &server)?;
    Ok(Prepared { server, client_id })
}

fn set_info(attribute: &str, value: &str) -> Command {
    Command::new("CLIENT")
        .arg("SETINFO")
        .arg(attribute)
        .arg(value)
}

fn auth_command(config: &ClientConfig) -> Option<Command> {
    let password = config.password.as_ref()?.reveal();
    let auth = Command::new("AUTH");
    Some(match &config.username {
        Some(username) => auth.arg(username).arg(password),
        None => auth.arg(password),
    })
}

/// Sends a command, if there is one.
async fn ask(connection: &resp::Connection, command: Option<Command>) -> Result<Value, LostReply> {
    match command {
        Some(command) => Ok(connection.request(command.encode()).await?),
        None => Ok(Value::Nil),
    }
}

/// Decides on the answer to AUTH, or its absence.
fn check_login(settings: &Settings, answer: &Value) -> Result<(), ConnectError> {
    let Value::ServerError(error) = answer else {
        return Ok(());
    };
    if error.detail().contains("without any password configured") {
        if settings.causes.warned.admit().is_some() {
            tracing::warn!(
                server = %settings.address,
                "a password is set here, but the server asks for none"
            );
        }
        return Ok(());
    }
    Err(ConnectError::from(match classify("AUTH", error) {
        Classified::Reconnect(error) => error,
        // Old servers have no code of their own for a wrong password.
        _ => Error::Denied(format!(
            "{}; check user name and password",
            message_of(error)
        )),
    }))
}

/// Decides on the answer to SELECT, or its absence.
fn check_database(db: u32, answer: &Value) -> Result<(), ConnectError> {
    let Value::ServerError(error) = answer else {
        return Ok(());
    };
    Err(ConnectError::from(match classify("SELECT", error) {
        // Not logged in: PING says so, too, in a shorter text.
        _ if error.code() == "NOAUTH" => return Ok(()),
        Classified::Refused(Error::Server(text)) => {
            Error::Unsuitable(format!("it gives no database {db}: {text}"))
        }
        classified => classified.into_error(),
    }))
}

/// Decides whether the server is ready and suitable.
fn check(
    settings: &Settings,
    options: &ConnectionOptions,
    server: &ServerInfo,
) -> Result<(), ConnectError> {
    let config = &settings.config;
    server.check_mode(&config.topology)?;
    if config.ready_check {
        if server.loading {
            return Err(ConnectError::from(Error::overloaded(
                "the server is loading its data set",
            )));
        }
        if server.role == Role::Replica {
            return Err(ConnectError::from(Error::overloaded(
                "the server is a replica and refuses writes",
            )));
        }
    }
    if config.skip_version_check {
        return Ok(());
    }
    server.check_version()?;
    if settings.purpose == Purpose::Cache {
        return Ok(());
    }
    let evicts = server.evicts();
    if let Some(policy) = evicts
        && config.strict_eviction
    {
        return Err(ConnectError::from(Error::Unsuitable(format!(
            "its memory policy {policy} deletes keys of queues, it should be noeviction"
        ))));
    }
    if !options.main || (evicts.is_none() && !server.is_dated()) {
        return Ok(());
    }
    if settings.causes.warned.admit().is_some() {
        if let Some(policy) = evicts {
            tracing::warn!(
                server = %settings.address,
                policy,
                "IMPORTANT! the server's memory policy can delete keys of queues and so lose \
                 jobs; it should be noeviction"
            );
        }
        if server.is_dated() {
            tracing::warn!(
                server = %settings.address,
                version = %server.version,
                "the server is old, at least 6.2.0 is recommended"
            );
        }
    }
    Ok(())
}

/// Decodes the answer of TIME.
pub(super) fn parse_time(value: &Value) -> Option<Timestamp> {
    let Value::Array(parts) = value else {
        return None;
    };
    match parts.as_slice() {
        [seconds, micros] => Some(Timestamp::from_millis(
            seconds
                .as_int()?
                .checked_mul(1000)?
                .checked_add(micros.as_int()? / 1000)?,
        )),
        _ => None,
    }
}
