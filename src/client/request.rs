//! Requests over a connection that comes back: sent again where that is safe, within a deadline, each
//! with what is known of its execution.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::{CallError, Classified, LostReply, Repeat, classify};
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
        loop {
            let generation = attempt.live().await?;
            match generation.send(command.clone(), attempt.deadline).await {
                Err(loss) => attempt.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(name_of(&command), &error) {
                    Classified::Reconnect(error) => attempt.rejected(&generation, error)?,
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
                        Classified::Reconnect(error) => {
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
                    attempt.rejected(&generation, Error::overloaded(text))?;
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
        let mut by_text = false;
        loop {
            let generation = attempt.live().await?;
            match generation.send(command.clone(), attempt.deadline).await {
                Err(loss) => attempt.lost(loss)?,
                Ok(Value::ServerError(error)) => match classify(script.name(), &error) {
                    Classified::Reconnect(error) => attempt.rejected(&generation, error)?,
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
struct RequestAttempt<'a> {
    connection: &'a Connection,
    safety: Repeat,
    deadline: Duration,
    start: Instant,
    left: u32,
    /// Whether an earlier sending may have been executed.
    ambiguous: bool,
}

impl<'a> RequestAttempt<'a> {
    fn new(connection: &'a Connection, safety: Repeat) -> Self {
        Self {
            connection,
            safety,
            deadline: connection.deadline(),
            start: Instant::now(),
            left: connection.settings().config.retries,
            ambiguous: false,
        }
    }

    fn may_repeat(&self) -> bool {
        self.left > 0
    }

    /// Waits for a connection: as long as for an answer, and as long again after a loss.
    async fn live(&mut self) -> Result<Arc<Generation>, CallError> {
        let waits = if self.ambiguous { 2 } else { 1 };
        self.connection
            .live(self.start + self.deadline * waits, Some(self.left))
            .await
            .map_err(|error| self.unsent(error))
    }

    /// Decides after a lost answer: repeat, or give up with the outcome unknown.
    fn lost(&mut self, loss: LostReply) -> Result<(), CallError> {
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
    fn rejected(&mut self, generation: &Generation, error: Error) -> Result<(), CallError> {
        generation.discard(&Chain(&error));
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
