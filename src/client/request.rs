//! Requests over a connection that comes back: sent again where that is safe, within a deadline, each
//! with what is known of its execution.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::call::{CallError, Classified, LostReply, Redirect, Repeat, classify};
use super::cluster::Route;
use super::generation::Generation;
use super::link::Connection;
use super::script::Script;
use crate::error::{Chain, Error};
use crate::resp::{Batch, Command, Value, name_of};

impl Connection {
    /// Sends a command until its fate is known, within the bounds of the configuration.
    ///
    /// # Cancel safety
    /// A dropped call may or may not be executed; no other caller gets its answer.
    pub(crate) async fn request(
        &self,
        command: Command,
        safety: Repeat,
    ) -> Result<Value, CallError> {
        let command = command.encode();
        let mut attempt = RequestAttempt::new(self, safety);
        attempt.route = self.cluster().map(|nodes| Route::of(nodes, &command, true));
        loop {
            let generation = attempt.live().await?;
            match attempt.send(&generation, &command).await {
                Err(loss) => attempt.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(name_of(&command), &error) {
                    Classified::Reconnect(error) => attempt.rejected(&generation, error).await?,
                    Classified::Elsewhere(redirect, error) => {
                        attempt.follow(&generation, &redirect, error).await?;
                    }
                    classified => return Err(attempt.answered(classified.into_error())),
                },
                Ok(value) => return Ok(value),
            }
        }
    }

    /// Sends several commands in one write and returns each one's answer.
    ///
    /// They are not atomic: after an error of one, the others have run.
    pub(crate) async fn pipeline(
        &self,
        batch: &Batch,
        safety: Repeat,
    ) -> Result<Vec<Result<Value, Error>>, CallError> {
        if let Some(cluster) = self.cluster() {
            return self.pipeline_over(cluster, batch, safety).await;
        }
        let bytes = batch.encode();
        let mut attempt = RequestAttempt::new(self, safety);
        loop {
            let generation = attempt.live().await?;
            let sent = generation.send_all(bytes.clone(), batch.len(), attempt.deadline);
            let values = match sent.await {
                Ok(values) => values,
                Err(loss) => {
                    attempt.lost(loss)?;
                    continue;
                }
            };
            let mut unserved = None;
            let mut answers = Vec::with_capacity(values.len());
            for (value, name) in values.into_iter().zip(batch.names()) {
                answers.push(match value {
                    Value::ServerError(error) => match classify(name, &error) {
                        Classified::Reconnect(error) | Classified::Elsewhere(_, error) => {
                            unserved = Some(Chain(&error).to_string());
                            Err(error)
                        }
                        classified => Err(classified.into_error()),
                    },
                    value => Ok(value),
                });
            }
            match unserved {
                Some(text) if safety == Repeat::Safe && attempt.may_repeat() => {
                    attempt
                        .rejected(&generation, Error::overloaded(text))
                        .await?;
                }
                Some(text) => {
                    generation.discard(&text);
                    return Ok(answers);
                }
                None => return Ok(answers),
            }
        }
    }

    /// Runs a script by its hash; `build` appends the number of keys, the keys and arguments.
    ///
    /// A server that does not know the script gets its text, once per call.
    pub(crate) async fn eval(
        &self,
        script: &Script,
        build: impl Fn(&mut Command),
        safety: Repeat,
    ) -> Result<Value, CallError> {
        let encode = |name: &str, script: &str| {
            let mut command = Command::new(name).arg(script);
            build(&mut command);
            command.encode()
        };
        let mut command = encode("EVALSHA", script.hash());
        let mut attempt = RequestAttempt::new(self, safety);
        let names_all = script.names_all_keys();
        attempt.route = self
            .cluster()
            .map(|nodes| Route::of(nodes, &command, names_all));
        let mut by_text = false;
        loop {
            let generation = attempt.live().await?;
            match attempt.send(&generation, &command).await {
                Err(loss) => attempt.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(script.name(), &error) {
                    Classified::Reconnect(error) => attempt.rejected(&generation, error).await?,
                    Classified::Elsewhere(redirect, error) => {
                        attempt.follow(&generation, &redirect, error).await?;
                    }
                    Classified::NoScript(_) if !by_text => {
                        by_text = true;
                        command = encode("EVAL", script.source());
                    }
                    classified => return Err(attempt.answered(classified.into_error())),
                },
                Ok(value) => return Ok(value),
            }
        }
    }
}

/// One request, which may be sent several times.
pub(super) struct RequestAttempt<'a> {
    connection: &'a Connection,
    safety: Repeat,
    deadline: Duration,
    start: Instant,
    left: u32,
    /// Whether an earlier sending may have been executed.
    ambiguous: bool,
    /// To which node of a cluster.
    pub(super) route: Option<Route<'a>>,
}

impl<'a> RequestAttempt<'a> {
    pub(super) fn new(connection: &'a Connection, safety: Repeat) -> Self {
        Self {
            connection,
            safety,
            deadline: connection.deadline(),
            start: Instant::now(),
            left: connection.settings().config.retries,
            ambiguous: false,
            route: None,
        }
    }

    fn may_repeat(&self) -> bool {
        self.left > 0
    }

    /// Waits for a connection: as long as for an answer, and as long again after a loss.
    pub(super) async fn live(&mut self) -> Result<Arc<Generation>, CallError> {
        let until = self.until();
        let live = match &mut self.route {
            None => self.connection.live(until, Some(self.left)).await,
            Some(route) => route.live(until).await,
        };
        live.map_err(|error| self.unsent(error))
    }

    /// How long it may take to find a connection.
    fn until(&self) -> Instant {
        self.start + self.deadline * if self.ambiguous { 2 } else { 1 }
    }

    async fn send(&mut self, at: &Generation, command: &Bytes) -> Result<Value, LostReply> {
        match &mut self.route {
            None => at.send(command.clone(), self.deadline).await,
            Some(route) => route.send(at, command.clone(), self.deadline).await,
        }
    }

    /// Goes where an answer says, or waits as it says.
    pub(super) async fn follow(
        &mut self,
        generation: &Generation,
        redirect: &Redirect,
        error: Error,
    ) -> Result<(), CallError> {
        let until = self.until();
        let Some(route) = &mut self.route else {
            let text = format!(
                "{}: the server is a node of a cluster; write redis+cluster:// instead of redis://",
                Chain(&error)
            );
            return Err(self.answered(Error::Unsuitable(text)));
        };
        if route.follow(redirect, &generation.address, until).await {
            return Ok(());
        }
        Err(self.unsent(error))
    }

    /// Decides after a lost answer: repeat, or give up with the outcome unknown.
    pub(super) fn lost(&mut self, loss: LostReply) -> Result<(), CallError> {
        if matches!(loss, LostReply::Unsent(_)) {
            // As if there had been no connection.
            if self.left == 0 {
                return Err(self.unsent(Error::Unreachable(loss.into())));
            }
            self.left -= 1;
            return Ok(());
        }
        self.ambiguous = true;
        if self.safety == Repeat::Once || self.left == 0 {
            return Err(CallError::unknown(loss));
        }
        self.left -= 1;
        // The next sending gets a whole deadline: others share the connection that a late
        // answer ends.
        if self.start.elapsed() >= self.deadline * 2 {
            return Err(CallError::unknown(loss));
        }
        Ok(())
    }

    /// Decides after an answer that says this server cannot serve: look for another connection.
    pub(super) async fn rejected(
        &mut self,
        generation: &Generation,
        error: Error,
    ) -> Result<(), CallError> {
        generation.discard(&Chain(&error));
        let until = self.until();
        if let Some(route) = &mut self.route {
            route.suspect(until).await;
        }
        if self.left == 0 {
            return Err(self.unsent(error));
        }
        self.left -= 1;
        Ok(())
    }

    /// The error of a request that was not executed this time.
    fn unsent(&self, error: Error) -> CallError {
        if self.ambiguous {
            CallError::unknown(error)
        } else {
            CallError::NotExecuted(error)
        }
    }

    /// The error of a refusal: after a lost answer it says nothing about the earlier sending.
    fn answered(&self, error: Error) -> CallError {
        if self.ambiguous {
            CallError::unknown(error)
        } else {
            CallError::Answered(error)
        }
    }
}
