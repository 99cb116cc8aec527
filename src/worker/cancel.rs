//! Cancelling attempts.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::worker::handler::Cancellation;

/// Why an attempt is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The lock is gone: another worker may run the job.
    LockLost,
    /// The worker shuts down; the handler may clean up for this long.
    Shutdown(Duration),
    /// The application asked for it; the handler may clean up for this long.
    Requested(Duration),
}

/// Cancels an attempt, once, for a cause.
#[derive(Debug, Clone, Default)]
pub(super) struct Canceller {
    token: CancellationToken,
    cause: Arc<OnceLock<Cause>>,
}

impl Canceller {
    /// Cancels the attempt; the first cause counts.
    pub(super) fn cancel(&self, cause: Cause) {
        // A second cause changes nothing: the attempt is ending already.
        self.cause.set(cause).ok();
        self.token.cancel();
    }

    /// Returns whether the attempt is cancelled, and why.
    pub(super) fn cancelled(&self) -> Option<Cause> {
        self.token.is_cancelled().then(|| self.cause())
    }

    /// Waits this long.
    ///
    /// # Errors
    ///
    /// The cause, as soon as the attempt is cancelled.
    pub(super) async fn wait(&self, wait: Duration) -> Result<(), Cause> {
        match tokio::time::timeout(wait, self.token.cancelled()).await {
            Ok(()) => Err(self.cause()),
            Err(_) => Ok(()),
        }
    }

    /// Waits until the attempt is cancelled, and returns why.
    pub(super) async fn requested(&self) -> Cause {
        self.token.cancelled().await;
        self.cause()
    }

    /// What the handler sees of it.
    pub(super) fn for_handler(&self) -> Cancellation {
        Cancellation(self.token.child_token())
    }

    fn cause(&self) -> Cause {
        self.cause.get().copied().unwrap_or(Cause::LockLost)
    }
}
