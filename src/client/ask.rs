//! One question over a connection of its own: sentinels and nodes of a cluster are asked where things are.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::call::{LostReply, classify};
use super::config::Address;
use super::connect::{ConnectError, Settings, dial};
use super::greet::{Step, greet, handshake, silent};
use super::login::asks_for_none;
use super::tls::Connector;
use crate::error::Error;
use crate::resp::{self, Batch, Command, Value};

/// Whom to ask, and how.
pub(super) struct Peer<'a> {
    pub(super) address: &'a Address,
    pub(super) tls: Option<&'a Connector>,
    pub(super) login: Option<Command>,
}

/// Asks a peer and closes the connection. The error names its address.
pub(super) async fn ask(
    settings: &Settings,
    peer: Peer<'_>,
    question: Command,
    until: Instant,
) -> Result<Value, ConnectError> {
    let address = peer.address;
    let asking = async {
        let limit = settings.config.connect_timeout;
        let socket = dial(settings, address, until).await?;
        let Some(connector) = peer.tls else {
            return converse(socket, false, peer.login, question).await;
        };
        let stream = handshake(connector, address, socket, limit).await?;
        converse(stream, true, peer.login, question).await
    };
    let answer = match timeout_at(until, Box::pin(asking)).await {
        Ok(answer) => answer,
        Err(_) => Err(silent(Step::Login, settings.config.connect_timeout)),
    };
    answer.map_err(|error| error.at(address))
}

async fn converse<S>(
    mut stream: S,
    encrypted: bool,
    login: Option<Command>,
    question: Command,
) -> Result<Value, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    greet(&mut stream, encrypted).await?;
    let (connection, driver) = resp::connect(stream);
    let batch: Batch = login.into_iter().chain([question]).collect();
    let answers = connection.request_all(batch.encode(), batch.len());
    tokio::pin!(answers, driver);
    let answers = tokio::select! {
        biased;
        answers = &mut answers => answers,
        () = &mut driver => answers.await,
    };
    let mut last = Value::Nil;
    for (name, answer) in batch.names().zip(answers.map_err(LostReply::from)?) {
        match answer {
            Value::ServerError(error) if name == "AUTH" && asks_for_none(&error) => {}
            Value::ServerError(error) if name == "AUTH" || error.code() == "NOAUTH" => {
                return Err(ConnectError::from(Error::Denied(error.to_string())));
            }
            Value::ServerError(error) => {
                return Err(ConnectError::from(classify(name, &error).into_error()));
            }
            answer => last = answer,
        }
    }
    Ok(last)
}
