//! The first exchange with a peer: whether it is a Redis server, and if not, what it is and what to
//! do about it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::Address;
use super::connect::ConnectError;
use super::tls::Connector;
use crate::error::Error;

/// The longest first line of a server that is read, in bytes.
const GREETING: usize = 4096;
/// How long a peer that failed at TLS gets to answer without it.
const PROBE: Duration = Duration::from_millis(500);
/// A handshake takes two round trips; a peer that takes longer may not know TLS.
const SLOW_HANDSHAKE: Duration = Duration::from_millis(500);
/// What to do where the peer seems to expect TLS.
const USE_TLS: &str = "use rediss:// instead of redis://, or set TLS options";
/// The first two bytes of a TLS alert.
const ALERT: [u8; 2] = [0x15, 0x03];

/// Exchanges one PING by hand: a server that turns us away says why before it is asked and
/// then closes, and an answer without a request would get lost further up.
pub(super) async fn greet<S>(stream: &mut S, encrypted: bool) -> Result<(), ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hint = if encrypted {
        String::new()
    } else {
        format!("; if it expects TLS, {USE_TLS}")
    };
    let mut line = Vec::new();
    if let Err(cause) = first_line(stream, &mut line).await
        && !line.starts_with(&ALERT)
    {
        return Err(ConnectError::unreachable(match cause {
            Some(error) => format!("the new connection failed ({error}){hint}"),
            None => format!("the server closed the new connection{hint}"),
        }));
    }
    if line.starts_with(&ALERT) {
        return Err(ConnectError::mismatch(format!(
            "the server expects TLS: {USE_TLS}"
        )));
    }
    let line = String::from_utf8_lossy(&line);
    let line = line.trim_end();
    match line.strip_prefix('-') {
        Some(text) if text.contains("max number of clients") => {
            Err(ConnectError::from(Error::overloaded(text)))
        }
        Some(text) if text.starts_with("DENIED") => {
            Err(ConnectError::from(Error::Denied(text.to_owned())))
        }
        // Other errors come again, once we have logged in.
        Some(_) => Ok(()),
        None if line == "+PONG" => Ok(()),
        None if line.starts_with("HTTP/") => Err(ConnectError::unreachable(
            "the peer does not speak the redis protocol but HTTP; check the port",
        )),
        None => Err(ConnectError::unreachable(
            "the peer does not speak the redis protocol; check the port",
        )),
    }
}

/// Sends PING and reads the first line of what comes back; fails with the reason why it ends
/// early, if there is one.
async fn first_line<S>(stream: &mut S, line: &mut Vec<u8>) -> Result<(), Option<std::io::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // When the server has closed already, what it sent last can still be read.
    let written = stream.write_all(b"*1\r\n$4\r\nPING\r\n").await;
    let written = written.and(stream.flush().await);
    while !line.ends_with(b"\n") && line.len() < GREETING {
        let read = stream.read_buf(line).await;
        if !matches!(read, Ok(count) if count > 0) {
            return Err(read.err().or(written.err()));
        }
    }
    Ok(())
}

/// Words a peer that no connection can be made to.
pub(super) fn refused(error: &std::io::Error) -> ConnectError {
    ConnectError::unreachable(match error.kind() {
        ErrorKind::ConnectionRefused => {
            "nothing listens there (connection refused); check host and port, and that the server \
             runs"
                .to_owned()
        }
        _ if error.to_string().contains("lookup") => {
            format!("{error}; check the host name")
        }
        _ => error.to_string(),
    })
}

/// Words a peer that did not get through the step `step` in time.
pub(super) fn silent(step: Step, limit: Duration) -> ConnectError {
    ConnectError::unreachable(match step {
        Step::Connect => {
            format!("no connection within {limit:?}; check host and port, and firewalls on the way")
        }
        Step::Handshake => format!("no TLS handshake within {limit:?}"),
        Step::Greeting { encrypted: true } | Step::Login => {
            format!("connected, but the server did not answer within {limit:?}")
        }
        Step::Greeting { encrypted: false } => format!(
            "connected, but the server did not answer within {limit:?}; if it expects TLS, {USE_TLS}"
        ),
    })
}

/// How far an attempt to connect got.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Connect,
    Handshake,
    Greeting { encrypted: bool },
    Login,
}

/// Performs the TLS handshake. A server without TLS waits for the end of what it takes for a
/// command, so that a slow handshake is checked on: such a server answers a plain PING.
pub(super) async fn handshake(
    connector: &Connector,
    address: &Address,
    socket: TcpStream,
    limit: Duration,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ConnectError> {
    let shaking = connector.handshake(&address.host, socket);
    tokio::pin!(shaking);
    let shaken = match timeout(SLOW_HANDSHAKE.min(limit / 4), &mut shaking).await {
        Ok(shaken) => shaken,
        Err(_) if is_plain(address).await => return Err(plain()),
        Err(_) => shaking.await,
    };
    let failure = match shaken {
        Ok(stream) => return Ok(stream),
        Err(_) if is_plain(address).await => return Err(plain()),
        Err(error) => error.to_string(),
    };
    let remedy = if ["UnknownIssuer", "BadSignature"]
        .iter()
        .any(|name| failure.contains(name))
    {
        "; give the certificate of its authority (TlsOptions::roots_pem)"
    } else {
        ""
    };
    Err(ConnectError::unreachable(format!("tls: {failure}{remedy}")))
}

fn plain() -> ConnectError {
    ConnectError::mismatch(
        "the server does not use TLS on this port: use redis:// instead of rediss:// (or no TLS \
         options), or the port of its TLS",
    )
}

/// Returns whether a server answers there without TLS.
async fn is_plain(address: &Address) -> bool {
    timeout(PROBE, answers_plainly(address)).await == Ok(true)
}

async fn answers_plainly(address: &Address) -> bool {
    let Ok(mut stream) = TcpStream::connect((address.host.as_str(), address.port)).await else {
        return false;
    };
    let mut line = Vec::new();
    let ended = first_line(&mut stream, &mut line).await;
    ended.is_ok() && matches!(line.first(), Some(b'+' | b'-'))
}
