//! Finding out what became of a request whose answer was lost, by asking again.
//!
//! That is for scripts that recognise what their earlier execution did: adds with an id of their
//! own, upserts of schedulers. Results of attempts are settled by `worker::call`, which never
//! gives up while their job's lock may last; what goes on being asked is the same
//! ([`CallError::may_pass`]).

use std::time::Duration;

use crate::client::CallError;
use crate::error::{Error, Result};
use crate::store::Store;

/// How long is asked: Redis comes back from a restart or a failover in that time, and a caller
/// waits no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request in the form that recognises its earlier execution.
pub(crate) trait Again {
    /// What it tells.
    type Reply;

    /// Asks.
    fn ask(&mut self, store: &Store)
    -> impl Future<Output = Result<Self::Reply, CallError>> + Send;
}

impl Store {
    /// Asks again for a request, in the form that recognises its earlier execution, whose answer
    /// was lost; until there is one, for up to 30 s.
    ///
    /// # Errors
    ///
    /// What the script itself declines. Every other error says nothing about the earlier
    /// execution, so that the outcome stays [`Error::Indeterminate`]; those that do not pass by
    /// themselves, and a closed client, end the asking at once.
    pub(crate) async fn settle<A: Again>(&self, mut again: A) -> Result<A::Reply> {
        let mut retry = self.connection().retry().within(PATIENCE);
        loop {
            let error = match again.ask(self).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let may_pass = error.may_pass();
            let lost = match error {
                CallError::Answered(error @ Error::Refused { .. }) => return Err(error),
                CallError::Unknown(error) => error,
                CallError::NotExecuted(error) | CallError::Answered(error) => {
                    Error::Indeterminate(error.into())
                }
            };
            if !may_pass || !retry.pause().await {
                return Err(lost);
            }
        }
    }
}
