//! What is asked on a new connection: login, introduction, and whether the server is fit for its use.

use std::time::Duration;

use tokio::time::Instant;

use super::call::{Classified, LostReply, classify, message_of};
use super::config::{Address, Secret, Topology};
use super::connect::{ConnectError, ConnectionOptions, Purpose, Settings};
use super::generation::Generation;
use super::info::{Role, ServerInfo};
use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::resp::{self, Command, ServerError, Value};

/// What is known of a server that a connection was made to.
pub(super) struct Prepared {
    pub(super) server: ServerInfo,
    pub(super) client_id: Option<i64>,
}

/// Logs in, introduces the connection and asks the server about itself, in one round trip.
pub(super) async fn prepare(
    settings: &Settings,
    options: &ConnectionOptions,
    address: &Address,
    connection: &resp::Connection,
) -> Result<Prepared, ConnectError> {
    let config = &settings.config;
    let alone = matches!(config.topology, Topology::Standalone(_));
    let ask_info = config.ready_check || !config.skip_version_check || !alone;
    let sent = Instant::now();
    // Each command of its own, so that one that is cut off does not take the answers of those
    // before it along. They are written in this order.
    let (auth, select, ping, time, id, info, _, _, _) = tokio::join!(
        biased;
        ask(connection, auth_command(config.username.as_deref(), config.password.as_ref())),
        ask(connection, (config.db != 0).then(|| Command::new("SELECT").arg(config.db))),
        ask(connection, Some(Command::new("PING"))),
        ask(connection, settings.keeps_clock(options).then(|| Command::new("TIME"))),
        ask(connection, Some(Command::new("CLIENT").arg("ID"))),
        ask(connection, ask_info.then(|| Command::new("INFO"))),
        ask(connection, options.name.as_deref().map(|name| Command::new("CLIENT").arg("SETNAME").arg(name))),
        ask(connection, Some(set_info("LIB-NAME", env!("CARGO_PKG_NAME")))),
        ask(connection, Some(set_info("LIB-VER", env!("CARGO_PKG_VERSION")))),
    );
    let round_trip = sent.elapsed();
    check_login(settings, address, &auth?)?;
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
    check(settings, options, address, &server)?;
    Ok(Prepared { server, client_id })
}

fn set_info(attribute: &str, value: &str) -> Command {
    Command::new("CLIENT")
        .arg("SETINFO")
        .arg(attribute)
        .arg(value)
}

/// Makes the command that logs in, where there is a password.
pub(super) fn auth_command(username: Option<&str>, password: Option<&Secret>) -> Option<Command> {
    let password = password?.reveal();
    let auth = Command::new("AUTH");
    Some(match username {
        Some(username) => auth.arg(username).arg(password),
        None => auth.arg(password),
    })
}

/// Returns whether AUTH was refused because no password is needed, which does no harm.
pub(super) fn asks_for_none(error: &ServerError) -> bool {
    error.detail().contains("without any password configured")
}

/// Sends a command, if there is one.
async fn ask(connection: &resp::Connection, command: Option<Command>) -> Result<Value, LostReply> {
    match command {
        Some(command) => Ok(connection.request(command.encode()).await?),
        None => Ok(Value::Nil),
    }
}

/// Decides on the answer to AUTH, or its absence.
fn check_login(settings: &Settings, address: &Address, answer: &Value) -> Result<(), ConnectError> {
    let Value::ServerError(error) = answer else {
        return Ok(());
    };
    if asks_for_none(error) {
        if settings.causes.warned.admit().is_some() {
            tracing::warn!(
                server = %address,
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
    address: &Address,
    server: &ServerInfo,
) -> Result<(), ConnectError> {
    let config = &settings.config;
    server.check_mode(&config.topology)?;
    let alone = matches!(config.topology, Topology::Standalone(_));
    // A demoted server is never what the sentinels or the cluster meant.
    if config.ready_check || !alone {
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
                server = %address,
                policy,
                "IMPORTANT! the server's memory policy can delete keys of queues and so lose \
                 jobs; it should be noeviction"
            );
        }
        if server.is_dated() {
            tracing::warn!(
                server = %address,
                version = %server.version,
                "the server is old, at least 6.2.0 is recommended"
            );
        }
    }
    Ok(())
}

/// Decodes the answer of TIME.
fn parse_time(value: &Value) -> Option<Timestamp> {
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

/// Asks for the server's time and aligns the client's clock with it.
pub(super) async fn measure(
    settings: &Settings,
    options: &ConnectionOptions,
    generation: &Generation,
    deadline: Duration,
) -> Result<Option<Timestamp>, LostReply> {
    let sent = Instant::now();
    let value = generation
        .send(Command::new("TIME").encode(), deadline)
        .await?;
    let server = parse_time(&value);
    if let Some(server) = server
        && settings.keeps_clock(options)
    {
        settings.clock.align(server, sent.elapsed());
    }
    Ok(server)
}
